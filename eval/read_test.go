package eval

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pumice/internal/regular"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func ids(docs []Doc) []string {
	var out []string
	for _, d := range docs {
		out = append(out, d.ID)
	}
	return out
}

// TestHostileDataIsNamedAndLeftOut reads files with errors: each is reported with file and line, the other questions
// are kept, and Strict stops at the first error.
func TestHostileDataIsNamedAndLeftOut(t *testing.T) {
	const good = "Q,a,b,c,d,A\n"
	for _, c := range []struct {
		name, task, file, text string
		ids                    []string
		problems               []string // line: message
	}{
		{"mmlu", "mmlu_virology", "mmlu/data/test/virology_test.csv",
			good + "only,three,cells\n" + good + "Q,a,b,c,d,E\n" + "Q,a,\xff,c,d,B\n" + "\"two\nlines\",a,b,c,d,D\n" + "Q,a,b,c,d,\n",
			[]string{"0", "2", "5"},
			[]string{"2: 3 columns", "4: the answer \"E\"", "5: invalid UTF-8 in column 3", "8: the answer \"\""}},
		{"mmlu, a quote not closed", "mmlu_virology", "mmlu/data/test/virology_test.csv",
			good + "\"Q,a,b,c,d,A\n" + good, []string{"0"}, []string{"2: 1 columns"}},
		{"ceval, columns missing", "ceval_law", "ceval/val/law_val.csv",
			"id,question,A,B,C,answer\n0,Q,a,b,c,A\n", nil, []string{"2: no column \"D\""}},
		{"ceval, columns in another order, more and fewer of them", "ceval_law", "ceval/val/law_val.csv",
			"\ufeffanswer,id,D,C,B,A,question,explanation\r\nB,7,d,c,b,a,Q,why\r\nB,8\r\n", []string{"7"}, []string{"3: no column \"question\""}},
		{"agieval", "agieval_lsat-lr", "agieval/data/v1/lsat-lr.jsonl",
			strings.Repeat(`{"passage":null,"question":"Q","options":["(A)x","(B)y"],"label":"A"}`+"\n", 6) +
				"not json\n" + `[1,2]` + "\n\n" +
				`{"question":"Q","options":["(A)x","(B)y"],"label":"C"}` + "\n" +
				`{"question":"Q","options":["(A)x",2],"label":"A"}` + "\n" +
				`{"question":"Q","options":["(A)x","(B)y"],"label":["A","B"]}` + "\n" +
				`{"question":"Q","options":null,"label":null}` + "\n" +
				`{"question":"Q","options":["(A)x","(B)y"],"label":["B"]}` + "\n" +
				`{"question":"Q","options":["(A)x","(B)y"],"label":"z"}` + "\n" +
				`{"question":"Q","options":["(A)x","(B)y"],"label":" "}` + "\n" +
				`{"question":"Q","label":"A"}`,
			[]string{"5", "13"},
			[]string{"7: invalid JSON", "8: not an object", "10: the label \"C\"", "11: \"options\": want a list of strings", "15: the label \"z\"", "17: the label \"A\", but 0 options"}},
		{"gaokao_bench", "gaokao_bench_2010-2013_English_MCQs", "gaokao_bench/Data/Objective_Questions/2010-2013_English_MCQs.json",
			"{\"keywords\": \"k\", \"example\": [\n" + strings.Repeat(`{"question":" q ","answer":["A"],"score":1.0},`+"\n", 6) +
				`{"question":"q","answer":["H"]},` + "\n" + `{"question":"q","answer":"A"},` + "\n" + `{"question":"q","answer":["AB"]},` + "\n" +
				`{"question":"q","answer":["A","BC","D"]}]}`,
			[]string{"5", "9.1", "9.3"}, []string{"8: item 6: the answer \"H\"", "9: item 7: \"answer\""}},
		{"gaokao_bench, cut off", "gaokao_bench_2010-2013_English_MCQs", "gaokao_bench/Data/Objective_Questions/2010-2013_English_MCQs.json",
			"{\"example\": [\n{\"question\":\"q\",", nil, []string{"2: invalid JSON"}},
		{"gaokao_english", "gaokao_english_listening", "gaokao_english/p1/processed_listening.jsonl",
			strings.Repeat(`{'context': 'c', 'question': 'q', 'options': ['x', 'y', 'z'], 'answer': 'y'}`+"\n", 6) +
				`__import__('os').system('true')` + "\n" +
				`{'context': 'c', 'question': 'q', 'options': ['x', 'y'], 'answer': 'w'}` + "\n" +
				`{'context': 'c', 'question': 'q', 'options': ['x'], 'answer': 'x'}` + "\n" +
				`{"context": "c", "question": null, "question_mark": "<Q41>", "options": ["x", "y"], "answer": "x"}` + "\n" +
				strings.Repeat("[", 100000),
			[]string{"p1:5", "p1:9"},
			[]string{"7: invalid Python literal at byte 0: a name", "8: the answer \"w\" is not one", "9: 1 options", "11: invalid Python literal at byte 33: nested more than 32"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "mmlu/data/dev/virology_dev.csv", "")
			write(t, dir, "ceval/dev/law_dev.csv", "id,question,A,B,C,D,answer,explanation\n")
			write(t, dir, c.file, c.text)
			d := &Data{Root: dir}
			task, err := d.Load(c.task)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.ids, ids(task.Docs)); diff != "" {
				t.Errorf("questions (-want +got):\n%s", diff)
			}
			for i, p := range d.Problems {
				if p.File != filepath.Join(dir, filepath.FromSlash(c.file)) {
					t.Errorf("problem in %s, want %s", p.File, c.file)
				}
				if got := fmt.Sprintf("%d: %s", p.Line, p.Msg); i >= len(c.problems) || !strings.HasPrefix(got, c.problems[i]) {
					t.Errorf("problem %d: %s", i, got)
				}
			}
			if len(d.Problems) != len(c.problems) {
				t.Errorf("%d problems, want %v", len(d.Problems), c.problems)
			}
			strict := &Data{Root: dir, Strict: true}
			var p *Problem
			if _, err := strict.Load(c.task); !errors.As(err, &p) || !strings.HasPrefix(fmt.Sprintf("%d: %s", p.Line, p.Msg), c.problems[0]) {
				t.Errorf("strict: %v, want %s", err, c.problems[0])
			}
		})
	}
}

