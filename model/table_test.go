package model

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"pumice/checkpoint"
	"pumice/pipeline"
)

// The table of models in docs/models.md, and in README.md where it has the markers, is written by
//
//	PUMICE_TEST_SMOLLM2=$(tools/model.sh) go test ./model -run 'TestFixtureLogits|TestSmolLM2Logits|TestModelTable' -update
//
// An error is the largest that the test measured, rounded up to one digit. Later runs may measure five times
// that, since drivers add up in other orders; more fails.
var updateTable = flag.Bool("update", false, "write the table of models into the documents")

const (
	tableBegin = "<!-- models:begin -->"
	tableEnd   = "<!-- models:end -->"
	tableSlack = 5
)

var tableFiles = []string{"../docs/models.md", "../README.md"}

// smollm2GGUF is the row of the default model, which is no fixture.
const smollm2GGUF = "smollm2-gguf"

// checkpoints says what a fixture stands for. llama-sharded and xverse-st are others' weights again.
var checkpoints = []struct{ fixture, names string }{
	{"xverse", "XVERSE-7B, -13B, -65B, and Chat"},
	{"llama", "Llama, Llama-2, Vicuna"},
	{"llama3", "Llama-3, 3.1, 3.2"},
	{"smollm2", "SmolLM2"},
	{smollm2GGUF, "SmolLM2-135M-Instruct, trained weights"},
	{"smollm3", "SmolLM3"},
	{"mistral", "Mistral-7B"},
	{"qwen2", "Qwen2, Qwen2.5"},
	{"qwen3", "Qwen3"},
	{"gemma2", "Gemma 2"},
	{"gemma3", "Gemma 3"},
	{"phi3", "Phi-3, Phi-4"},
	{"baichuan", "Baichuan-7B"},
	{"baichuan2", "Baichuan2-7B, Base and Chat"},
	{"chatglm2", "ChatGLM2-6B, ChatGLM3-6B"},
	{"falcon", "Falcon-7B"},
	{"internlm", "InternLM-7B and Chat"},
	{"mpt", "MPT-7B, Instruct and Chat"},
}

// tableErrors are the figures of one row: computed in float32 throughout, and as it runs by default.
type tableErrors [2]float64

// measured is what the tests of this run have measured, by fixture.
var measured = map[string]*tableErrors{}

// checkTable holds an error to what the table says, or notes it for the next table.
func checkTable(t *testing.T, fixture string, asRun bool, worst float64) {
	t.Helper()
	column := 0
	if asRun {
		column = 1
	}
	if measured[fixture] == nil {
		measured[fixture] = &tableErrors{}
	}
	measured[fixture][column] = worst
	row, ok := readTable(t, tableFiles[0])[fixture]
	if !ok || *updateTable {
		return
	}
	if !(worst <= tableSlack*row[column]) {
		t.Errorf("largest error of a logit is %.3g, over %d times the %g of %s", worst, tableSlack, row[column], tableFiles[0])
	}
}

// cutTable splits a document around its table.
func cutTable(t *testing.T, file string) (text, before, table, after string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Log(err)
		return "", "", "", ""
	}
	text = string(b)
	before, rest, ok := strings.Cut(text, tableBegin)
	if !ok {
		return text, "", "", ""
	}
	table, after, ok = strings.Cut(rest, tableEnd)
	if !ok {
		t.Fatalf("%s: %s without %s", file, tableBegin, tableEnd)
	}
	return text, before + tableBegin, table, tableEnd + after
}

// rowPattern finds the figures and the fixture of a row, which is at its end.
var rowPattern = regexp.MustCompile(`\| ([0-9.e-]+) \| ([0-9.e-]+) \([^|]*\) \| .*-run '?(?:TestFixtureLogits/\^([a-z0-9-]+)\$|TestSmolLM2Logits)'?`)

func readTable(t *testing.T, file string) map[string]tableErrors {
	t.Helper()
	out := map[string]tableErrors{}
	_, _, table, _ := cutTable(t, file)
	for _, m := range rowPattern.FindAllStringSubmatch(table, -1) {
		exact, err1 := strconv.ParseFloat(m[1], 64)
		asRun, err2 := strconv.ParseFloat(m[2], 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: row %q", file, m[0])
		}
		name := m[3]
		if name == "" {
			name = smollm2GGUF
		}
		out[name] = tableErrors{exact, asRun}
	}
	return out
}

