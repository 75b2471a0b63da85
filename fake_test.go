package pumice

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sync/semaphore"

	"pumice/internal/gputest"
	"pumice/internal/vkfault"
	"pumice/model"
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

// fake is a model without a device. The token after n tokens is script[n], and the cache's content is checked.
type fake struct {
	keeps   int // how many positions back evaluation can resume; with 0 it can resume anywhere
	t       *testing.T
	context int
	vocab   int
	script  map[int]int // next token by position; 0 elsewhere
	cache   []int
	calls   []int           // tokens evaluated, call by call
	tails   []model.Tail    // what each Forward was to leave
	sure    float32         // largest logit; 0 stands for 1
	steps   int             // limit of Decode; 0 stands for 1
	margin  map[int]float32 // margin of the largest logit, less 1, by position
	misses  map[int]bool    // positions at which the device draws another token than the host
	drawn   []float32       // random numbers given to the device
	err     error           // if set, the error of every Forward
	before  func()
}

func (f *fake) CanResume(length, position int) bool {
	return length-position <= f.keeps || f.keeps == 0
}

func (f *fake) Forward(ctx context.Context, tokens []int, position int, t model.Tail) (model.Output, error) {
	if f.before != nil {
		f.before()
	}
	if err := ctx.Err(); err != nil {
		return model.Output{}, err
	}
	if f.err != nil {
		return model.Output{}, f.err
	}
	if position > len(f.cache) || position+len(tokens) > f.context {
		f.t.Errorf("evaluated %d tokens at %d, the cache holds %d of %d", len(tokens), position, len(f.cache), f.context)
	}
	f.cache = append(f.cache[:position], tokens...)
	f.calls = append(f.calls, len(tokens))
	f.tails = append(f.tails, t)
	out := model.Output{Counters: pipeline.Counters{Submits: 1, WeightBytes: int64(10 * len(f.calls))}}
	every := t.Rows == model.EveryRow
	switch {
	case t.LogProbs:
		f.logProbs(tokens, position, t, &out)
	case t.Margin && every:
		for i := range tokens {
			out.Choices = append(out.Choices, model.Choice{ID: f.script[position+i+1], Margin: f.margin[position+i+1] + 1})
		}
	case t.Top == 1 && !every:
		out.Choices = []model.Choice{{ID: f.script[len(f.cache)]}}
	case t.Hidden && !every:
		out.Hidden = f.hidden(tokens[len(tokens)-1:], position+len(tokens)-1)
	case t.Hidden:
		out.Hidden = f.hidden(tokens, position)
	case t.Top > 1:
		rows := tokens
		if !every {
			rows = tokens[len(tokens)-1:]
		}
		for i := range rows {
			out.Choices = append(out.Choices, f.candidates(len(f.cache)-len(rows)+i+1))
		}
	case t.Logits && !every:
		out.Logits = make([]float32, f.vocab)
		out.Logits[f.script[len(f.cache)]] = max(1, f.sure)
	}
	if t.Logits && every {
		out.Logits = make([]float32, f.vocab*len(tokens))
		for i := range tokens {
			out.Logits[i*f.vocab+f.script[position+i+1]] = max(1, f.sure)
		}
	}
	return out, nil
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

// Limits of a fake's ForwardSequences.
const (
	fakeSequences = 4
	fakeRun       = 10
)

func (f *fake) Sequences() (n, tokens int) { return fakeSequences, fakeRun }

// ForwardSequences returns for each sequence a row whose largest logit is the sum of its tokens and of all tokens
// before them.
func (f *fake) ForwardSequences(ctx context.Context, sequences [][]int, position int, t model.Tail) (model.Output, error) {
	if f.err != nil {
		return model.Output{}, f.err
	}
	if t.Rows != model.LastRows && !t.Hidden {
		f.t.Errorf("sequences evaluated for %s", t)
	}
	total := 0
	out := model.Output{Counters: pipeline.Counters{Submits: 1}}
	for _, s := range sequences {
		if t.Hidden {
			from := 0
			if t.Rows == model.LastRows {
				from = len(s) - 1
			}
			out.Hidden = append(out.Hidden, f.hidden(s[from:], position+from)...)
			total += len(s)
			continue
		}
		row := make([]float32, f.vocab)
		for _, id := range slices.Concat(f.cache[:position], s) {
			row[0] += float32(id)
		}
		out.Logits = append(out.Logits, row...)
		total += len(s)
	}
	if len(sequences) > fakeSequences || total > fakeRun || position+total > f.context || position > len(f.cache) {
		f.t.Errorf("%d sequences of %d tokens at %d, the cache holds %d of %d", len(sequences), total, position, len(f.cache), f.context)
	}
	f.cache = f.cache[:position]
	f.calls = append(f.calls, -total)
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

func (f *fake) MaxSteps() int { return max(1, f.steps) }

// Decode follows the script, except at the positions in misses.
func (f *fake) Decode(ctx context.Context, token, position, steps int, draw *pipeline.Draw) (model.Output, error) {
	var out model.Output
	if steps < 1 || steps > f.MaxSteps() || draw != nil && len(draw.Uniform) != steps {
		f.t.Errorf("%d steps with draw %+v", steps, draw)
	}
	calls := len(f.calls)
	for i := range steps {
		one, err := f.Forward(context.Background(), []int{token}, position+i, model.Tail{Rows: model.LastRows, Top: 1})
		if err != nil {
			return out, err
		}
		if draw != nil {
			one.Choices = []model.Choice{f.candidates(position + i + 1)}
			f.drawn = append(f.drawn, draw.Uniform[i])
		}
		out.Choices = append(out.Choices, one.Choices...)
		out.Counters.Add(one.Counters)
		token = out.Choices[i].ID
	}
	f.calls = append(f.calls[:calls], steps)
	out.Counters.Submits = 1
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
	return &Engine{path: "fake", turn: semaphore.NewWeighted(1), evaluator: f, vocab: f.vocab, hidden: fakeHidden, context: f.context,
		endTokens: ends, embed: model.Embedding{Normalized: true}, text: &text{tokenizer: tok}}
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
