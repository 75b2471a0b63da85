package pumice_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"pumice"
	"pumice/internal/gputest"
)

// needDevice skips the test if there is no Vulkan device, or fails it if PUMICE_TEST_REQUIRE_DEVICE is set.
func needDevice(t *testing.T) {
	t.Helper()
	gputest.RecordDriver(t)
	if _, err := pumice.Devices(pumice.Options{}); errors.Is(err, pumice.ErrNoDevice) {
		if os.Getenv("PUMICE_TEST_REQUIRE_DEVICE") != "" {
			t.Fatalf("no Vulkan device, and PUMICE_TEST_REQUIRE_DEVICE is set: %v", err)
		}
		t.Skipf("no Vulkan device: %v", err)
	}
}

// openEngine opens a model, on a device of its own unless Options.On has others, with validation if the layer is installed:
// a message of the layer fails the test. The engine is closed when the test ends.
func openEngine(t *testing.T, path string, o pumice.Options) *pumice.Engine {
	t.Helper()
	needDevice(t)
	o.Validation = true
	if len(o.On) == 0 {
		o.Device = os.Getenv("PUMICE_DEVICE")
	}
	o.Logger = zerolog.New(&validationLog{t})
	engine, err := pumice.Open(t.Context(), path, o)
	if errors.Is(err, pumice.ErrNoValidation) {
		t.Log("validation layer not installed: running without")
		o.Validation = false
		engine, err = pumice.Open(t.Context(), path, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// validationLog fails the test on log lines that come from the validation layer.
type validationLog struct{ t *testing.T }

func (w *validationLog) Write(line []byte) (int, error) {
	var entry struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(line, &entry) == nil && (strings.HasPrefix(entry.ID, "VUID") || strings.HasPrefix(entry.ID, "SYNC-") || strings.HasPrefix(entry.ID, "UNASSIGNED")) {
		w.t.Errorf("validation: %s", line)
	}
	return len(line), nil
}

// TestFixtureOnTheDevice runs a session on the tiny llama: reusing cached tokens must give the same answer as
// evaluating all of them.
func TestFixtureOnTheDevice(t *testing.T) {
	engine := openEngine(t, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if tok := engine.Tokenizer(); tok != nil {
		t.Error("the fixture has no tokenizer")
	}
	if diff := cmp.Diff([]int{2}, engine.EndTokens()); diff != "" {
		t.Errorf("end tokens (-want +got):\n%s", diff)
	}
	options := pumice.GenerateOptions{MaxTokens: 12, IgnoreEOS: true}
	generate := func(s *pumice.Session, prompt []int) pumice.Result {
		for _, err := range s.Generate(t.Context(), prompt, options) {
			if err != nil {
				t.Fatal(err)
			}
		}
		return s.Result()
	}
	session := engine.NewSession()
	first := generate(session, []int{314, 438, 421, 104, 175, 405, 321})
	// testdata/fixtures/llama/golden.json, len7
	if diff := cmp.Diff([]int{627, 87, 303, 154, 532, 567, 240, 8, 444, 597, 171, 309}, first.Tokens); diff != "" {
		t.Errorf("greedy tokens (-want +got):\n%s", diff)
	}
	next := append(append(first.PromptTokens, first.Tokens...), 17, 18, 19)
	reused := generate(session, next)
	if want := len(next) - 4; reused.Stats.CachedN != want {
		t.Errorf("%d tokens reused, want %d", reused.Stats.CachedN, want)
	}
	alone := engine.NewSession()
	alone.Alone = true
	defer alone.Close()
	whole := generate(alone, next)
	if diff := cmp.Diff(whole.Tokens, reused.Tokens); diff != "" {
		t.Errorf("reusing the cache changes the answer (-whole +reused):\n%s", diff)
	}
	if whole.Stats.CachedN != 0 {
		t.Errorf("a session that is alone reuses %d tokens of another", whole.Stats.CachedN)
	}
	if m := engine.Memory(); m.Context != engine.Context() || m.TotalBytes < m.WeightsBytes+m.CacheBytes {
		t.Errorf("memory %+v", m)
	}
}

func TestClosedEngine(t *testing.T) {
	engine := openEngine(t, "testdata/fixtures/llama", pumice.Options{})
	session := engine.NewSession()
	for range 2 {
		if err := engine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range session.Generate(t.Context(), []int{1}, pumice.GenerateOptions{}) {
		if !errors.Is(err, pumice.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
}

func TestOpenIsCancelled(t *testing.T) {
	needDevice(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{})
	if !errors.Is(err, context.Canceled) || engine != nil {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestExamplesRun runs the examples that print the same everywhere. They have no Output comment, since such examples
// can't be skipped.
func TestExamplesRun(t *testing.T) {
	needDevice(t)
	for _, c := range []struct {
		name string
		run  func()
		want string
	}{
		{"Example", Example, "165 336 485 50 91 63 227 204 length\n"}, // testdata/fixtures/llama/golden.json, len1
		{"ExampleOpenDevice", ExampleOpenDevice, "llama true\nllama true\n"},
		{"ExampleOpenModel", ExampleOpenModel, "llama safetensors true 256\n"},
		{"ExampleSession_Logits", ExampleSession_Logits, "640\n640\n640\n"},
		{"ExampleEngine_NewSession", ExampleEngine_NewSession, "[[165 336 485 50] [336 485 50 91]]\n"},
		{"ExampleSession_Start", ExampleSession_Start, "165 336 485 length\n"},
		{"ExampleSession_Logits_decoding", ExampleSession_Logits_decoding, "[51 165 336 485 50 91] 7\n"},
		{"ExampleSession_LogProbs", ExampleSession_LogProbs, "165 165 336 336 485 485 50 50 true\n"}, // the same
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := stdout(t, c.run); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// stdout returns what f prints.
func stdout(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	go func() {
		var b bytes.Buffer
		io.Copy(&b, r)
		done <- b.String()
	}()
	saved := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = saved }()
	f()
	w.Close()
	return <-done
}