// modelTable renders the rows that have figures.
func modelTable(t *testing.T, errors map[string]tableErrors) string {
	var b strings.Builder
	b.WriteString("\n| models | family | formats | checked against | largest logit error: f32 | as stored (type) | command |\n|---|---|---|---|---|---|---|\n")
	for _, x := range checkpoints {
		e, ok := errors[x.fixture]
		if !ok {
			t.Errorf("%s has not been measured", x.fixture)
			continue
		}
		row := func(family *Family, formats, checked, stored, command string) {
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %g | %g (%s) | `%s` |\n", x.names, family.Name, formats, checked, e[0], e[1], stored, command)
		}
		if x.fixture == smollm2GGUF {
			row(&llama, "GGUF `llama`", "transformers 5.23.0, llama.cpp", "Q4_1, Q8_0", "PUMICE_TEST_SMOLLM2=$(tools/model.sh) go test ./model -run TestSmolLM2Logits")
			continue
		}
		f := familyOfFixture(t, x.fixture)
		formats := "safetensors, `.bin`"
		for _, arch := range f.GGUF {
			formats += ", GGUF `" + arch + "`"
		}
		g := readGolden(t, filepath.Join(fixtureDir, x.fixture))
		var checked []string
		if strings.HasPrefix(g.Reference, "own float64") {
			checked = append(checked, "float64 decoder")
		} else {
			checked = append(checked, words(g.Reference, 2))
		}
		for _, c := range g.Checks {
			name := words(c.With, 2)
			if strings.HasPrefix(c.With, "llama.cpp") {
				name = "llama.cpp"
			} else if !strings.HasPrefix(c.With, "transformers") {
				name = "original code"
			}
			checked = append(checked, name)
		}
		stored := map[string]string{"bf16": "BF16", "fp16": "F16", "fp32": "F32"}[g.Stored]
		row(f, formats, strings.Join(checked, ", "), stored, "go test ./model -run 'TestFixtureLogits/^"+x.fixture+"$'")
	}
	return b.String()
}

// words is the first n words of s.
func words(s string, n int) string {
	w := strings.Fields(s)
	return strings.Join(w[:min(n, len(w))], " ")
}

func familyOfFixture(t *testing.T, name string) *Family {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), filepath.Join(fixtureDir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, c.Close()) }()
	f, err := familyOf(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// roundUp rounds to one significant digit.
func roundUp(x float64) float64 {
	if !(x > 0) {
		return 0
	}
	text := strconv.FormatFloat(x, 'e', 0, 64)
	y, _ := strconv.ParseFloat(text, 64)
	if y < x {
		unit := math.Pow(10, math.Floor(math.Log10(x)))
		y, _ = strconv.ParseFloat(strconv.FormatFloat(y+unit, 'e', 0, 64), 64)
	}
	return y
}

func TestRoundUp(t *testing.T) {
	for x, want := range map[float64]float64{0: 0, 0.0301: 0.04, 0.03: 0.03, 9.6e-5: 1e-4, 9.1e-6: 1e-5, 1: 1, 1.2: 2} {
		if got := roundUp(x); got != want {
			t.Errorf("roundUp(%g) = %g, want %g", x, got, want)
		}
	}
}

// TestSmolLM2Logits compares the default model with what transformers computes from its dequantised
// weights: the ten largest logits after each of five prompts.
func TestSmolLM2Logits(t *testing.T) {
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		t.Skip("PUMICE_TEST_SMOLLM2 is not set: give it the path of SmolLM2-135M-Instruct.Q4_1.gguf, which tools/model.sh prints")
	}
	text, err := os.ReadFile("../testdata/smollm2/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var goldens struct {
		Prompts []struct {
			Name string
			IDs  []int
			FP32 struct {
				Top []struct {
					ID    int
					Logit float64
				} `json:"top10"`
			}
		}
	}
	if err := json.Unmarshal(text, &goldens); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []struct {
		name  string
		o     Options
		bound float64
	}{{"f32", exact, exactBound}, {"default", Options{Context: 256}, halfBound}} {
		t.Run(mode.name, func(t *testing.T) {
			x := load(t, path, mode.o, pipeline.Options{})
			worst := 0.0
			for _, p := range goldens.Prompts {
				out, err := x.forward(context.Background(), p.IDs, 0, lastLogits)
				if err != nil {
					t.Fatal(err)
				}
				for _, top := range p.FP32.Top {
					worst = max(worst, math.Abs(float64(out.Logits[top.ID])-top.Logit))
				}
			}
			if !(worst <= mode.bound) {
				t.Errorf("largest error of a logit is %g, want at most %g", worst, mode.bound)
			}
			checkTable(t, smollm2GGUF, mode.name == "default", worst)
		})
	}
}

// TestModelTable writes the table, or compares it with what the registry and the fixtures make of its
// figures. Every registered family must be in it. It
// is the last test of the file because it writes what those above have measured.
func TestModelTable(t *testing.T) {
	have := map[string]bool{}
	for _, x := range checkpoints {
		if x.fixture != smollm2GGUF {
			have[familyOfFixture(t, x.fixture).Name] = true
		}
	}
	for i := range families {
		if !have[families[i].Name] && !families[i].Encoder { // docs/models.md has those in another table
			t.Errorf("no row checks the family %s", families[i].Name)
		}
	}
	errors := readTable(t, tableFiles[0])
	if *updateTable {
		for fixture, e := range measured {
			old := errors[fixture]
			errors[fixture] = tableErrors{cmp.Or(roundUp(e[0]), old[0]), cmp.Or(roundUp(e[1]), old[1])}
		}
	}
	want := modelTable(t, errors)
	for _, file := range tableFiles {
		text, before, table, after := cutTable(t, file)
		switch {
		case text == "" || !strings.Contains(text, tableBegin):
			if file == tableFiles[0] {
				t.Errorf("%s has no table between %s and %s", file, tableBegin, tableEnd)
			}
		case *updateTable:
			if err := os.WriteFile(file, []byte(before+want+after), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			if d := gocmp.Diff(want, table); d != "" {
				t.Errorf("%s (-want +got); see the top of this test's file:\n%s", file, d)
			}
		}
	}
}
