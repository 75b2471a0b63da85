package pumice

import (
	"context"
	"math/bits"
	"time"

	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
	"pumice/vk"
)

// closeCall is the smallest difference between the two largest logits that is safe from rounding. Evaluating tokens
// together instead of one by one changes the order of sums, and so how cached keys and values are rounded. That changes
// logits by less than 0.01 in models of known sizes, a fraction of this margin.
const closeCall = 0.0625

// Guesses are given up for a while when they lose time. They are judged after judgeAfter evaluations, half as many after
// a pause. Pauses double from firstPause tokens to longestPause, so that useless guesses cost a few per cent at most.
// Older evaluations count for less by the factor forget.
const (
	defaultDraft = 7 // guesses at a time; with the token before them they fill a plan of eight
	judgeAfter   = 4
	firstPause   = 16
	longestPause = 256
	forget       = 0.8
)

// speculation decides when to guess, and how many tokens, by what the guesses of this answer have gained: the tokens
// that an evaluation with guesses brings, in the time that they would take one by one, against the time that it takes.
type speculation struct {
	drafter Drafter // nil without one, and once it has failed
	always  bool    // guess the most, whatever that gains
	most    int     // guesses at a time
	now     int     // guesses at a time as long as they gain; at most most

	plain         time.Duration // for a token without guesses; 0 if not measured yet
	tokens, spent float64       // tokens and nanoseconds of the last evaluations with guesses
	judge         int           // evaluations with guesses before the next judgement
	wait          int           // tokens until guesses are tried again
	pause         int           // tokens that the next pause takes
	known         [8]bool       // by the plan's size, whether guesses were evaluated since the last pause

	with, without rate // of this answer
}

// A rate is what was generated in a time.
type rate struct {
	tokens int
	took   time.Duration
}

func (r *rate) add(tokens int, took time.Duration) { r.tokens, r.took = r.tokens+tokens, r.took+took }

func (r rate) perSecond() float64 { return perSecond(r.tokens, milliseconds(r.took)) }

func newSpeculation(o GenerateOptions) speculation {
	s := speculation{drafter: o.Drafter, always: o.DraftAlways, most: o.DraftTokens, judge: judgeAfter, pause: firstPause}
	if s.most == 0 {
		s.most = defaultDraft
	}
	s.now = s.most
	return s
}

// ask returns how many tokens to guess now. Without a measure of a token evaluated plainly, guesses could not be judged.
func (s *speculation) ask() int {
	switch {
	case s.drafter == nil:
		return 0
	case s.always:
		return s.most
	case s.plain == 0 || s.wait > 0:
		return 0
	}
	return s.now
}

// plainly takes into account an evaluation without guesses. It is no measure if kernels were compiled meanwhile.
func (s *speculation) plainly(tokens int, took time.Duration, measure bool) {
	s.wait = max(0, s.wait-tokens)
	if !measure || tokens == 0 {
		return
	}
	s.without.add(tokens, took)
	each := took / time.Duration(tokens)
	if s.plain == 0 {
		s.plain = each
	}
	s.plain += (each - s.plain) / 4
}

// guessed takes into account an evaluation with guesses, whose time includes that of guessing. The first of its size is
// no measure: plans may have been recorded for it. Neither is the first after a pause: a draft model has evaluated the
// tokens of the pause.
func (s *speculation) guessed(guesses, tokens int, took time.Duration, measure bool) {
	size := bits.Len(uint(guesses))
	if known := s.known[size]; !known || !measure {
		s.known[size] = true
		return
	}
	s.with.add(tokens, took)
	s.tokens, s.spent = forget*s.tokens+float64(tokens), forget*s.spent+float64(took)
	if s.judge--; s.judge > 0 || s.always {
		return
	}
	switch gain := s.tokens * float64(s.plain) / s.spent; {
	case gain < 1:
		s.wait, s.pause = s.pause, min(2*s.pause, longestPause)
		s.now, s.judge = max(1, (s.now-1)/2), judgeAfter/2
		s.tokens, s.spent, s.known = 0, 0, [8]bool{}
	case tokens > s.now: // all were right
		s.now, s.pause = min(2*s.now+1, s.most), firstPause
	default:
		s.pause = firstPause
	}
}

