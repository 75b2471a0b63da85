package model

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// A reparametrisation multiplies some weights by powers of two and divides others by the same, so that a model
// computes the same function by numbers of other magnitudes. Each field is an exponent.
type reparametrisation struct {
	mlp      int // of up, against down
	values   int // of v, against o
	keys     int // of k, or the key heads' gains, against q
	norms    int // of gains, against the projections of what they give
	residual int // of the embedding and what is added to it; the final norm's gain makes up for it in a tied head
}

// apply multiplies the tensors of a model.
func (r reparametrisation) apply(t *testing.T, cfg *Config, tensors map[string]stored) {
	n := cfg.names
	rows := func(name string, first, count, exponent int) {
		for _, suffix := range []string{".weight", ".bias"} {
			x, ok := tensors[name+suffix]
			if !ok && suffix == ".weight" {
				t.Fatalf("no tensor %s", name+suffix)
			}
			if !ok || exponent == 0 {
				continue
			}
			size := len(x.values) / x.shape[0]
			for i := first * size; i < (first+count)*size; i++ {
				x.values[i] = float32(math.Ldexp(float64(x.values[i]), exponent))
			}
		}
	}
	all := func(name string, exponent int) { rows(name, 0, tensors[name+".weight"].shape[0], exponent) }
	gains := func(name string, exponent int) {
		x := tensors[name+".weight"].values
		if cfg.NormPlusOne {
			for i := range x {
				x[i]++
			}
		}
		all(name, exponent)
		if cfg.NormPlusOne {
			for i := range x {
				x[i]--
			}
		}
	}
	q, kv, inner := cfg.NumAttentionHeads*cfg.HeadDim, cfg.NumKeyValueHeads*cfg.HeadDim, cfg.IntermediateSize
	for i := range cfg.NumHiddenLayers {
		at := fmt.Sprintf(n.Layer, i)
		queries := func(exponent int) { rows(at+n.QProj, 0, q, exponent) }
		keys := func(exponent int) { rows(at+n.KProj, 0, kv, exponent) }
		values := func(exponent int) { rows(at+n.VProj, 0, kv, exponent) }
		if fused := at + n.QKVProj; n.QKVProj != "" {
			queries = func(exponent int) { rows(fused, 0, q, exponent) }
			keys = func(exponent int) { rows(fused, q, kv, exponent) }
			values = func(exponent int) { rows(fused, q+kv, kv, exponent) }
		}
		// Only weights make up for a gain, not biases.
		biases := map[string][]float32{}
		keepBias := func(name string) {
			if x, ok := tensors[at+name+".bias"]; ok {
				biases[at+name+".bias"] = slices.Clone(x.values)
			}
		}
		for _, name := range []string{n.QProj, n.KProj, n.VProj, n.QKVProj, n.GateProj, n.UpProj, n.OProj, n.DownProj} {
			keepBias(name)
		}
		restore := func() {
			for name, x := range biases {
				copy(tensors[name].values, x)
			}
		}
		gains(at+n.InputNorm, r.norms)
		queries(-r.norms)
		keys(-r.norms)
		values(-r.norms)
		if !cfg.Parallel {
			gains(at+n.MLPNorm, r.norms)
		}
		if !cfg.PlainMLP {
			all(at+n.GateProj, -r.norms)
		}
		all(at+n.UpProj, -r.norms)
		all(at+n.OProj, -r.values)
		all(at+n.DownProj, -r.mlp)
		restore()
		rows(at+n.UpProj, 0, inner, r.mlp)
		values(r.values)
		if cfg.QKNorm {
			all(at+n.KNorm, r.keys)
			all(at+n.QNorm, -r.keys)
		} else {
			keys(r.keys)
			queries(-r.keys)
		}
		all(at+n.OProj, r.residual)
		all(at+n.DownProj, r.residual)
	}
	all(n.Embed, r.residual)
	if cfg.TieWordEmbeddings {
		gains(n.FinalNorm, -r.residual)
	}
}