// TestLongLinesAreNotHeld reads files with a line of 256 MB, using a few megabytes of memory.
func TestLongLinesAreNotHeld(t *testing.T) {
	if testing.Short() {
		t.Skip("writes half a gigabyte")
	}
	const length = 256 << 20
	const row, object = "Q,a,b,c,d,A\n", "{'context': 'c', 'question': 'q', 'options': ['x', 'y'], 'answer': 'y'}\n"
	for _, c := range []struct{ name, task, file, good, before, after string }{
		{"a cell of two lines", "mmlu_virology", "mmlu/data/test/virology_test.csv", row, "\"Q", "\n\",b,c,d,e,A\n"},
		{"a quoted cell", "mmlu_virology", "mmlu/data/test/virology_test.csv", row, "\"Q", "\",b,c,d,e,A\n"},
		{"a bare cell", "mmlu_virology", "mmlu/data/test/virology_test.csv", row, "Q", ",b,\"c\",d,e,A\n"},
		{"a literal", "gaokao_english_listening", "gaokao_english/p/processed_listening.jsonl", object, "{'", "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "mmlu/data/dev/virology_dev.csv", "")
			write(t, dir, c.file, strings.Repeat(c.good, 6)+c.before)
			name := filepath.Join(dir, c.file)
			f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := bufio.NewWriter(f)
			block := strings.Repeat("x", 1<<20)
			for range length >> 20 {
				w.WriteString(block)
			}
			w.WriteString(c.after + c.good)
			if err := errors.Join(w.Flush(), f.Close()); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			d := &Data{Root: dir}
			got, err := d.Load(c.task)
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if n := len(got.Docs) + len(got.Shots); n != 7 {
				t.Errorf("%d questions, want the 7 on other lines", n)
			}
			if len(d.Problems) != 1 || d.Problems[0].Line != 7 {
				t.Errorf("problems: %v, want only line 7", d.Problems)
			}
			if held := after.TotalAlloc - before.TotalAlloc; held > 12*maxLineBytes {
				t.Errorf("reading took %d MB", held>>20)
			}
		})
	}
}

func TestUnclosedQuoteEndsAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "mmlu/data/dev/virology_dev.csv", "")
	write(t, dir, "mmlu/data/test/virology_test.csv", "Q,a,b,c,d,A\n\"Q,a,b,c,d,A\n"+strings.Repeat(strings.Repeat("x", 1000)+"\n", maxRecordBytes/1000))
	d := &Data{Root: dir}
	task, err := d.Load("mmlu_virology")
	if err != nil {
		t.Fatal(err)
	}
	if len(task.Docs) != 1 || len(d.Problems) != 1 || d.Problems[0].Line != 2 {
		t.Errorf("%d questions, problems %v; want 1, and one in line 2", len(task.Docs), d.Problems)
	}
}

