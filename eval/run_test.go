package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A chunked is a session whose numbers depend on the chunks in which tokens were evaluated, as rounding does on a
// device. It keeps a cache as pumice.Session does.
type chunked struct {
	ids     []int
	state   []uint64 // state after each token
	calls   int      // evaluations
	tokens  int      // tokens evaluated
	batched int      // questions evaluated together with others
	fail    int      // number of the evaluation that fails; 0 if none does
}

const chunkedVocab = 50000

var errDevice = errors.New("device lost")

func (p *chunked) Truncate(n int) {
	n = min(n, len(p.ids))
	p.ids, p.state = p.ids[:n], p.state[:n]
}

func (p *chunked) Logits(ctx context.Context, tokens []int, _ bool) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		if err := p.extend(ctx, tokens, len(tokens)-1); err != nil {
			yield(nil, err)
			return
		}
		yield(chunkedRow(p.state[len(p.state)-1]), nil)
	}
}

// Score makes each row depend on all tokens that are evaluated together.
func (p *chunked) Score(ctx context.Context, prefix []int, tails [][]int) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		err := p.extend(ctx, prefix, len(prefix))
		if len(tails) == 1 && err == nil {
			for row, err := range p.Logits(ctx, slices.Concat(prefix, tails[0]), false) {
				yield(row, err)
			}
			return
		}
		if err == nil && len(tails) > 0 {
			err = p.call(ctx)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		h := fnv.New64()
		if len(prefix) > 0 {
			fmt.Fprint(h, p.state[len(prefix)-1])
		}
		fmt.Fprint(h, tails)
		p.batched += len(tails)
		for i, tail := range tails {
			p.tokens += len(tail)
			if !yield(chunkedRow(h.Sum64()+uint64(i)), nil) {
				return
			}
		}
	}
}

func (p *chunked) call(ctx context.Context) error {
	if p.calls++; p.calls == p.fail {
		return errDevice
	}
	return ctx.Err()
}

// extend evaluates the tokens that the cache lacks. It reuses at most the first most tokens of the cache.
func (p *chunked) extend(ctx context.Context, tokens []int, most int) error {
	n := 0
	for n < min(len(p.ids), most) && p.ids[n] == tokens[n] {
		n++
	}
	p.Truncate(n)
	if n == len(tokens) {
		return nil
	}
	if err := p.call(ctx); err != nil {
		return err
	}
	h := fnv.New64()
	if n > 0 {
		fmt.Fprint(h, p.state[n-1])
	}
	fmt.Fprint(h, tokens[n:])
	p.tokens += len(tokens) - n
	for _, id := range tokens[n:] {
		p.ids, p.state = append(p.ids, id), append(p.state, h.Sum64())
	}
	return nil
}

func chunkedRow(state uint64) []float32 {
	random := rand.New(rand.NewPCG(state, 0))
	row := make([]float32, chunkedVocab)
	for i := range row {
		row[i] = float32(random.NormFloat64())
	}
	return row
}

