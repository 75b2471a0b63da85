package eval

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"pumice/tokenizer"
)

// PlanOptions say which questions are asked and how. The zero value asks all questions, without examples.
type PlanOptions struct {
	NumShots  int              // examples before a question, if the task has as many
	MaxLength int              // largest length of a prompt in tokens; examples are left out until it fits
	Limit     float64          // asks the first Limit questions of a task, or this share of them if below 1; 0 asks all
	Samples   map[string][]int // indexes of the questions to ask, by task; all questions of other tasks are asked

	// Chat makes the prompt of a question as a user's message. If it is nil, the question is plain text to continue.
	Chat func(text string) ([]int, error)
}

// A Request is one question in the form in which a model is asked.
type Request struct {
	Task      *Task
	Doc       *Doc
	Index     int // index of Doc in Task.Docs
	NumShots  int
	Truncated bool // the prompt's beginning was cut off, since it was too long even without examples

	IDs          []int32
	PromptSHA256 string  // hash of the text
	IDsSHA256    string  // hash of the ids as little-endian uint32
	Choices      [][]int // tokens of each choice
	cuts         []int   // lengths of the prefixes of IDs that are shared with neighbours, ascending

	lead *Request // the first of the questions that are evaluated together with this one
}

// prefix returns how many tokens a request shares with those that are evaluated together with it.
func (r *Request) prefix() int {
	if len(r.cuts) == 0 {
		return 0
	}
	return r.cuts[len(r.cuts)-1]
}

// cost returns how many tokens of r are evaluated after the request before it, which is nil for the first.
func (r *Request) cost(before *Request) int {
	if before == nil {
		return len(r.IDs)
	}
	return len(r.IDs) - r.shared(before)
}

// A Plan holds the questions of tasks in an order in which neighbours share most tokens.
type Plan struct {
	Tasks    []*Task
	Requests []*Request
	Options  PlanOptions
}

// Longest returns the number of tokens of the longest prompt with its longest choice, which is the context that the
// model needs.
func (p *Plan) Longest() int {
	n := 1
	for _, r := range p.Requests {
		for _, c := range r.Choices {
			n = max(n, len(r.IDs)+len(c)-1)
		}
	}
	return n
}

// Widest returns the context in which every batch of questions is evaluated together. With a smaller one, down to
// Longest, fewer are.
func (p *Plan) Widest() int {
	n, batch := p.Longest(), 0
	for _, r := range p.Requests {
		if r.lead == r {
			batch = r.prefix()
		}
		batch += len(r.IDs) - r.prefix()
		n = max(n, batch)
	}
	return n
}

// NewPlan tokenizes the questions of tasks.
func NewPlan(ctx context.Context, tok *tokenizer.Tokenizer, tasks []*Task, o PlanOptions) (*Plan, error) {
	if o.MaxLength < 1 {
		return nil, fmt.Errorf("eval: invalid limit of %d tokens for a prompt", o.MaxLength)
	}
	p := &Plan{Tasks: tasks, Options: o}
	e := newEncoder(tok)
	for _, t := range tasks {
		if err := p.add(e, t); err != nil {
			return nil, err
		}
	}
	var failed atomic.Pointer[error]
	var next atomic.Int64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(p.Requests) || ctx.Err() != nil || failed.Load() != nil {
					return
				}
				if err := p.Requests[i].encode(e, o); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.share(e)
	p.batch()
	return p, nil
}