// reparametrised are a fixture with eps as small as r asks for, and the same model reparametrised.
func reparametrised(t *testing.T, fixture, epsKey string, r reparametrisation) (plain, other string) {
	c, err := checkpoint.Open(t.Context(), filepath.Join(fixtureDir, fixture))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, c.Close()) }()
	cfg, err := ReadConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if eps := float64(cfg.NormEps); r.residual != 0 { // the larger one is the fixture's
		before = map[string]any{epsKey: eps * math.Pow(4, float64(min(0, -r.residual)))}
		after = map[string]any{epsKey: eps * math.Pow(4, float64(min(0, r.residual)))}
	}
	return rewritten(t, fixture, before, func(map[string]stored) {}),
		rewritten(t, fixture, after, func(tensors map[string]stored) { r.apply(t, cfg, tensors) })
}

// sameBound is how far logits of a reparametrised model may be from the model's on the same path. Powers of two change
// no mantissa. What differs are the ones added to gemma2's gains, and on fp16 and cm, which have their own bounds, a
// matrix some of whose rows are 2^20 times larger than others: it leaves these eight binades of whole float16.
const sameBound = 1e-3

// TestReparametrisedModelsComputeTheSame has every path and cache type compute a model by numbers that are far
// beyond what float16 holds, and far below.
func TestReparametrisedModelsComputeTheSame(t *testing.T) {
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	check(t, err)
	available := m.Paths()
	check(t, m.Close())
	large := reparametrisation{mlp: 20, values: 16, keys: 14, norms: 8, residual: 18}
	small := reparametrisation{mlp: -20, values: -16, keys: -14, norms: -8, residual: -8}
	for _, c := range []struct {
		fixture, eps, name string
		r                  reparametrisation
		paths              []kernels.Path // "" is the default
		types              []dtype.DType  // of the cache on the default path; F16 on others
	}{
		{"smollm2", "rms_norm_eps", "large", large, append([]kernels.Path{""}, available...), kernels.CacheTypes},
		{"smollm2", "rms_norm_eps", "small", small, []kernels.Path{"", kernels.FP16, kernels.CM}, []dtype.DType{dtype.F16, dtype.Q8_0}},
		{"qwen2", "rms_norm_eps", "large", large, []kernels.Path{""}, []dtype.DType{dtype.F16}},
		{"qwen3", "rms_norm_eps", "large", large, []kernels.Path{""}, []dtype.DType{dtype.F16}},
		{"gemma2", "", "large", reparametrisation{mlp: 20, values: 16, keys: 14, norms: 8}, []kernels.Path{""}, []dtype.DType{dtype.F16}},
		{"mpt", "", "large", reparametrisation{values: 16, keys: 14, norms: 8}, []kernels.Path{""}, []dtype.DType{dtype.F16}},
		{"falcon", "layer_norm_epsilon", "small", reparametrisation{values: -16, keys: -14, norms: -8, residual: -8}, []kernels.Path{""}, []dtype.DType{dtype.F16}},
	} {
		if c.fixture != "smollm2" {
			long(t)
		}
		plain, other := reparametrised(t, c.fixture, c.eps, c.r)
		for _, path := range c.paths {
			if path != "" && (path == m.LayoutPath() || !slices.Contains(available, path)) {
				continue // the default again, or not of this device
			}
			types := c.types
			if path != "" {
				types = []dtype.DType{dtype.F16}
			}
			for _, kv := range types {
				t.Run(fmt.Sprintf("%s %s/%s/%s", c.fixture, c.name, cmp.Or(path, "default"), kv), func(t *testing.T) {
					bound := sameBound
					if kernels.Matmul.Of(path) != nil && kernels.Matmul.Of(path).Rounds == kernels.Halves {
						bound = pathBounds[path]
					}
					worst := compare(t, "logits", shortRun(t, other, path, kv), shortRun(t, plain, path, kv), bound)
					t.Logf("max abs error %.3g", worst)
				})
			}
		}
	}
}

