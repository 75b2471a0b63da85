package pumice

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"pumice/internal/gputest"
	"pumice/internal/vkfault"
	"pumice/model"
	"pumice/model/pages"
	"pumice/pipeline"
	"pumice/tokenizer"
)

func TestMain(m *testing.M) {
	if os.Getenv(vkfault.Variable) != "" {
		os.Exit(m.Run()) // a driver that hangs keeps a goroutine
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if err := gputest.ReportCompiles(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}))
}

// fake is a model without a device. The token after n tokens is script[n], and the KV cache's content is checked: what
// is at a place of a page is a token and its position.
type fake struct {
	t       *testing.T
	context int
	vocab   int
	script  map[int]int // next token by position; 0 elsewhere
	kv      fakeOptions
	calls   []int           // tokens evaluated, call by call
	batches []int           // sequences evaluated, call by call
	tails   []model.Tail    // what each Run was to leave
	sure    float32         // largest logit; 0 stands for 1
	steps   int             // limit of Decode; 0 stands for 1
	margin  map[int]float32 // margin of the largest logit, less 1, by position
	misses  map[int]bool    // positions at which the device draws another token than the host
	drawn   []float32       // random numbers given to the device
	err     error           // if set, the error of every evaluation
	before  func()

	pool  *pages.Pool
	cache map[int32][]int // page by page, the tokens at its places; 0 is none, else 1 + the token
}

// fakeOptions are of a fake's KV cache.
type fakeOptions struct{ pages, hostPages, window int }

func (f *fake) Pages() *pages.Pool {
	if f.pool == nil {
		o := pages.Options{PageSize: fakePage, Mover: f, Window: f.kv.window}
		o.Pages[pages.Global], o.HostPages[pages.Global] = 1+cmp.Or(f.kv.pages, 1000), f.kv.hostPages
		if o.Window > 0 {
			o.Pages[pages.Local], o.HostPages[pages.Local] = o.Pages[pages.Global], f.kv.hostPages
		}
		var err error
		if f.pool, err = pages.New(o); err != nil {
			f.t.Fatal(err)
		}
		f.cache = map[int32][]int{}
	}
	return f.pool
}

// fakePage is the number of tokens in a page of a fake: so small that texts of tests have several, and parts of one.
const fakePage = 4

// Move copies pages. Those of host memory have negative numbers here, and local ones have no content.
func (f *fake) Move(_ context.Context, moves []pages.Move) error {
	for _, m := range moves {
		if m.Group == pages.Local {
			continue
		}
		from, to := m.From, m.To
		switch m.Kind {
		case pages.Save:
			to = -1 - to
		case pages.Load:
			from = -1 - from
		}
		f.cache[to] = slices.Clone(f.cache[from])
	}
	return nil
}

// write puts tokens behind those of a sequence, after a check of what is there, and returns the position of the first.
func (f *fake) write(ctx context.Context, q *pages.Sequence, tokens []int) (position int, err error) {
	position = q.Len()
	if position+len(tokens) > f.context {
		f.t.Errorf("evaluated %d tokens at %d of %d", len(tokens), position, f.context)
	}
	if _, err := q.Reserve(ctx, len(tokens)); err != nil {
		return 0, err
	}
	table := q.Table(pages.Global)
	for i, id := range q.Tokens() {
		if page := f.cache[table[i/fakePage]]; i%fakePage >= len(page) || page[i%fakePage] != id+1 {
			f.t.Errorf("token %d of %v is not in page %v", i, q.Tokens(), page)
			break
		}
	}
	for i, id := range tokens {
		i += position
		page := f.cache[table[i/fakePage]]
		if page == nil {
			page = make([]int, fakePage)
			f.cache[table[i/fakePage]] = page
		}
		page[i%fakePage] = id + 1
	}
	return position, nil
}

