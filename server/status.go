package server

import (
	"encoding/binary"
	"math"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pumice"
)

// floatBytes are numbers in four bytes each, little-endian. JSON has them in base64.
func floatBytes(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// props tells what llama-server's clients look for, and what of the device's kernels was checked.
func (s *Server) props(w http.ResponseWriter, r *http.Request) error {
	e, err := s.use(r, r.URL.Query().Get("model"))
	if err != nil {
		return err
	}
	defer e.leave()
	x := map[string]any{
		"default_generation_settings": map[string]any{"n_ctx": e.Context(), "params": samplingShown(e)},
		"total_slots":                 slotsShown, "model_alias": e.model.Name, "model_path": e.model.Name,
		"modalities": map[string]bool{"vision": false, "audio": false},
	}
	if tok := e.Tokenizer(); tok != nil {
		c := tok.Config()
		x["chat_template"], x["bos_token"], x["eos_token"] = c.ChatTemplate, c.BOSToken, c.EOSToken
	}
	var devices []pumice.DeviceInfo
	for _, d := range e.Devices() {
		devices = append(devices, d.Info())
	}
	k := e.Kernels()
	x["devices"], x["memory"] = devices, e.Memory()
	x["kernels"], x["kernels_used"], x["kernels_verified"] = k, len(k.Used), len(k.Used)-len(k.Unverified)
	reply(w, http.StatusOK, x)
	return nil
}

// samplingShown is how tokens are chosen where a request says nothing, by the names of requests.
func samplingShown(e *use) map[string]any {
	p := e.SamplingDefaults()
	if e.model.Sampling != nil {
		e.model.Sampling(&p)
	}
	return map[string]any{
		"temperature": p.Temperature, "top_k": p.TopK, "top_p": p.TopP, "min_p": p.MinP, "repeat_penalty": p.RepeatPenalty,
		"repeat_last_n": p.RepeatLastN, "frequency_penalty": p.FrequencyPenalty, "presence_penalty": p.PresencePenalty,
	}
}

// slotsShown is how many sequences a step has. llama-server divides its context among as many slots; here there is no such
// limit, and a request waits for nobody.
const slotsShown = 16

// slots shows the sessions at work as llama-server shows its slots.
func (s *Server) slots(w http.ResponseWriter, r *http.Request) error {
	e, err := s.use(r, r.URL.Query().Get("model"))
	if err != nil {
		return err
	}
	defer e.leave()
	type slot struct {
		ID         int  `json:"id"`
		Context    int  `json:"n_ctx"`
		Processing bool `json:"is_processing"`
	}
	busy, list := e.Metrics().Sessions, []slot{}
	for i := range max(busy, slotsShown) {
		list = append(list, slot{i, e.Context(), i < busy})
	}
	reply(w, http.StatusOK, list)
	return nil
}

// metrics are the engines' counts in Prometheus's form, by the names that llama-server gives them where it has them.
type metrics struct {
	http.Handler
	server *Server
}

func newMetrics(s *Server) *metrics {
	m := &metrics{server: s}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	m.Handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m
}

// A measure is one of the metrics.
type measure struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	value       func(m pumice.Metrics) float64
}

// newMeasure labels a measure as vLLM does. Docker Model Runner adds a label model of its own, and two of a name are invalid.
func newMeasure(name, help string, kind prometheus.ValueType, value func(m pumice.Metrics) float64) measure {
	return measure{prometheus.NewDesc(name, help, []string{"model_name"}, nil), kind, value}
}

var measures = []measure{
	newMeasure("llamacpp:prompt_tokens_total", "Tokens of prompts that were evaluated.", prometheus.CounterValue,
		func(m pumice.Metrics) float64 { return float64(m.PromptTokens) }),
	newMeasure("llamacpp:tokens_predicted_total", "Tokens that were generated.", prometheus.CounterValue,
		func(m pumice.Metrics) float64 { return float64(m.Tokens) }),
	newMeasure("llamacpp:n_decode_total", "Steps.", prometheus.CounterValue,
		func(m pumice.Metrics) float64 { return float64(m.Steps) }),
	newMeasure("llamacpp:requests_processing", "Sessions at work.", prometheus.GaugeValue,
		func(m pumice.Metrics) float64 { return float64(m.Sessions) }),
	newMeasure("llamacpp:requests_deferred", "Sessions that wait for a step.", prometheus.GaugeValue,
		func(m pumice.Metrics) float64 { return float64(m.Queued) }),
	newMeasure("pumice_sequences_total", "Sequences of all steps.", prometheus.CounterValue,
		func(m pumice.Metrics) float64 { return float64(m.Sequences) }),
	newMeasure("pumice_cache_lookup_tokens_total", "Tokens of texts that were looked up in the KV cache.", prometheus.CounterValue,
		func(m pumice.Metrics) float64 { return float64(m.LookupTokens) }),
	newMeasure("pumice_cache_hit_tokens_total", "Of these, tokens that were there.", prometheus.CounterValue,
		func(m pumice.Metrics) float64 { return float64(m.HitTokens) }),
	newMeasure("pumice_retractions_total", "Times that a session lost its pages to an older one.", prometheus.CounterValue,
		func(m pumice.Metrics) float64 { return float64(m.Retractions) }),
	newMeasure("pumice_cache_pages_in_use", "Pages of the KV cache of sessions at work.", prometheus.GaugeValue,
		func(m pumice.Metrics) float64 { return float64(m.Pages.InUse) }),
	newMeasure("pumice_cache_pages_cached", "Pages of the KV cache that are kept for texts that begin alike.", prometheus.GaugeValue,
		func(m pumice.Metrics) float64 { return float64(m.Pages.Cached) }),
	newMeasure("pumice_cache_pages_free", "Pages of the KV cache that hold nothing.", prometheus.GaugeValue,
		func(m pumice.Metrics) float64 { return float64(m.Pages.Free) }),
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, x := range measures {
		to <- x.description
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, model := range m.server.models {
		e, _ := model.loaded()
		if e == nil {
			continue
		}
		all := e.Metrics()
		for _, x := range measures {
			to <- prometheus.MustNewConstMetric(x.description, x.kind, x.value(all), model.Name)
		}
	}
}