// samplePlan returns a plan of all questions of testdata/samples, plus some about long passages.
func samplePlan(t *testing.T) *Plan {
	t.Helper()
	d := &Data{Root: "testdata/samples", Strict: true}
	var tasks []*Task
	for _, name := range taskNames {
		task, err := d.Load(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	passage := &Task{Name: "mmlu_virology", Benchmark: MMLU}
	d.english(passage, "virology")
	for i := range 12 {
		text := strings.Repeat(fmt.Sprintf("passage %d ", i/4), 50)
		passage.Docs = append(passage.Docs, passage.question(fmt.Sprint(i), fmt.Sprintf("%s Question %d?", text, i), []string{"w", "x", "y", "z"}, "A"))
	}
	p, err := NewPlan(t.Context(), smolTokenizer(t), append(tasks, passage), PlanOptions{NumShots: 5, MaxLength: 300})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openJournal(t *testing.T, name string, id Identity) *Journal {
	t.Helper()
	j, err := OpenJournal(name, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

var testIdentity = Identity{Model: "m", ModelSHA256: "00", NumShots: 5, MaxLength: 300}

func answers(entries []Entry) []Answer {
	var out []Answer
	for _, e := range entries {
		out = append(out, e.Answer)
	}
	return out
}

// TestAnswersDoNotDependOnTheOrder interrupts an evaluation at every point, divides it between devices and into
// shards: each answer is that of an uninterrupted evaluation to the last digit, although the model's numbers depend on
// the chunks of evaluation.
func TestAnswersDoNotDependOnTheOrder(t *testing.T) {
	plan := samplePlan(t)
	whole := &chunked{}
	entries, err := run(t.Context(), []session{whole}, plan.Requests, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := answers(entries)
	naive := 0
	for _, r := range plan.Requests {
		naive += len(r.IDs)
	}
	t.Logf("%d questions of %d tokens, %d evaluated in %d calls, %d questions with others", len(want), naive, whole.tokens, whole.calls, whole.batched)
	if whole.batched*2 < len(want) || whole.calls > len(want) {
		t.Errorf("%d of %d questions evaluated with others, in %d calls", whole.batched, len(want), whole.calls)
	}
	if whole.tokens*5 > naive*3 {
		t.Errorf("%d of %d tokens evaluated: tokens that neighbours share are not reused", whole.tokens, naive)
	}
	for fail := 1; fail < whole.calls; fail += 7 {
		name := filepath.Join(t.TempDir(), "journal.jsonl")
		j := openJournal(t, name, testIdentity)
		if _, err := run(t.Context(), []session{&chunked{fail: fail}}, plan.Requests, j, nil); !errors.Is(err, errDevice) {
			t.Fatalf("failure %d: %v", fail, err)
		}
		j.Close()
		// A kill in the middle of a write leaves some of the answers of a batch, and an incomplete line.
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(text), "\n")
		lines = lines[:max(1, len(lines)-fail%5)]
		text = []byte(strings.Join(lines, "") + `{"task":"mmlu_virology","id":"1`)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		reused := 0
		got, err := run(t.Context(), []session{&chunked{}}, plan.Requests, openJournal(t, name, testIdentity), func(p Progress) { reused = p.Reused })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, answers(got)); diff != "" {
			t.Fatalf("resumed after failure %d (-want +got):\n%s", fail, diff)
		}
		if fail > 20 && reused == 0 {
			t.Errorf("nothing was reused after failure %d", fail)
		}
	}
	devices := []session{&chunked{}, &chunked{}, &chunked{}}
	got, err := run(t.Context(), devices, plan.Requests, openJournal(t, filepath.Join(t.TempDir(), "j"), testIdentity), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, answers(got)); diff != "" {
		t.Errorf("three devices (-want +got):\n%s", diff)
	}
	for _, n := range []int{1, 2, 3, 8, 1000} {
		var joined []Answer
		for i := 1; i <= n; i++ {
			part, err := plan.Shard(i, n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := run(t.Context(), []session{&chunked{}}, part, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			joined = append(joined, answers(got)...)
		}
		if diff := cmp.Diff(want, joined); diff != "" {
			t.Errorf("%d shards (-want +got):\n%s", n, diff)
		}
	}
}

func TestJournalBelongsToOneRun(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out", "journal.jsonl")
	j := openJournal(t, name, testIdentity)
	var je *JournalError
	if _, err := OpenJournal(name, testIdentity); !errors.As(err, &je) {
		t.Errorf("a second process opened it: %v", err)
	}
	j.Close()
	other := testIdentity
	other.DType = "f32"
	if _, err := OpenJournal(name, other); !errors.As(err, &je) || !strings.Contains(err.Error(), `dtype is "f32", was ""`) {
		t.Errorf("another run opened it: %v", err)
	}
	openJournal(t, name, testIdentity).Close()
}

// TestJournalLeavesOtherFilesAlone opens files that are not journals, or damaged ones. No byte of them changes.
func TestJournalLeavesOtherFilesAlone(t *testing.T) {
	t.Parallel()
	first, err := json.Marshal(testIdentity)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(first) + "\n"
	const entry = `{"task":"t","id":"1"}` + "\n"
	for name, c := range map[string]struct{ text, want string }{
		"notes":                     {"notes\n", "not a journal"},
		"notes without a newline":   {"remember the milk", "not a journal"},
		"one byte":                  {"x", "not a journal"},
		"json":                      {"{}\n", "not a journal"},
		"torn first line of others": {`{"model":"other`, "not a journal"},
		"damaged line":              {whole + entry + "\x00\x00\n" + entry, "line 3 is not an answer"},
		"damaged last line":         {whole + entry + "{}\n", "line 3 is not an answer"},
		"damaged, then torn":        {whole + "x\n" + entry[:9], "line 2 is not an answer"},
		"endless line":              {strings.Repeat("x", maxLine+1), "line 1 is longer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "journal.jsonl")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var je *JournalError
			if _, err := OpenJournal(file, testIdentity); !errors.As(err, &je) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != c.text {
				t.Errorf("the file has changed: %.40q, %v", got, err)
			}
		})
	}
}

// TestJournalCutsOffTheLastLine opens files as left by a kill in the middle of a write.
func TestJournalCutsOffTheLastLine(t *testing.T) {
	t.Parallel()
	first, err := json.Marshal(testIdentity)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(first) + "\n"
	const entry = `{"task":"t","id":"1"}` + "\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", whole},
		"torn first line":  {whole[:20], whole},
		"without its end":  {whole[:len(whole)-1], whole},
		"whole":            {whole + entry, whole + entry},
		"torn last line":   {whole + entry + entry[:9], whole + entry},
		"zeros at the end": {whole + entry + "\x00\x00", whole + entry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "journal.jsonl")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			openJournal(t, file, testIdentity).Close()
			if got, err := os.ReadFile(file); err != nil || string(got) != c.want {
				t.Errorf("the file is %q, want %q: %v", got, c.want, err)
			}
		})
	}
}

// TestJournalIsARegularFile opens a link, which could lead to any file of the user, and a pipe, on which opening would
// wait.
func TestJournalIsARegularFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes")
	if err := os.WriteFile(notes, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(name string) error{
		"link":          func(name string) error { return os.Symlink(notes, name) },
		"dangling link": func(name string) error { return os.Symlink(filepath.Join(dir, "nothing"), name) },
		"pipe":          func(name string) error { return syscall.Mkfifo(name, 0o600) },
	} {
		file := filepath.Join(dir, name)
		if err := make(file); err != nil {
			t.Fatal(err)
		}
		var je *JournalError
		if _, err := OpenJournal(file, testIdentity); !errors.As(err, &je) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := OpenJournal("/dev/null", testIdentity); err == nil {
		t.Error("/dev/null was opened")
	}
	if _, err := OpenJournal(dir, testIdentity); err == nil {
		t.Error("a directory was opened")
	}
	if info, err := os.Stat(notes); err != nil || info.Size() > 0 {
		t.Errorf("the linked file has %d bytes: %v", info.Size(), err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a file was made through a link")
	}
}

func TestJournalNeedsItsLock(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		nil:                 "",
		syscall.EWOULDBLOCK: "another process is writing it",
		syscall.ENOLCK:      "can't be locked (no locks available)",
		syscall.EOPNOTSUPP:  "can't be locked (operation not supported)",
		syscall.EBADF:       "can't be locked",
	} {
		got := lockError("j", err)
		if (got == nil) != (want == "") || got != nil && !strings.Contains(got.Error(), want) {
			t.Errorf("%v: error %v, want %q", err, got, want)
		}
	}
}

// TestIdentityKeysAreTheMembers checks that the keys by which identities are compared are complete.
func TestIdentityKeysAreTheMembers(t *testing.T) {
	id := Identity{"m", "s", "d", "k", "p", []string{"l"}, []string{"t"}, 1, 2, 3, map[string][]int{"a": {1}}, "x", "y", "z", "c"}
	var keys []string
	for key := range id.members() {
		keys = append(keys, key)
	}
	want := append([]string{"model"}, identityKeys...)
	slices.Sort(want)
	slices.Sort(keys)
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// rows is a session that returns prepared logits.
type rows func(tokens []int) []float32

func (r rows) Truncate(int) {}

func (r rows) Score(_ context.Context, prefix []int, tails [][]int) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		for _, tail := range tails {
			if !yield(r(slices.Concat(prefix, tail)), nil) {
				return
			}
		}
	}
}

func (r rows) Logits(_ context.Context, tokens []int, _ bool) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) { yield(r(tokens), nil) }
}

