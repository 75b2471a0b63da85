package eval

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/tokenizer"
)

// A goldenSet has questions, and their prompts, tokens and log-probabilities by an independent program
// (testdata/samples/NOTICE.md).
type goldenSet struct {
	name, data, golden string
	dirs               map[string]string
}

// goldenSets returns the set of this repository, and the larger one of real data in the directory PUMICE_SHARED.
func goldenSets() []goldenSet {
	sets := []goldenSet{{name: "samples", data: "testdata/samples", golden: "testdata/samples/golden"}}
	shared := os.Getenv("PUMICE_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	shared = filepath.Join(shared, "eval")
	return append(sets, goldenSet{"shared", shared, filepath.Join(shared, "golden"), nil})
}

// A goldenTask is one entry of a golden set's plan.json.
type goldenTask struct {
	Benchmark string
	Name      string
	Limit     float64
	MaxLength int `json:"max_length"`

	answers []Answer
	prompt  string // prompt of the first question
}

func (g goldenTask) task() string { return g.Benchmark + "_" + g.Name }

// tag returns the name of the golden files.
func (g goldenTask) tag() string {
	if g.MaxLength == goldenContext {
		return g.task()
	}
	return g.task() + "@" + strconv.Itoa(g.MaxLength)
}

// goldenContext is the context of the model that made the goldens, SmolLM2-135M-Instruct.
const goldenContext = 8192

func (s goldenSet) tasks(t *testing.T) []goldenTask {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.golden, "plan.json"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no golden answers at %s: set PUMICE_SHARED to the directory that has eval/", s.golden)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []goldenTask
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		g := &out[i]
		if g.MaxLength == 0 {
			g.MaxLength = goldenContext
		}
		f, err := os.Open(filepath.Join(s.golden, g.tag()+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var a Answer
			if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
				t.Fatal(err)
			}
			g.answers = append(g.answers, a)
		}
		prompt, err := os.ReadFile(filepath.Join(s.golden, "prompts", g.tag()+".first.txt"))
		if err != nil {
			t.Fatal(err)
		}
		g.prompt = string(prompt)
	}
	return out
}

// plan returns this package's plan of the golden task's questions.
func (s goldenSet) plan(t *testing.T, tok *tokenizer.Tokenizer, g goldenTask) *Plan {
	t.Helper()
	data := &Data{Root: s.data, Dirs: s.dirs, Strict: true}
	task, err := data.Load(g.task())
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(t.Context(), tok, []*Task{task}, PlanOptions{NumShots: 5, MaxLength: g.MaxLength, Limit: g.Limit})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Requests) != len(g.answers) {
		t.Fatalf("%d questions, want %d", len(p.Requests), len(g.answers))
	}
	return p
}

// smolTokenizer returns the tokenizer of the model that made the goldens.
func smolTokenizer(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	f, err := os.Open("../tokenizer/testdata/smollm2/tokenizer.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestPromptsMatchGoldens compares, question by question, the hash of the text, the number of examples that fit, the
// hash of the tokens and the tokens of the choices.
func TestPromptsMatchGoldens(t *testing.T) {
	tok := smolTokenizer(t)
	for _, set := range goldenSets() {
		t.Run(set.name, func(t *testing.T) {
			for _, g := range set.tasks(t) {
				t.Run(g.tag(), func(t *testing.T) {
					plan := set.plan(t, tok, g)
					first := plan.Requests[0]
					if diff := cmp.Diff(g.prompt, first.Task.prompt(first.Doc, first.NumShots)); diff != "" {
						t.Fatalf("first prompt (-want +got):\n%s", diff)
					}
					for i, r := range plan.Requests {
						want := g.answers[i]
						got := r.answer(nil)
						want.Logits, want.LogProbs, want.Margin, want.Pred, want.Correct = nil, nil, 0, "", false
						if diff := cmp.Diff(want, got); diff != "" {
							t.Fatalf("question %d (-want +got):\n%s", i, diff)
						}
					}
				})
			}
		})
	}
}
