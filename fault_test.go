package pumice

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pumice/internal/gputest"
	"pumice/internal/vkfault"
)

// TestDevicesThatHang runs each case in its own process, on a device that hangs in the middle of an answer.
func TestDevicesThatHang(t *testing.T) {
	const hangs = "vkWaitForFences:1+:never"
	var env []string
	child := os.Getenv(vkfault.Variable) != ""
	if !child {
		env = vkfault.Env(t)
	}
	for _, c := range []struct {
		name, faults string
		o            Options
		cancel       bool // cancel the context while the second token is evaluated
		want, closed error
	}{
		{"the caller gives up", hangs, Options{}, true, context.Canceled, ErrHung},
		{"the caller waits", hangs, Options{HangTimeout: 2 * time.Second}, false, ErrHung, ErrHung},
		{"lost", "vkWaitForFences:1:-4", Options{}, false, ErrDeviceLost, nil},
		{"a wait fails", "vkWaitForFences:1:-1", Options{}, false, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if child {
				answer(t, c.o, c.cancel, c.want, c.closed)
				return
			}
			t.Parallel()
			again := gputest.Again("-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$")
			again.Env = append(slices.Clip(env), vkfault.Variable+"="+c.faults, vkfault.After+"="+filepath.Join(t.TempDir(), "answered"))
			if out, err := again.CombinedOutput(); err != nil || strings.Contains(string(out), vkfault.Mark) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// answer continues a prompt while the device works, and again once it hangs: then every call must end soon and with the
// error want.
func answer(t *testing.T, o Options, stop bool, want, closed error) {
	o.Device = os.Getenv("PUMICE_DEVICE")
	e, err := Open(context.Background(), filepath.Join("testdata", "fixtures", "llama"), o)
	if err != nil {
		t.Fatal(err)
	}
	s := e.NewSession()
	logits := func(ctx context.Context) (err error) {
		for _, err = range s.Logits(ctx, []int{1, 2, 3}, false) {
		}
		return err
	}
	generate := func(ctx context.Context) (err error) {
		for _, err = range s.Generate(ctx, []int{1, 2, 3}, GenerateOptions{MaxTokens: 2, IgnoreEOS: true}) {
		}
		return err
	}
	if err := errors.Join(logits(context.Background()), generate(context.Background())); err != nil {
		t.Fatal(err)
	}
	first := s.Result().Tokens
	if err := os.WriteFile(os.Getenv(vkfault.After), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	within := func(limit time.Duration, what string, want error, f func(ctx context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		start := time.Now()
		if stop {
			time.AfterFunc(20*time.Millisecond, cancel)
		}
		if err := f(ctx); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if took := time.Since(start); took > limit {
			t.Errorf("%s took %v", what, took)
		}
	}
	soon := 5 * time.Second // far from the time that a hung device is given
	if want == nil {
		soon = time.Minute // what works takes the driver's time
	}
	within(soon+o.HangTimeout, "Generate", want, generate)
	if want == nil && !slices.Equal(s.Result().Tokens, first) {
		t.Errorf("tokens %d, but %d when a wait fails", first, s.Result().Tokens)
	}
	within(soon, "Generate again", want, generate)
	within(soon, "Logits", want, logits)
	within(soon, "Close", closed, func(context.Context) error { return e.Close() })
}
