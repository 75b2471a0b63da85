//go:build window && cgo

package monitor

import (
	"context"
	"errors"
	"image"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pumice"
	"pumice/internal/gputest"
	"pumice/internal/screentest"
)

// complaints fails the test with what a device logs: messages of the validation layers are errors.
type complaints struct{ t *testing.T }

func (c complaints) Write(p []byte) (int, error) {
	c.t.Errorf("%s", p)
	return len(p), nil
}

// TestWindowShowsAttentionOfAnEngine presses keys for weights of attention in a window beside an engine, and compares the cells that
// the screen shows with the weights that the engine tells of the same token.
func TestWindowShowsAttentionOfAnEngine(t *testing.T) {
	gputest.RecordDriver(t)
	screen := screentest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o := pumice.Options{Device: os.Getenv("PUMICE_DEVICE"), Context: 64, Surfaces: true, Validation: true, Logger: zerolog.New(complaints{t}).Level(zerolog.ErrorLevel)}
	d, err := pumice.OpenDevice(o)
	if errors.Is(err, pumice.ErrNoValidation) {
		o.Validation = false
		d, err = pumice.OpenDevice(o)
	}
	if errors.Is(err, pumice.ErrNoDevice) && os.Getenv("PUMICE_TEST_REQUIRE_DEVICE") != "1" {
		t.Skip("SKIPPED: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.On, o.Device = []*pumice.Device{d}, ""
	e, err := pumice.Open(ctx, "../../testdata/fixtures/llama", o)
	if err != nil {
		t.Fatal(err)
	}
	session := e.NewSession()
	session.Alone = true
	const tokens, last = 12, 15
	answer := func() bool { // false
		for _, err := range session.Generate(ctx, []int{1, 5, 7, 3, 9}, pumice.GenerateOptions{MaxTokens: tokens, IgnoreEOS: true}) {
			if err != nil {
				t.Error(err)
			}
		}
		return false
	}
	var want pumice.Attention
	told := make(chan struct{})
	go func() {
		defer close(told)
		for a, err := range e.WatchAttention(ctx, pumice.AttentionOptions{Layer: 1, Head: 0}) {
			if want = a; err != nil || a.Position == last {
				return
			}
		}
	}()
	for over := false; !over; {
		answer()
		select {
		case <-told:
			over = true
		default:
		}
	}
	var s State
	followed, shown, opened := make(chan struct{}), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(followed)
		s.Follow(ctx, e, "llama", false)
	}()
	go func() { shown <- Show(ctx, d.Vulkan(), &s, func() { close(opened) }, t.Logf) }()
	select {
	case <-opened:
	case err := <-shown:
		t.Fatal(err)
	}
	screen.Move(900, 700)
	until := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			if ctx.Err() != nil {
				t.Fatalf("%s: it did not come to that", what)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	until("the first frame", func() bool { return s.View(time.Now()).About.Layers > 0 })
	screen.Press('a', screentest.KeyUp, screentest.KeyRight)
	asked := Choice{On: true, Layer: 1, Head: 0}
	until("the keys", func() bool { return s.View(time.Now()).Attention.Choice == asked })
	until("the weights", func() bool { return s.View(time.Now()).Attention.Known || answer() })
	until("those of the last token", func() bool { return s.View(time.Now()).Attention.Position == last })
	until("the cells", func() bool {
		p := picture{screen.Shot(image.Rect(0, 0, 1200, 800))}
		for y := range 790 {
		search:
			for x := range 900 {
				for i, w := range want.Weights {
					if !p.shaded(x+12*i, y, grid, float64(w)) {
						continue search
					}
				}
				return true
			}
		}
		return false
	})
	screen.Press(screentest.KeyEscape)
	if err := <-shown; err != nil {
		t.Error(err)
	}
	if err := errors.Join(session.Close(), e.Close()); err != nil {
		t.Error(err)
	}
	<-followed
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
