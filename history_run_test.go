package pumice

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pumice/internal/gputest"
	"pumice/internal/vkfault"
)

// followed has texts and how an engine has continued them, to be compared with how each goes on by itself.
type followed struct {
	mu   sync.Mutex
	list []continued
}

type continued struct {
	text, more []int
	given      int // tokens of the text that no engine has chosen
}

func (c continued) whole() []int { return slices.Concat(c.text, c.more) }

// follow generates up to n tokens and notes them.
func (a *followed) follow(ctx context.Context, s *Session, text []int, given, n int, stop func() bool) ([]int, error) {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.list = append(a.list, continued{slices.Clone(text), s.Result().Tokens, given})
	}()
	for _, err := range s.Generate(ctx, text, GenerateOptions{MaxTokens: n, IgnoreEOS: true}) {
		if err != nil {
			return nil, err
		}
		if stop() {
			break
		}
	}
	return s.Result().Tokens, nil
}

// check evaluates each text in one go, and compares greedy tokens with those of the answers, but where two logits are so
// close that rounding may decide.
func (a *followed) check(t *testing.T, s *Session) {
	slices.SortFunc(a.list, func(x, y continued) int { return slices.Compare(x.whole(), y.whole()) })
	for i, x := range a.list {
		whole, at := x.whole(), 0
		if i+1 < len(a.list) && slices.Equal(whole, a.list[i+1].whole()[:min(len(whole), len(a.list[i+1].whole()))]) {
			continue // which has these tokens too
		}
		for row, err := range s.Logits(t.Context(), whole, true) {
			if err != nil {
				t.Fatal(err)
			}
			if at++; at < x.given || at == len(whole) {
				continue
			}
			best := slices.Max(row)
			if got := row[whole[at]]; got < best-1e-3 {
				t.Errorf("token %d of %v is %g behind the best", at, whole, best-got)
			}
		}
	}
}

// TestRandomHistoriesOnTheDevice has sessions do at random what sessions do, on 24 pages of a device: every token is that of
// the text by itself, and nothing is lost. A window of 32 positions, shorter than a page, passes pages on.
func TestRandomHistoriesOnTheDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	for _, c := range []struct {
		fixture string
		host    int64
	}{{"llama", 0}, {"mistral", 1 << 20}} {
		t.Run(c.fixture, func(t *testing.T) {
			path := filepath.Join("testdata", "fixtures", c.fixture)
			o := Options{DType: "f32", KVType: "f32", Context: 448}
			whole, _ := metered(t, path, o)
			given := &followed{}
			o.KVMemory, o.KVHost = 25*whole.Memory().PageBytes, c.host
			e, _ := metered(t, path, o)
			var calls []func() error
			for i := range 8 {
				random := rand.New(rand.NewPCG(7, uint64(i)))
				calls = append(calls, func() error { return wander(t.Context(), e, given, random, 63) })
			}
			if err := errors.Join(together(calls...)...); err != nil {
				t.Error(err)
			}
			checkIdle(t, e)
			s := whole.NewSession()
			s.Alone = true
			defer s.Close()
			given.check(t, s)
			m := e.Metrics()
			t.Logf("%d steps of %.1f sequences, %d retractions, %d of %d tokens found, %d pages given up",
				m.Steps, float64(m.Sequences)/float64(m.Steps), m.Retractions, m.HitTokens, m.LookupTokens, m.Evicted)
			if m.Pages.Free+m.Pages.Cached != 24 || m.SharedSteps == 0 || m.Evicted == 0 || m.Retractions == 0 {
				t.Errorf("%+v", m)
			}
		})
	}
}

