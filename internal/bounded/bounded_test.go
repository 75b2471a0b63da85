package bounded

import (
	"context"
	"testing"
	"time"
)

// recorder is a testing.TB that records whether it failed.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Failed() bool          { return r.failed }

var sink []byte

func TestRunHoldsTheLimits(t *testing.T) {
	spin := func(d time.Duration, done <-chan struct{}) {
		for start := threadTime(); threadTime()-start < d; {
			select {
			case <-done:
				return
			default:
			}
		}
	}
	for _, c := range []struct {
		name string
		fail bool
		f    func(context.Context)
	}{
		{"quick", false, func(context.Context) {}},
		{"slow but cancellable", false, func(ctx context.Context) { spin(80*time.Millisecond, ctx.Done()) }},
		{"too slow", true, func(ctx context.Context) { spin(atLeast+50*time.Millisecond, nil) }},
		{"garbage", false, func(context.Context) {
			for range 200 {
				sink = make([]byte, 1<<20)
			}
		}},
		{"too large", true, func(context.Context) {
			sink = make([]byte, baseBytes+(8<<20))
			time.Sleep(20 * time.Millisecond)
			sink[0] = 1
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{TB: t}
			Run(r, 0, c.f)
			if r.failed != c.fail {
				t.Errorf("failed: %v, want %v", r.failed, c.fail)
			}
			sink = nil
		})
	}
}