// guess asks the drafter for the tokens after the text.
func (g *Generation) guess(ctx context.Context) error {
	g.guesses = nil
	n := min(g.speculation.ask(), g.left()-1)
	if n < 1 || g.close || g.forced > 0 {
		return nil
	}
	guesses, err := g.speculation.drafter.Draft(ctx, g.tokens, n, g.o.Sampling)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	guesses = guesses[:min(n, len(guesses))]
	for _, x := range guesses {
		if err == nil {
			err = x.Validate(g.s.engine.vocab)
		}
	}
	if err != nil {
		g.speculation.drafter = nil
		g.result.Stats.DraftError = err.Error()
		return nil
	}
	g.guesses = guesses
	return nil
}

// draftTail returns what deciding about guesses needs. A CPU driver takes longer to find the 64 largest logits of a row
// than to evaluate a token of a small model (25 ms and 22 ms for SmolLM2-135M on lavapipe 22.3.6), and finds all of them
// in host memory. The margin asks for a plan of few tokens.
func (g *Generation) draftTail() model.Tail {
	switch p := g.o.Sampling; {
	case g.adjust.on():
	case p.Greedy():
		return model.Tail{Rows: model.EveryRow, Top: 1, Margin: true}
	case p.Decides(pipeline.TopLogits) && g.s.engine.gpu():
		return model.Tail{Rows: model.EveryRow, Top: pipeline.TopLogits}
	}
	return model.Tail{Rows: model.EveryRow, Margin: true, Logits: true}
}

// measure tells the speculation how an evaluation went that began with guessing at start, when so many pipelines had
// been compiled.
func (g *Generation) measure(guesses int, start time.Time, compiled int, c pipeline.Counters) {
	took := time.Since(start)
	warm := c.Records == 0 && vk.Compiles().Pipelines == compiled
	s, stats := &g.speculation, &g.result.Stats
	if guesses > 0 {
		s.guessed(guesses, len(g.queue), took, warm)
	} else {
		s.plainly(len(g.queue), took, warm)
	}
	if s.with.tokens > 0 {
		stats.DraftPerSecond, stats.PlainPerSecond = s.with.perSecond(), s.without.perSecond()
	}
}

// accept queues the tokens with the largest logits as long as the guesses before them were right. Evaluating tokens
// together rounds differently from one by one; a token whose choice that might change is evaluated again by itself.
func (g *Generation) accept(choices []model.Choice, draft []int) {
	for i, c := range choices {
		if c.Margin < closeCall {
			g.close = true
			return
		}
		if right, _ := g.decide(c.ID, i, draft); !right { // nothing constrains the choice
			return
		}
	}
}

// verify queues the tokens that sampling chooses as long as the guesses before them were right.
func (g *Generation) verify(out model.Output, draft []int) error {
	vocab, history := g.s.engine.vocab, g.tokens // what is appended to history is overwritten by the next token
	for i := range len(draft) + 1 {
		var ids []int
		var logits []float32
		if len(out.Logits) > 0 {
			logits = out.Logits[i*vocab : (i+1)*vocab]
			g.adjust.onHost(logits)
		} else {
			ids, logits = out.Choices[i].IDs, out.Choices[i].Logits
		}
		if g.o.Sampling.Temperature == 0 { // greedy, with penalties
			if lead, err := g.sampler.Lead(logits, history); err == nil && lead < closeCall {
				g.close = true
				return nil
			}
		}
		var guess sample.Guess
		if i < len(draft) {
			guess = g.guesses[i]
		}
		id, err := g.sampler.Verify(guess, ids, logits, history)
		if err != nil && i > 0 {
			g.failed, err = err, nil
			return nil
		}
		if err != nil {
			return err
		}
		right, err := g.decide(id, i, draft)
		if right && err == nil {
			history = append(history, id)
			err = g.adjust.next()
		}
		if err != nil {
			g.failed = err
		}
		if err != nil || !right {
			return nil
		}
	}
	return nil
}

// decide queues a token and reports whether it is guess i of a draft, so that what follows it was evaluated.
func (g *Generation) decide(id, i int, draft []int) (right bool, err error) {
	if err := g.take(id); err != nil {
		return false, err
	}
	if right = i < len(draft) && id == draft[i]; right {
		g.result.Stats.DraftNAccepted++
	}
	return right, nil
}