// add appends the questions of a task that the options select.
func (p *Plan) add(e *encoder, t *Task) error {
	choices := map[int][][]int{} // tokens of the choices, by number of choices
	take := func(i int) error {
		d := &t.Docs[i]
		if choices[d.N] == nil {
			for _, letter := range letters[:d.N] {
				c, err := e.choice(t, string(letter), p.Options.Chat != nil)
				if err != nil {
					return err
				}
				choices[d.N] = append(choices[d.N], c)
			}
		}
		p.Requests = append(p.Requests, &Request{Task: t, Doc: d, Index: i, Choices: choices[d.N]})
		return nil
	}
	if only, ok := p.Options.Samples[t.Name]; ok {
		for _, i := range slices.Compact(slices.Sorted(slices.Values(only))) {
			if i < 0 || i >= len(t.Docs) {
				return fmt.Errorf("eval: %s has no question %d, only %d questions", t.Name, i, len(t.Docs))
			}
			if err := take(i); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range limited(len(t.Docs), p.Options.Limit) {
		if err := take(i); err != nil {
			return err
		}
	}
	return nil
}

// limited returns how many of n questions are asked.
func limited(n int, limit float64) int {
	switch {
	case limit <= 0:
		return n
	case limit < 1:
		return int(math.Ceil(limit * float64(n)))
	}
	return int(min(limit, float64(n)))
}

// encode determines how many examples fit, and the tokens.
func (r *Request) encode(e *encoder, o PlanOptions) error {
	for r.NumShots = min(o.NumShots, len(r.Task.Shots)); ; r.NumShots-- {
		prompt := r.Task.prompt(r.Doc, r.NumShots)
		ids, err := e.prompt(prompt, o.Chat)
		if err != nil {
			return fmt.Errorf("eval: %s: question %q: %w", r.Task.Name, r.Doc.ID, err)
		}
		if len(ids) > o.MaxLength && r.NumShots > 0 {
			continue
		}
		r.Truncated = len(ids) > o.MaxLength
		ids = ids[max(0, len(ids)-o.MaxLength):]
		r.PromptSHA256 = hexSHA256([]byte(prompt))
		little := make([]byte, 0, 4*len(ids))
		for _, id := range ids {
			r.IDs = append(r.IDs, int32(id))
			little = binary.LittleEndian.AppendUint32(little, uint32(id))
		}
		r.IDsSHA256 = hexSHA256(little)
		return nil
	}
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// minShared is how many tokens beyond the examples neighbours must share for these tokens to be evaluated separately,
// such as those of a passage for several questions. For a device, evaluating fewer tokens costs little less.
const minShared = 32

// share sets the cuts: the end of the prefix that all questions of a task with the same number of examples share, and
// the end of a longer prefix that consecutive questions share. They depend only on the plan and not on the order of
// evaluation, so that a question's tokens are always evaluated in the same chunks and give the same numbers to the
// last bit, whatever was evaluated before.
func (p *Plan) share(e *encoder) {
	type block struct {
		task  *Task
		shots int
	}
	preambles := map[block][]int32{}
	for _, r := range p.Requests {
		if r.Truncated {
			continue
		}
		b := block{r.Task, r.NumShots}
		if known, ok := preambles[b]; ok {
			preambles[b] = known[:commonPrefix(known, r.IDs)]
		} else {
			preambles[b] = e.start(r)
		}
	}
	for i := 0; i < len(p.Requests); {
		r := p.Requests[i]
		if r.Truncated {
			i++
			continue
		}
		base := len(preambles[block{r.Task, r.NumShots}])
		end, shared := i+1, 0
		for ; end < len(p.Requests); end++ {
			next := p.Requests[end]
			if next.Truncated || next.Task != r.Task || next.NumShots != r.NumShots {
				break
			}
			n := commonPrefix(next.IDs, p.Requests[end-1].IDs)
			n = min(n, len(next.IDs)-1, len(p.Requests[end-1].IDs)-1)
			if n < base+minShared {
				break
			}
			if shared == 0 || n < shared {
				shared = n
			}
		}
		for _, r := range p.Requests[i:end] {
			if base > 0 && base < len(r.IDs) {
				r.cuts = append(r.cuts, base)
			}
			if shared > 0 {
				r.cuts = append(r.cuts, shared)
			}
		}
		i = end
	}
}

// Limits of a batch: a session with the default options takes as much at once. An engine that takes less divides
// batches.
const (
	batchTokens    = 512
	batchQuestions = 16
)

// batch groups neighbours that are evaluated together after their common prefix. Like cuts, the batches depend only on
// the plan. A question whose choices have several tokens is a batch by itself, since these are evaluated after it.
func (p *Plan) batch() {
	n, tokens := 0, 0
	var before *Request
	for _, r := range p.Requests {
		tail := len(r.IDs) - r.prefix()
		if before != nil && r.Task == before.Task && len(r.cuts) == len(before.cuts) && r.shared(before) == r.prefix() &&
			n < batchQuestions && tokens+tail <= batchTokens && !severalTokens(r.Choices) && !severalTokens(before.Choices) {
			r.lead = before.lead
			n, tokens = n+1, tokens+tail
		} else {
			r.lead = r
			n, tokens = 1, tail
		}
		before = r
	}
}

// shared returns the length of the longest prefix at a cut that two requests have in common.
func (r *Request) shared(before *Request) int {
	n := 0
	for i, s := range r.cuts {
		if i >= len(before.cuts) || before.cuts[i] != s || !slices.Equal(r.IDs[n:s], before.IDs[n:s]) {
			break
		}
		n = s
	}
	return n
}

func commonPrefix(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// Shard divides a plan into n shards with about the same number of tokens to evaluate, each in the plan's order, and
// returns shard i, from 1. A batch is never divided.
func (p *Plan) Shard(i, n int) ([]*Request, error) {
	if n < 1 || i < 1 || i > n {
		return nil, fmt.Errorf("eval: shard %d of %d", i, n)
	}
	total, costs := p.costs()
	var part []*Request
	done := int64(0)
	for j := 0; j < len(p.Requests); {
		batch, cost := p.Requests[j:j+1], costs[j]
		for end := j + 1; end < len(p.Requests) && p.Requests[end].lead == p.Requests[j]; end++ {
			batch, cost = p.Requests[j:end+1], cost+costs[end]
		}
		// A batch belongs to the shard that has its middle token.
		if middle := 2*done + cost; middle*int64(n) >= 2*total*int64(i-1) && middle*int64(n) < 2*total*int64(i) {
			part = append(part, batch...)
		}
		done += cost
		j += len(batch)
	}
	return part, nil
}

func (p *Plan) costs() (total int64, costs []int64) {
	var before *Request
	for _, r := range p.Requests {
		c := int64(r.cost(before))
		costs = append(costs, c)
		total += c
		before = r
	}
	return total, costs
}

// encoder tokenizes prompts. Spellings of special tokens are plain text. Tokens that the tokenizer puts before a text,
// such as BOS, are put before a prompt; those that it puts after a text are not added.
type encoder struct {
	tok   *tokenizer.Tokenizer
	first []int
}

func newEncoder(tok *tokenizer.Tokenizer) *encoder {
	e := &encoder{tok: tok}
	const text = "a"
	plain := tok.Encode(text, tokenizer.EncodeOptions{})
	with := tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true})
	for n := range with {
		if len(with)-n >= len(plain) && slices.Equal(with[n:n+len(plain)], plain) {
			e.first = with[:n]
			break
		}
	}
	return e
}

func (e *encoder) prompt(text string, chat func(string) ([]int, error)) ([]int, error) {
	if chat != nil {
		return chat(text)
	}
	ids, err := e.tok.TryEncode(text, tokenizer.EncodeOptions{})
	return append(slices.Clone(e.first), ids...), err
}

// start returns the beginning of r's prompt, up to about the question.
func (e *encoder) start(r *Request) []int32 {
	text := r.Task.preamble(r.NumShots)
	whole := r.Task.prompt(r.Doc, r.NumShots)
	// The question by itself and the prompt end in the same text. Without the question's number of tokens, the prompt
	// ends within a token of the boundary, and the common prefix with the other questions corrects that.
	n := len(r.IDs) - len(e.tok.Encode(whole[len(text):], tokenizer.EncodeOptions{}))
	return r.IDs[:max(0, min(n, len(r.IDs)-1))]
}

// choice returns the tokens of a letter as an answer: those that it adds to the cue, one token with nearly all
// tokenizers. In a conversation the answer begins with the letter.
func (e *encoder) choice(t *Task, letter string, chat bool) ([]int, error) {
	if chat {
		return e.tok.TryEncode(letter, tokenizer.EncodeOptions{})
	}
	cue, err := e.tok.TryEncode(t.Cue, tokenizer.EncodeOptions{})
	if err != nil {
		return nil, err
	}
	whole, err := e.tok.TryEncode(t.Cue+t.Sep+letter, tokenizer.EncodeOptions{})
	if err != nil {
		return nil, err
	}
	if len(whole) > len(cue) && slices.Equal(whole[:len(cue)], cue) {
		return whole[len(cue):], nil
	}
	return e.tok.TryEncode(t.Sep+letter, tokenizer.EncodeOptions{}) // the end of the cue and the letter are one token
}

// ChoiceIDs are the tokens of choices. In JSON a choice with one token is a number, and one with more is a list.
type ChoiceIDs [][]int

// MarshalJSON implements json.Marshaler.
func (c ChoiceIDs) MarshalJSON() ([]byte, error) {
	out := make([]any, len(c))
	for i, ids := range c {
		out[i] = ids
		if len(ids) == 1 {
			out[i] = ids[0]
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *ChoiceIDs) UnmarshalJSON(text []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*c = make(ChoiceIDs, len(raw))
	for i := range raw {
		var one int
		if json.Unmarshal(raw[i], &one) == nil {
			(*c)[i] = []int{one}
		} else if err := json.Unmarshal(raw[i], &(*c)[i]); err != nil {
			return err
		}
	}
	return nil
}
