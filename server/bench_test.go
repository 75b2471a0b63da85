package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pumice"
)

// BenchmarkStream compares the time from the first token of a streamed answer to its last, at a client over TCP, with that of the
// same answer of the engine without HTTP, turn and turn about. It needs PUMICE_TEST_SMOLLM2, as tests of the default model do.
func BenchmarkStream(b *testing.B) {
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		b.Skip("PUMICE_TEST_SMOLLM2 is not set: give it the path of SmolLM2-135M-Instruct.Q4_1.gguf, which tools/model.sh prints")
	}
	engine, err := pumice.Open(b.Context(), path, pumice.Options{Context: 512, Device: os.Getenv("PUMICE_DEVICE")})
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Options{Models: []Model{{Name: "smollm2", Open: func(context.Context) (*pumice.Engine, error) { return engine, nil }}}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	h := httptest.NewServer(s)
	defer h.Close()
	const tokens = 129
	prompt := "Once upon a time"
	ids, err := engine.Encode(prompt)
	if err != nil {
		b.Fatal(err)
	}
	session := engine.NewSession()
	alone := func() time.Duration {
		var first time.Time
		for _, err := range session.Generate(b.Context(), ids, pumice.GenerateOptions{MaxTokens: tokens, IgnoreEOS: true}) {
			if err != nil {
				b.Fatal(err)
			}
			if first.IsZero() {
				first = time.Now()
			}
		}
		return time.Since(first)
	}
	body := fmt.Sprintf(`{"prompt":%q,"max_tokens":%d,"temperature":0,"ignore_eos":true,"stream":true}`, prompt, tokens)
	streamed := func() time.Duration {
		r, err := http.Post(h.URL+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		defer r.Body.Close()
		var first, last time.Time
		events := bufio.NewReader(r.Body)
		for {
			line, err := events.ReadString('\n')
			if err == io.EOF {
				return last.Sub(first)
			}
			if err != nil {
				b.Fatal(err)
			}
			if strings.HasPrefix(line, "data: {") {
				if last = time.Now(); first.IsZero() {
					first = last
				}
			}
		}
	}
	alone()
	streamed()
	var engines, clients, ratios []float64
	for b.Loop() {
		e, c := alone(), streamed()
		engines, clients = append(engines, e.Seconds()/(tokens-1)), append(clients, c.Seconds()/(tokens-1))
		ratios = append(ratios, c.Seconds()/e.Seconds())
	}
	median := func(list []float64) float64 {
		slices.Sort(list)
		return list[len(list)/2]
	}
	b.ReportMetric(1e3*median(engines), "engine-ms/token")
	b.ReportMetric(1e3*median(clients), "http-ms/token")
	b.ReportMetric(median(ratios), "http/engine")
}
