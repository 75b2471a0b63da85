package pumice

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/chat"
	"pumice/internal/gputest"
)

const textFixture = "testdata/fixtures/qwen3-embedding" // the one with a tokenizer

// testModel opens a model.
func testModel(t *testing.T, path string) *Model {
	t.Helper()
	m, err := OpenModel(t.Context(), filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// UnpackedGGUF returns the path of a GGUF file of testdata/gguf, also to the tests of package pumice_test.
func UnpackedGGUF(t *testing.T, name string) string {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", "gguf", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// withTokenizer makes a directory with the weights of a fixture and a tokenizer.
func withTokenizer(t *testing.T, weights, tokenizer string) string {
	t.Helper()
	dir := t.TempDir()
	for from, names := range map[string][]string{
		weights: {"config.json", "model.safetensors"}, tokenizer: {"tokenizer.json", "tokenizer_config.json"},
	} {
		for _, name := range names {
			content, err := os.ReadFile(filepath.Join(filepath.FromSlash(from), name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// TestModelNeedsNoDevice reads everything of a model but its weights.
func TestModelNeedsNoDevice(t *testing.T) {
	m := testModel(t, textFixture)
	tensors := m.Tensors()
	var elements int64
	for _, x := range tensors {
		n := int64(1)
		for _, d := range x.Shape {
			n *= int64(d)
		}
		elements += n
	}
	s := m.Source()
	if s.Path != filepath.FromSlash(textFixture) || s.Format != "safetensors" || s.Parameters != elements || s.Bytes != 2*elements {
		t.Errorf("source %+v, want %d elements of two bytes", s, elements)
	}
	if i := slices.IndexFunc(tensors, func(x Tensor) bool { return x.Name == "embed_tokens.weight" }); i < 0 || !slices.Equal(tensors[i].Shape, []int{512, 32}) {
		t.Errorf("tensors %+v", tensors)
	}
	if c := m.Config(); c.Family != "qwen3" || c.HiddenSize != 32 || c.MaxPositionEmbeddings != 32768 {
		t.Errorf("configuration %+v", c)
	}
	metadata, err := m.Metadata()
	if err != nil || !slices.Contains(metadata, Field{"hidden_size", "32"}) || !slices.Contains(metadata, Field{"hidden_act", `"silu"`}) {
		t.Errorf("metadata %+v, %v", metadata, err)
	}
	if g := m.GenerationConfig(); g != nil {
		t.Errorf("generation_config.json, which is not there: %+v", g)
	}
	tok, err := m.Tokenizer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := tok.EOS(); !ok || id != 256 {
		t.Errorf("EOS %d, %t", id, ok)
	}
	if again, err := m.Tokenizer(t.Context()); err != nil || again != tok {
		t.Errorf("the tokenizer is built once: %v", err)
	}
	if ends, err := m.EndTokens(t.Context()); err != nil || !slices.Equal(ends, []int{256}) {
		t.Errorf("end tokens %v, %v", ends, err)
	}
	if f, err := m.ChatFormat(t.Context(), "chatml"); err != nil || f.Name() != "chatml" {
		t.Errorf("the format that is asked for: %v", err)
	}
	var option *OptionError
	if _, err := m.ChatFormat(t.Context(), "nonsense"); !errors.As(err, &option) {
		t.Errorf("a format that does not exist: %v", err)
	}
}

func TestModelWithoutATokenizer(t *testing.T) {
	m := testModel(t, llamaFixture)
	var none *NoTokenizerError
	if _, err := m.Tokenizer(t.Context()); !errors.As(err, &none) || none.Path != m.Source().Path {
		t.Errorf("tokenizer: %v", err)
	}
	if _, err := m.ChatFormat(t.Context(), "chatml"); !errors.As(err, &none) {
		t.Errorf("chat format: %v", err)
	}
	if ends, err := m.EndTokens(t.Context()); err != nil || !slices.Equal(ends, []int{2}) {
		t.Errorf("end tokens %v, %v", ends, err)
	}
}

// TestModelIsReadAgainAfterACancelledCall: the error of a context is that of one call.
func TestModelIsReadAgainAfterACancelledCall(t *testing.T) {
	m := testModel(t, textFixture)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Tokenizer(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := m.Tokenizer(t.Context()); err != nil {
		t.Errorf("and again: %v", err)
	}
}

func TestClosedModel(t *testing.T) {
	for _, path := range []string{filepath.FromSlash(textFixture), UnpackedGGUF(t, "qwen3.gguf")} {
		m, err := OpenModel(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		tensors := m.Tensors()
		if metadata, err := m.Metadata(); err != nil || len(metadata) < 10 {
			t.Errorf("%s: metadata %v, %v", path, metadata, err)
		}
		for range 2 {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(tensors, m.Tensors()); diff != "" {
			t.Errorf("%s: tensors (-open +closed):\n%s", path, diff)
		}
		for name, call := range map[string]func() error{
			"Tokenizer":   func() error { _, err := m.Tokenizer(t.Context()); return err },
			"ChatFormat":  func() error { _, err := m.ChatFormat(t.Context(), ""); return err },
			"EndTokens":   func() error { _, err := m.EndTokens(t.Context()); return err },
			"Metadata":    func() error { _, err := m.Metadata(); return err },
			"CheckMemory": func() error { _, err := m.CheckMemory(t.Context(), Options{}); return err },
			"Load":        func() error { _, err := m.Load(t.Context(), Options{}); return err },
		} {
			if err := call(); !errors.Is(err, ErrModelClosed) {
				t.Errorf("%s: %s: %v", path, name, err)
			}
		}
	}
}

// TestModelIsLoadedSeveralTimes loads a model twice and plans it, all at once, and closes it under its engines.
func TestModelIsLoadedSeveralTimes(t *testing.T) {
	gputest.Open(t) // or skip
	m := testModel(t, textFixture)
	d := testDevice(t)
	o := shared(d)
	o.ChatTemplate = "xverse"
	engines := make([]*Engine, 2)
	var check MemoryCheck
	load := func(i int) func() error {
		return func() (err error) {
			engines[i], err = m.Load(t.Context(), o)
			return err
		}
	}
	err := errors.Join(together(load(0), load(1), func() (err error) {
		check, err = m.CheckMemory(t.Context(), o)
		return err
	})...)
	for _, e := range engines {
		if e != nil {
			defer e.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if want := engines[0].Memory(); !check.Fits || check.WeightsBytes != want.WeightsBytes || check.ArenaBytes != want.ArenaBytes {
		t.Errorf("checked %+v, loaded %+v", check, want)
	}
	want, err := greedy(t.Context(), engines[0], []int{51}, 8)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := greedy(t.Context(), engines[1], []int{51}, 8); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v and %v: %v", want, got, err)
	}
	for _, e := range engines {
		if f, err := e.ChatFormat(); err != nil || f.Name() != "xverse" {
			t.Errorf("the format of Options.ChatTemplate: %v", err)
		}
		p, err := e.EncodeChat(t.Context(), []chat.Message{{Role: "user", Content: "hi"}}, chat.Options{})
		if err != nil || len(p.IDs) == 0 {
			t.Errorf("a conversation: %v, %v", p.IDs, err)
		}
	}
	if engines[0].Tokenizer() != engines[1].Tokenizer() {
		t.Error("the model's tokenizer was built twice")
	}
}

// TestTextThatDoesNotFitStopsTheLoading: a tokenizer of another model and a chat format that does not exist leave nothing
// behind on the device.
func TestTextThatDoesNotFitStopsTheLoading(t *testing.T) {
	d := testDevice(t)
	var mismatch *MismatchError
	o := shared(d)
	if _, err := Open(t.Context(), withTokenizer(t, llamaFixture, "tokenizer/testdata/xverse-a"), o); !errors.As(err, &mismatch) {
		t.Errorf("a tokenizer of 6000 tokens: %v", err)
	}
	var option *OptionError
	o.ChatTemplate = "nonsense"
	if _, err := Open(t.Context(), filepath.FromSlash(textFixture), o); !errors.As(err, &option) || option.Field != "ChatTemplate" {
		t.Errorf("a format that does not exist: %v", err)
	}
	if d.users != 0 {
		t.Errorf("%d users of the device are left", d.users)
	}
}