func TestScore(t *testing.T) {
	request := func(choices ...[]int) *Request {
		return &Request{Task: &Task{}, Doc: &Doc{Gold: "B", N: len(choices)}, IDs: []int32{1, 2, 3}, Choices: choices}
	}
	uniform := []float32{0, 0, 0, 0}
	for _, c := range []struct {
		name string
		r    *Request
		rows rows
		want Answer
	}{
		{"first letter on a tie", request([]int{0}, []int{1}), func([]int) []float32 { return uniform },
			Answer{Logits: []float64{0, 0}, LogProbs: []float64{-1.3863, -1.3863}, Pred: "A", Greedy: []bool{true, false}}},
		{"greatest wins", request([]int{0}, []int{1}, []int{3}), func([]int) []float32 { return []float32{1, 2.5, 9, 2} },
			Answer{Logits: []float64{1, 2.5, 2}, LogProbs: []float64{-8.0027, -6.5027, -7.0027}, Margin: 0.5, Pred: "B", Correct: true, Greedy: []bool{false, false, false}}},
		{"a choice of two tokens", request([]int{0}, []int{1, 2}), func(ids []int) []float32 {
			if len(ids) == 4 {
				return []float32{-1e4, -1e4, 0, -1e4}
			}
			return []float32{0, 1, -1e4, -1e4}
		}, Answer{Logits: []float64{-1.3133, -0.3133}, LogProbs: []float64{-1.3133, -0.3133}, Margin: 1, Pred: "B", Correct: true, Greedy: []bool{false, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := (&scorer{session: c.rows}).score(t.Context(), []*Request{c.r})
			if err != nil {
				t.Fatal(err)
			}
			got := all[0]
			c.want.NumTokens, c.want.ChoiceIDs, c.want.Gold = 3, c.r.Choices, "B"
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, bad := range [][]float32{{float32(math.NaN()), 0}, {0, float32(math.Inf(1))}} {
		s := scorer{session: rows(func([]int) []float32 { return bad })}
		if _, err := s.score(t.Context(), []*Request{request([]int{0}, []int{1})}); !errors.Is(err, errNotFinite) {
			t.Errorf("logits %v: %v", bad, err)
		}
	}
}

func TestChoiceIDsInJSON(t *testing.T) {
	for _, text := range []string{`[1,2]`, `[1,[2,3]]`, `[]`} {
		var c ChoiceIDs
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(c)
		if err != nil || string(got) != text {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
}

func TestSelect(t *testing.T) {
	for _, c := range []struct {
		names         string
		groups, tasks int
	}{
		{"mmlu", 5, 57}, {"MMLU,mmlu_virology", 5, 57}, {"mmlu_other", 1, 14}, {"mmlu_virology", 0, 1}, {"ceval-valid", 6, 52},
		{"ceval-valid_law", 0, 1}, {"agieval_cn", 1, 10}, {"agieval_lsat_ar", 0, 1}, {"agieval", 3, 18}, {"gaokao_bench_2010-2022_*", 0, 12},
		{"mmlu,ceval,agieval,gaokao_bench,gaokao_english", 16, 138},
	} {
		s, err := Select(strings.Split(c.names, ","))
		if err != nil {
			t.Errorf("%s: %v", c.names, err)
		} else if len(s.Groups) != c.groups || len(s.Tasks) != c.tasks {
			t.Errorf("%s: %d groups, %d tasks, want %d and %d", c.names, len(s.Groups), len(s.Tasks), c.groups, c.tasks)
		}
	}
	var unknown *UnknownTaskError
	for _, name := range []string{"", "gsm8k", "[", "mmlu_virolog"} {
		if _, err := Select([]string{name}); !errors.As(err, &unknown) {
			t.Errorf("%q: %v, want an *UnknownTaskError", name, err)
		}
	}
}
