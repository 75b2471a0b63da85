package eval

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// A Doc is one question. Body ends in the task's cue.
type Doc struct {
	ID   string
	Body string
	N    int    // choices
	Gold string // the right one's letter, "" where the file doesn't tell

	Question string   // as Body has it; with Options for whoever reads the samples
	Options  []string // nil where the question's text holds them
	Points   float64  // GAOKAO-Bench: what the examination gives for it
}

// A Task is the questions of one subject or file, and the examples that stand before each.
type Task struct {
	Name      string
	Benchmark string
	Header    string
	Shots     []Doc
	Docs      []Doc
	Cue, Sep  string // the last words of a question, and what stands between them and the letter
	Skipped   int    // questions of the file that are no single-answer ones
}

// prompt is the text for a question with the first k examples before it.
func (t *Task) prompt(d *Doc, k int) string { return t.preamble(k) + d.Body }

func (t *Task) preamble(k int) string {
	var b strings.Builder
	b.WriteString(t.Header)
	for _, s := range t.Shots[:k] {
		b.WriteString(s.Body)
		b.WriteString(t.Sep)
		b.WriteString(s.Gold)
		b.WriteString("\n\n")
	}
	return b.String()
}

// Benchmarks, which are the directories' names too.
const (
	MMLU          = "mmlu"
	CEval         = "ceval"
	AGIEval       = "agieval"
	GaokaoBench   = "gaokao_bench"
	GaokaoEnglish = "gaokao_english"
)

// Benchmarks lists the names of the five benchmarks in the order of the model card.
func Benchmarks() []string { return []string{MMLU, CEval, AGIEval, GaokaoBench, GaokaoEnglish} }

// NumShots is how many examples the model card's "5-shot" is. Files without a part for examples give away as many of their
// first questions, whatever number is then shown.
const NumShots = 5

// Data says where the files of the benchmarks are and how they become questions. The zero value reads them from the working
// directory, in the styles that the model card's numbers were made with.
type Data struct {
	Root string            // holds a directory for each benchmark
	Dirs map[string]string // benchmark to directory, where it lies elsewhere

	Split         string // of C-Eval: "val" (also "") or "test"
	HarnessStyle  bool   // prompts of MMLU and C-Eval as lm-evaluation-harness writes them
	OfficialShots bool   // AGIEval: the examples of few_shot_prompts.csv, and every question scored
	Strict        bool   // stop at the first problem with the files' contents

	Problems []Problem // of the tasks loaded so far
	Notes    []string  // on these, in whole sentences
}

// An UnknownTaskError is a name that no task or group has.
type UnknownTaskError struct{ Name string }

func (e *UnknownTaskError) Error() string {
	return fmt.Sprintf("eval: no task or group %q", e.Name)
}

// Load reads a task. The error is fs.ErrNotExist by errors.Is where its files are absent, a *Problem where one stopped it.
func (d *Data) Load(name string) (*Task, error) {
	info, ok := tasks[name]
	if !ok {
		return nil, &UnknownTaskError{name}
	}
	t := &Task{Name: name, Benchmark: info.Benchmark}
	var err error
	switch info.Benchmark {
	case MMLU:
		err = d.mmlu(t, info.Key)
	case CEval:
		err = d.ceval(t, info.Key)
	case AGIEval:
		err = d.agieval(t, info.Key)
	case GaokaoBench:
		err = d.gaokaoBench(t, info.Key)
	case GaokaoEnglish:
		err = d.gaokaoEnglish(t, info.Key)
	}
	var problem *Problem
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &problem):
		return nil, err
	}
	return nil, fmt.Errorf("eval: %s: %w", name, err)
}

// dir is where a benchmark's files are.
func (d *Data) dir(benchmark string) string {
	if dir := d.Dirs[benchmark]; dir != "" {
		return dir
	}
	return filepath.Join(d.Root, benchmark)
}

func (d *Data) source(elem ...string) *source { return &source{d, filepath.Join(elem...)} }

const (
	cueEnglish = "Answer:"
	cueChinese = "答案："
)

// english makes t a task in the format of the authors of MMLU. Its subject has a blank before every word, so that two stand
// after "about" (evaluate.py of hendrycks/test, format_subject).
func (d *Data) english(t *Task, subject string) {
	subject = strings.NewReplacer("_", " ", "-", " ").Replace(subject)
	if !d.HarnessStyle || t.Benchmark != MMLU {
		subject = " " + subject
	}
	t.Header = "The following are multiple choice questions (with answers) about " + subject + ".\n\n"
	t.Cue, t.Sep = cueEnglish, " "
}

// chinese makes t a task in the format of C-Eval's README for answers without explanations.
func (d *Data) chinese(t *Task, subject string) {
	examination := "考试"
	t.Cue = cueChinese
	if d.HarnessStyle && t.Benchmark == CEval {
		examination, t.Sep = "", " "
	}
	t.Header = "以下是中国关于" + subject + examination + "的单项选择题，请选出其中的正确答案。\n\n"
}

// question makes a Doc of a question and options that are still apart.
func (t *Task) question(id, question string, options []string, gold string) Doc {
	return Doc{
		ID: id, Body: question + choices(options) + "\n" + t.Cue, N: len(options), Gold: gold,
		Question: question, Options: append([]string(nil), options...),
	}
}

// takeShots moves the first questions to the examples, for files that have no part for them.
func (t *Task) takeShots() {
	n := min(NumShots, len(t.Docs))
	t.Shots, t.Docs = t.Docs[:n:n], t.Docs[n:]
}

// FirstPrompt is the text of the first question with numShots examples before it, "" where there is none.
func (t *Task) FirstPrompt(numShots int) string {
	if len(t.Docs) == 0 {
		return ""
	}
	return t.prompt(&t.Docs[0], min(numShots, len(t.Shots)))
}