// shortRun is the logits after a prompt of 40 tokens, and after one token more.
func shortRun(t *testing.T, dir string, path kernels.Path, kv dtype.DType) []float32 {
	x := load(t, dir, Options{Context: 64, KVType: kv}, pipeline.Options{Path: path})
	tokens := make([]int, 41)
	for i := range tokens {
		tokens[i] = (37*i+11)%500 + 10
	}
	var all []float32
	for _, chunk := range [][]int{tokens[:40], tokens[40:]} {
		out, err := x.forward(context.Background(), chunk, len(all)/max(1, x.cfg.VocabSize)*40, lastLogits)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, out.Logits...)
	}
	return all
}

// TestOrdinaryCachesAreLeftAlone: no fixture's keys or values come near the limits, whatever the device rounds.
func TestOrdinaryCachesAreLeftAlone(t *testing.T) {
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, m.Close()) }()
	for _, name := range fixtures {
		c, err := checkpoint.Open(t.Context(), filepath.Join(fixtureDir, name))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := ReadConfig(c)
		check(t, err)
		w, err := (&loading{file: c, cfg: cfg, opts: Options{Context: 16}}).bind(m, cfg.allLayers())
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range w.Layers {
			check(t, l.fit.decide(cfg, true))
			if f := l.fit; f.keys != 0 || f.values != 0 || f.float {
				t.Errorf("%s: layer %d: keys / 2^%d, values / 2^%d, float32 %t", name, i, f.keys, f.values, f.float)
			}
		}
		check(t, c.Close())
	}
}

// TestCachesThatNoScaleFitsAreFloat: where weights cannot be scaled, layers have a float32 cache, which the plan
// counts, and a warning says so.
func TestCachesThatNoScaleFitsAreFloat(t *testing.T) {
	for _, c := range []struct {
		name, fixture string
		config        map[string]any
		r             reparametrisation
		edit          func(tensors map[string]stored)
	}{
		{"halves that would lose bits", "smollm2", nil, reparametrisation{norms: 16, values: 16}, func(tensors map[string]stored) {
			for name, x := range tensors {
				if strings.Contains(name, "v_proj") {
					x.dtype = dtype.F16
					tensors[name] = x
				}
			}
		}},
		{"a clip beyond float16", "mpt", map[string]any{"attn_config": map[string]any{"alibi": true, "alibi_bias_max": 8, "clip_qkv": 1e6}}, reparametrisation{values: 16}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain := rewritten(t, c.fixture, c.config, func(map[string]stored) {})
			at, err := checkpoint.Open(t.Context(), plain)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := ReadConfig(at)
			if err != nil {
				t.Fatal(err)
			}
			check(t, at.Close())
			other := rewritten(t, c.fixture, c.config, func(tensors map[string]stored) {
				c.r.apply(t, cfg, tensors)
				if c.edit != nil {
					c.edit(tensors)
				}
			})
			var log bytes.Buffer
			x := load(t, other, Options{Context: 64, Logger: zerolog.New(&log).Level(zerolog.WarnLevel)}, pipeline.Options{})
			for i, l := range x.head().cache.Layers {
				if l.DType != dtype.F32 {
					t.Errorf("layer %d has a cache of %v", i, l.DType)
				}
			}
			float := load(t, plain, Options{Context: 64, KVType: dtype.F32}, pipeline.Options{})
			if got, want := x.Memory().CacheBytes, float.Memory().CacheBytes; got != want {
				t.Errorf("the plan has %d bytes of cache, want %d", got, want)
			}
			if !strings.Contains(log.String(), "F32 cache") {
				t.Errorf("the log says %q", log.String())
			}
			compare(t, "logits", shortRun(t, other, "", dtype.F16), shortRun(t, plain, "", dtype.F32), sameBound)
		})
	}
}