func (f *fake) begin(ctx context.Context) error {
	f.Pages()
	if f.before != nil {
		f.before()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.err
}

func (f *fake) Run(ctx context.Context, spans []model.Span, t model.Tail) (model.Output, error) {
	if err := f.begin(ctx); err != nil {
		return model.Output{}, err
	}
	var out model.Output
	total := 0
	if n := len(spans); n > 1 {
		singles, sum := 0, 0
		for _, span := range spans {
			if sum += len(span.Tokens); len(span.Tokens) == 1 {
				singles++
			}
		}
		if most := f.MaxTokens(singles, n-singles); sum > most || n > model.MaxSpans {
			f.t.Errorf("%d tokens of %d sequences, %d of one token; at most %d", sum, n, singles, most)
		}
	}
	for _, span := range spans {
		position, err := f.write(ctx, span.Sequence, span.Tokens)
		if err != nil {
			return out, err
		}
		if total += len(span.Tokens); span.Progress != nil {
			span.Progress(len(span.Tokens) / 2)
			span.Progress(len(span.Tokens))
		}
		f.rows(span.Tokens, position, t, &out)
	}
	for _, span := range spans {
		if err := span.Sequence.Commit(span.Tokens[:len(span.Tokens)-span.Guesses]...); err != nil {
			f.t.Error(err)
		}
	}
	f.calls, f.batches, f.tails = append(f.calls, total), append(f.batches, len(spans)), append(f.tails, t)
	out.Counters = pipeline.Counters{Submits: 1, WeightBytes: int64(10 * len(f.calls))}
	return out, nil
}

// rows adds what the tail leaves of tokens that begin at a position.
func (f *fake) rows(tokens []int, position int, t model.Tail, out *model.Output) {
	every, end := t.Rows == model.EveryRow, position+len(tokens)
	first := len(tokens) - 1
	if every {
		first = 0
	}
	switch {
	case t.LogProbs:
		f.logProbs(tokens, position, t, out)
	case t.Margin && every:
		for i := range tokens {
			out.Choices = append(out.Choices, model.Choice{ID: f.script[position+i+1], Margin: f.margin[position+i+1] + 1})
		}
	case t.Top == 1 && !every:
		out.Choices = append(out.Choices, model.Choice{ID: f.script[end]})
	case t.Hidden:
		out.Hidden = append(out.Hidden, f.hidden(tokens[first:], position+first)...)
	case t.Top > 1:
		for i := first; i < len(tokens); i++ {
			out.Choices = append(out.Choices, f.candidates(position+i+1))
		}
	}
	if t.Logits {
		for i := first; i < len(tokens); i++ {
			row := make([]float32, f.vocab)
			row[f.script[position+i+1]] = max(1, f.sure)
			out.Logits = append(out.Logits, row...)
		}
	}
}

// logProbs adds what a tail with LogProbs asks for. All logits are 0 but that of the script's token, as in Forward.
func (f *fake) logProbs(tokens []int, position int, t model.Tail, out *model.Output) {
	largest := float64(max(1, f.sure))
	sum := float32(math.Log(float64(f.vocab-1) + math.Exp(largest)))
	for i := range tokens {
		if t.Rows == model.LastRows && i+1 < len(tokens) {
			continue
		}
		best := f.script[position+i+1]
		var lp model.LogProb
		switch {
		case t.Rows == model.LastRows || i+1 == len(tokens):
		case tokens[i+1] == best:
			lp.Next = float32(largest) - sum
		default:
			lp.Next = -sum
		}
		if t.Rows == model.LastRows || t.Top > 0 {
			lp.Sum = sum
		}
		out.LogProbs = append(out.LogProbs, lp)
		if t.Top == 0 {
			continue
		}
		c := model.Choice{ID: best}
		c.IDs, c.Logits = []int{best}, []float32{float32(largest)}
		for id := 0; len(c.IDs) < t.Top; id++ {
			if id != best {
				c.IDs, c.Logits = append(c.IDs, id), append(c.Logits, 0)
			}
		}
		out.Choices = append(out.Choices, c)
	}
}

// Limits of a fake's Score.
const (
	fakeSequences = 4
	fakeRun       = 10
)

func (f *fake) Profile() ([]pipeline.Timing, error) { return nil, nil }
func (f *fake) Capture(*model.Capture, int)         {}

func (f *fake) MaxTails() (n, tokens int) { return fakeSequences, fakeRun }
func (f *fake) MaxRows(model.Tail) int    { return 100 }

// MaxTokens is as a model has it whose chunk is the context.
func (f *fake) MaxTokens(singles, others int) int {
	places := min(singles, 1)
	for places < singles {
		places *= 2
	}
	return min(PromptChunk, f.context) - min(places, model.MaxSpans-others) + singles
}

// Score returns for each tail a row whose largest logit is the sum of its tokens and of all tokens before them.
func (f *fake) Score(ctx context.Context, q *pages.Sequence, tails [][]int, t model.Tail) (model.Output, error) {
	if err := f.begin(ctx); err != nil {
		return model.Output{}, err
	}
	if t.Rows != model.LastRows && !t.Hidden {
		f.t.Errorf("sequences evaluated for %s", t)
	}
	prefix := slices.Clone(q.Tokens())
	position, err := f.write(ctx, q, slices.Concat(tails...))
	if err != nil {
		return model.Output{}, err
	}
	if _, err := q.Truncate(position); err != nil {
		return model.Output{}, err
	}
	total := 0
	out := model.Output{Counters: pipeline.Counters{Submits: 1}}
	for _, s := range tails {
		total += len(s)
		if t.Hidden {
			from := 0
			if t.Rows == model.LastRows {
				from = len(s) - 1
			}
			out.Hidden = append(out.Hidden, f.hidden(s[from:], position+from)...)
			continue
		}
		row := make([]float32, f.vocab)
		for _, id := range slices.Concat(prefix, s) {
			row[0] += float32(id)
		}
		out.Logits = append(out.Logits, row...)
	}
	if len(tails) > fakeSequences || total > fakeRun {
		f.t.Errorf("%d tails of %d tokens at %d", len(tails), total, position)
	}
	f.calls, f.batches = append(f.calls, -total), append(f.batches, len(tails))
	return out, nil
}

// fakeHidden is the size of a hidden row of a fake: the token, its position and 4.
const fakeHidden = 3

// hidden returns the rows of tokens that begin at a position. That of token 5999 is not finite.
func (f *fake) hidden(tokens []int, position int) (rows []float32) {
	for i, id := range tokens {
		row := []float32{float32(id), float32(position + i), 4}
		if id == 5999 {
			row[1] = float32(math.NaN())
		}
		rows = append(rows, row...)
	}
	return rows
}

func (f *fake) Fingerprint() string         { return "fake" }
func (f *fake) PageBytes(pages.Group) int64 { return 4 * fakePage }

func (f *fake) ReadPage(_ context.Context, e pages.Extent, dst []byte) error {
	for i := range e.Rows {
		if e.Group == pages.Global {
			binary.LittleEndian.PutUint32(dst[4*i:], uint32(f.cache[e.Page][i]))
		}
	}
	return nil
}

func (f *fake) WritePage(_ context.Context, e pages.Extent, src []byte) error {
	page := make([]int, fakePage)
	for i := range page {
		page[i] = int(binary.LittleEndian.Uint32(src[4*i:]))
	}
	if e.Group == pages.Global {
		f.cache[e.Page] = page
	}
	return nil
}

func (f *fake) MaxSteps() int { return max(1, f.steps) }

// Decode follows the script, except at the positions in misses.
func (f *fake) Decode(ctx context.Context, q *pages.Sequence, token, steps int, draw *pipeline.Draw) (model.Output, error) {
	var out model.Output
	if err := f.begin(ctx); err != nil {
		return out, err
	}
	if steps < 1 || steps > f.MaxSteps() || draw != nil && len(draw.Uniform) != steps {
		f.t.Errorf("%d steps with draw %+v", steps, draw)
	}
	tokens := []int{token}
	for i := range steps {
		c := model.Choice{ID: f.script[q.Len()+i+1]}
		if draw != nil {
			c = f.candidates(q.Len() + i + 1)
			f.drawn = append(f.drawn, draw.Uniform[i])
		}
		out.Choices = append(out.Choices, c)
		if i+1 < steps {
			tokens = append(tokens, c.ID)
		}
	}
	if _, err := f.write(ctx, q, tokens); err != nil {
		return model.Output{}, err
	}
	if err := q.Commit(token); err != nil {
		f.t.Error(err)
	}
	f.calls, f.batches, f.tails = append(f.calls, steps), append(f.batches, 1), append(f.tails, model.Tail{Rows: model.LastRows, Top: 1})
	out.Counters = pipeline.Counters{Submits: 1, WeightBytes: int64(10 * len(f.calls))}
	return out, nil
}

// candidates returns the script's token, which sampling all but certainly chooses, and two more.
func (f *fake) candidates(at int) model.Choice {
	id := f.script[at]
	c := model.Choice{ID: id, IDs: []int{id, (id + 1) % f.vocab, (id + 2) % f.vocab}, Logits: []float32{100, 1, 0}}
	if f.misses[at] {
		c.ID = c.IDs[1]
	}
	return c
}

// fakeEngine makes an Engine on f. tok may be nil.
func fakeEngine(f *fake, tok *tokenizer.Tokenizer, ends ...int) *Engine {
	m := &Model{source: Source{Path: "fake"}, embed: model.Embedding{Normalized: true}}
	return &Engine{model: m, work: newExecutor(f), vocab: f.vocab, hidden: fakeHidden, context: f.context,
		endTokens: ends, text: &text{tokenizer: tok}}
}

// settled returns the engine's pool when no goroutine uses it.
func settled(e *Engine) *pages.Pool {
	x := e.work
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.running {
		x.idle.Wait()
	}
	return x.model.Pages()
}

func newFake(t *testing.T, script map[int]int) *fake {
	return &fake{t: t, context: 64, vocab: 6000, script: script}
}

// follow returns the script that continues a prompt of n tokens with ids.
func follow(n int, ids ...int) map[int]int {
	script := map[int]int{}
	for i, id := range ids {
		script[n+i] = id
	}
	return script
}

func xverseTokenizer(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Open(t.Context(), "tokenizer/testdata/xverse-a")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// generate runs Generate to its end and returns the Text of each token.
func generate(t *testing.T, s *Session, prompt []int, o GenerateOptions) []string {
	t.Helper()
	var pieces []string
	for token, err := range s.Generate(t.Context(), prompt, o) {
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, token.Text)
	}
	if got := strings.Join(pieces, ""); got != s.Result().Text {
		t.Errorf("the tokens' texts join to %q, Result.Text is %q", got, s.Result().Text)
	}
	return pieces
}