// wander does things with a session.
func wander(ctx context.Context, e *Engine, o *followed, random *rand.Rand, n int) error {
	s := e.NewSession()
	defer func() { s.Close() }()
	var text []int
	given := 0
	for i := range n {
		if len(text) == 0 || len(text) > 400 || random.IntN(6) == 0 { // begins like others' texts
			text = text[:0]
			parts, other := random.IntN(300), random.IntN(600)
			for j := range 1 + random.IntN(390) {
				id := j*j*7 + j
				if j >= parts {
					id += other
				}
				text = append(text, 3+id%590)
			}
			given = len(text)
		}
		never := func() bool { return false }
		var err error
		switch random.IntN(8) {
		case 0:
			s.Truncate(random.IntN(len(text) + 1))
		case 1: // is cancelled
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Duration(random.IntN(20))*time.Millisecond, cancel)
			if _, err = o.follow(ctx, s, text, given, 12, never); errors.Is(err, context.Canceled) {
				err = nil
			}
			cancel()
		case 2: // stops early
			_, err = o.follow(ctx, s, text, given, 12, func() bool { return random.IntN(4) == 0 })
		case 3: // goes on elsewhere
			var file strings.Builder
			if _, err = s.Save(ctx, &file); err == nil {
				err = s.Close()
				s = e.NewSession()
			}
			if err == nil {
				_, err = s.Restore(ctx, strings.NewReader(file.String()))
			}
			if errors.Is(err, errPagesTaken) {
				err = nil
			}
		default:
			var more []int
			more, err = o.follow(ctx, s, text, given, 1+random.IntN(15), never)
			text = append(text, more...)
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// TestFailedSubmissionsOfSharedSteps runs each case in its own process, in which one submission of the steps that three
// sessions share fails: all of them go on with the right tokens.
func TestFailedSubmissionsOfSharedSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	child := os.Getenv(vkfault.Variable) != ""
	var env []string
	if !child {
		env = vkfault.Env(t)
	}
	for _, n := range []int{1, 2, 3, 5, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if child {
				sharedAnswers(t)
				return
			}
			t.Parallel()
			again := gputest.Again("-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$")
			again.Env = append(slices.Clip(env), fmt.Sprintf("%s=vkQueueSubmit:%d:-2", vkfault.Variable, n),
				vkfault.After+"="+filepath.Join(t.TempDir(), "answered"))
			if out, err := again.CombinedOutput(); err != nil || strings.Contains(string(out), vkfault.Mark) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// sharedAnswers has three sessions generate at once, when all plans are recorded and one submission is about to fail.
func sharedAnswers(t *testing.T) {
	e, err := Open(context.Background(), filepath.Join("testdata", "fixtures", "llama"),
		Options{Device: os.Getenv("PUMICE_DEVICE"), DType: "f32", KVType: "f32"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	all := func() (list [3][]int, err error) {
		var calls []func() error
		for i := range list {
			calls = append(calls, func() error {
				s := e.NewSession()
				for _, err := range s.Generate(t.Context(), []int{20 + 100*i, 30, 40}, GenerateOptions{MaxTokens: 12, IgnoreEOS: true}) {
					if err != nil {
						return fmt.Errorf("session %d: %w", i, err)
					}
				}
				list[i] = s.Result().Tokens
				return nil
			})
		}
		err = errors.Join(together(calls...)...)
		return list, err
	}
	want, err := all()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv(vkfault.After), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := all()
	if err != nil {
		// Where the failed step had one session, the error is that session's.
		if strings.Count(err.Error(), "session") > 1 {
			t.Error(err)
		}
	}
	for i := range got {
		if got[i] != nil && !slices.Equal(got[i], want[i]) {
			t.Errorf("session %d: %v, want %v", i, got[i], want[i])
		}
	}
	if m := e.Metrics(); m.SharedSteps == 0 {
		t.Errorf("%+v", m)
	}
	checkIdle(t, e)
}

// TestSessionsOnSeveralDevices has the layers on two devices, here one driver's: sessions share steps, and their tokens are
// those of one device.
func TestSessionsOnSeveralDevices(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	o := Options{DType: "f32", KVType: "f32", Context: 200}
	path := filepath.Join("testdata", "fixtures", "gemma2")
	whole, _ := metered(t, path, o)
	device := whole.Devices()[0].Info().UUID
	o.Devices = []string{device, device}
	e := openOn(t, path, o)
	given := &followed{}
	var calls []func() error
	for i := range 4 {
		text := someTokens(whole, 20+30*i)
		calls = append(calls, func() error {
			_, err := given.follow(t.Context(), e.NewSession(), text, len(text), 12, func() bool { return false })
			return err
		})
	}
	if err := errors.Join(together(calls...)...); err != nil {
		t.Fatal(err)
	}
	s := whole.NewSession()
	s.Alone = true
	defer s.Close()
	given.check(t, s)
	if m := e.Metrics(); m.SharedSteps == 0 {
		t.Errorf("%+v", m)
	}
	checkIdle(t, e)
}