func TestParseLiteral(t *testing.T) {
	for _, c := range []struct {
		text string
		want any // a string that begins with ! is an error
	}{
		{`{'a': 1, "b": [None, True, False], }`, map[string]any{"a": 1.0, "b": []any{nil, true, false}}},
		{`('x',)`, []any{"x"}},
		{`('x')`, "x"},
		{`()`, []any{}},
		{`[-1.5e3, +2, 1_000]`, []any{-1500.0, 2.0, 1000.0}},
		{`'it\'s' " \"so\" " u'\u4e2d' r'\n'`, `it's "so" 中\n`},
		{`'\x41\101\U0001F600\ud83d\ude00\q\
z'`, "AA😀😀\\qz"},
		{`'''a
'b' '''`, "a\n'b' "},
		{`'\ud83d'`, "!half of a surrogate pair"},
		{`'\N{DIGIT ONE}'`, "!named characters"},
		{`'a`, "!the string has no end"},
		{"'a\n'", "!the string has no end"},
		{`'\`, "!the string has no end"},
		{`b'a'`, "!a name"},
		{`f'{1+1}'`, "!a name"},
		{`{1: 2}`, "!want a string as a key"},
		{`{'a' 1}`, "!want ':'"},
		{`{'a': 1 'b': 2}`, "!want a comma"},
		{`[1 2]`, "!want a comma"},
		{`[1] [2]`, "!text follows"},
		{`[,]`, "!a name"},
		{`open('x')`, "!a name"},
		{`[x for x in y]`, "!a name"},
		{``, "!a value is missing"},
		{`1-`, "!\"1-\" is not a number"},
		{`'\x4'`, "!want 2 hexadecimal"},
		{`'\U00110000'`, "!want 8 hexadecimal"},
	} {
		got, err := parseLiteral(c.text)
		if want, ok := c.want.(string); ok && strings.HasPrefix(want, "!") {
			if err == nil || !strings.Contains(err.Error(), want[1:]) {
				t.Errorf("%s: got %v, %v; want an error with %q", c.text, got, err, want[1:])
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
}

// TestLiteralsOfAnyTextEnd parses random text of the characters that literals have.
func TestLiteralsOfAnyTextEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parseValue([]byte(rapid.StringOfN(rapid.SampledFrom([]rune(`{}[]()'",:\ux41 NoneTrue.-
`)), 0, 60, -1).Draw(t, "text")))
	})
}

func FuzzParseValue(f *testing.F) {
	f.Add([]byte(`{'a': ['x', "y"], 'b': None}`))
	f.Fuzz(func(_ *testing.T, text []byte) { parseValue(text) })
}

func TestOptionLabelsAreCutOnce(t *testing.T) {
	for in, want := range map[string]string{
		"(A)x": "x", "（B）x": "x", "A．x ": "x", " A. x": "x", "　C、x": "x", "D：x": "x", "G:x": "x", "H. x": "H. x", "(A)(B)x": "(B)x",
		"A x": "A x", "\x1cA\x1f. x\x1d": "x",
	} {
		if got := cutLabel(in); got != want {
			t.Errorf("cutLabel(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestCEvalTestSplitHasNoAnswers reads the test split of C-Eval, whose file has no answers.
func TestCEvalTestSplitHasNoAnswers(t *testing.T) {
	d := &Data{Root: "testdata/samples", Split: "test"}
	task, err := d.Load("ceval_computer_network")
	if err != nil {
		t.Fatal(err)
	}
	if len(task.Docs) == 0 || len(d.Problems) != 0 {
		t.Fatalf("%d questions, problems %v", len(task.Docs), d.Problems)
	}
	for _, doc := range task.Docs {
		if doc.Gold != "" {
			t.Errorf("question %s has the answer %q", doc.ID, doc.Gold)
		}
	}
}

func TestHarnessStyle(t *testing.T) {
	d := &Data{Root: "testdata/samples", HarnessStyle: true}
	for name, want := range map[string]string{
		"mmlu_computer_security": "The following are multiple choice questions (with answers) about computer security.\n\n",
		"ceval_computer_network": "以下是中国关于计算机网络的单项选择题，请选出其中的正确答案。\n\n",
		"agieval_aqua-rat":       "The following are multiple choice questions (with answers) about  aqua rat.\n\n",
		"agieval_gaokao-physics": "以下是中国关于高考物理考试的单项选择题，请选出其中的正确答案。\n\n",
	} {
		task, err := d.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if task.Header != want {
			t.Errorf("%s: header %q, want %q", name, task.Header, want)
		}
	}
}

func TestOfficialShots(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "agieval/data/v1/sat-math.jsonl", strings.Repeat(`{"question":"Q","options":["(A)x","(B)y"],"label":"A"}`+"\n", 3))
	write(t, dir, "agieval/data/few_shot_prompts.csv", `,math,sat-math
sample 1,,"{'passage': None, 'question': 'one', 'options': ['(A)x', '(B)y'], 'label': 'B'}"
explanation 1,,because
sample 2,,"{'passage': None, 'question': 'two', 'options': ['(A)x', '(B)y'], 'label': ['A', 'B']}"
`)
	d := &Data{Root: dir, OfficialShots: true, Strict: true}
	task, err := d.Load("agieval_sat-math")
	if err != nil {
		t.Fatal(err)
	}
	if len(task.Docs) != 3 || len(task.Shots) != 1 || task.Shots[0].Body != "one\nA. x\nB. y\nAnswer:" || task.Shots[0].Gold != "B" {
		t.Errorf("%d questions, shots %+v; want all 3, and the single-answer shot", len(task.Docs), task.Shots)
	}
}

// TestSubstituteIsNamed reads papers that are not the published ones.
func TestSubstituteIsNamed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "gaokao_english/derived/p/processed_listening.jsonl", strings.Repeat("{'context': 'c', 'question': 'q', 'options': ['x', 'y'], 'answer': 'y'}\n", 7))
	d := &Data{Root: dir, Strict: true}
	task, err := d.Load("gaokao_english_listening")
	if err != nil {
		t.Fatal(err)
	}
	if len(task.Docs) != 2 || len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "substitute") {
		t.Errorf("%d questions, notes %q", len(task.Docs), d.Notes)
	}
	write(t, dir, "gaokao_english/p/processed_listening.jsonl", "")
	d = &Data{Root: dir}
	if task, err = d.Load("gaokao_english_listening"); err != nil || len(task.Docs) != 0 || len(d.Notes) != 0 {
		t.Errorf("the published papers take precedence: %+v, notes %q, %v", task, d.Notes, err)
	}
}

func TestAbsentFilesAreNotProblems(t *testing.T) {
	d := &Data{Root: t.TempDir(), Strict: true}
	for _, name := range taskNames {
		if _, err := d.Load(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want fs.ErrNotExist", name, err)
		}
	}
}

// TestCatalogue counts tasks as the benchmarks' authors do (57 and 52 subjects, 18 tasks, 7 files, 4 subsets).
func TestCatalogue(t *testing.T) {
	want := map[string]int{
		"mmlu": 57, "mmlu_stem": 18, "mmlu_humanities": 13, "mmlu_social_sciences": 12, "mmlu_other": 14,
		"ceval": 52, "ceval_stem": 20, "ceval_social_science": 10, "ceval_humanities": 11, "ceval_other": 11, "ceval_hard": 8,
		"agieval": 18, "agieval_en": 8, "agieval_zh": 10,
		"gaokao_bench": 7, "gaokao_bench_all": 13, "gaokao_english": 4, "gaokao_english_4": 2,
	}
	got := map[string]int{}
	for name, g := range groups {
		got[name] = len(g.Tasks)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tasks of groups (-want +got):\n%s", diff)
	}
}

// TestPipesAreNoData gives the reader a pipe, on which reading would wait for a writer.
func TestPipesAreNoData(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "mmlu/data/dev/anatomy_dev.csv")
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o666); err != nil {
		t.Skipf("no named pipes: %v", err)
	}
	d := &Data{Root: root}
	var wrong *regular.Error
	if _, err := d.Load("mmlu_anatomy"); !errors.As(err, &wrong) {
		t.Errorf("got %v", err)
	}
	for name, read := range map[string]func(string) error{
		"results": func(name string) error { _, err := ReadSummary(name); return err },
		"card":    func(name string) error { _, err := ReadCard(name); return err },
	} {
		if err := read(file); !errors.As(err, &wrong) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
