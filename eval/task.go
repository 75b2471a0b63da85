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
	Gold string // letter of the right choice, or "" if the file has no answer

	Question string   // the text in Body; with Options, for readers of the samples
	Options  []string // nil if the question's text contains them
	Points   float64  // GAOKAO-Bench: points in the examination
}

// A Task has the questions of one subject or file, and the examples shown before each.
type Task struct {
	Name      string
	Benchmark string
	Header    string
	Shots     []Doc
	Docs      []Doc
	Cue, Sep  string // the last words of a question, and the text between them and the letter
	Skipped   int    // questions of the file that aren't single-answer ones
}

// prompt returns the text of a question after the first k examples.
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

// Benchmarks. These are also the names of their directories.
const (
	MMLU          = "mmlu"
	CEval         = "ceval"
	AGIEval       = "agieval"
	GaokaoBench   = "gaokao_bench"
	GaokaoEnglish = "gaokao_english"
)

// Benchmarks lists the names of the five benchmarks in the order of the model card.
func Benchmarks() []string { return []string{MMLU, CEval, AGIEval, GaokaoBench, GaokaoEnglish} }

// NumShots is the number of examples in the model card's "5-shot". In files without a split for examples, the first
// questions are taken as examples, always NumShots of them, however many are shown.
const NumShots = 5

// Data says where the files of the benchmarks are and how questions are made from them. The zero value reads them from
// the working directory, in the styles of the model card's numbers.
type Data struct {
	Root string            // has a directory for each benchmark
	Dirs map[string]string // directories of benchmarks that are elsewhere

	Split         string // of C-Eval: "val" (also "") or "test"
	HarnessStyle  bool   // prompts of MMLU and C-Eval in the style of lm-evaluation-harness
	OfficialShots bool   // AGIEval: take the examples of few_shot_prompts.csv, and score every question
	Strict        bool   // stop at the first problem with the files' contents

	Problems []Problem // problems in the tasks loaded so far
	Notes    []string  // whole sentences on these tasks
}

// An UnknownTaskError says that no task or group has the name.
type UnknownTaskError struct{ Name string }

func (e *UnknownTaskError) Error() string {
	return fmt.Sprintf("eval: no task or group %q", e.Name)
}

// Load reads a task. The error matches fs.ErrNotExist if its files are absent, and is a *Problem if one stopped it.
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

// dir returns the directory of a benchmark's files.
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

// english makes t a task in the format of the authors of MMLU. Every word of its subject has a blank before it, so
// that there are two blanks after "about" (evaluate.py of hendrycks/test, format_subject).
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

// question makes a Doc from a question and separate options.
func (t *Task) question(id, question string, options []string, gold string) Doc {
	return Doc{
		ID: id, Body: question + choices(options) + "\n" + t.Cue, N: len(options), Gold: gold,
		Question: question, Options: append([]string(nil), options...),
	}
}

// takeShots moves the first questions to the examples, for files without a split for examples.
func (t *Task) takeShots() {
	n := min(NumShots, len(t.Docs))
	t.Shots, t.Docs = t.Docs[:n:n], t.Docs[n:]
}

// FirstPrompt returns the text of the first question after numShots examples, or "" if there is no question.
func (t *Task) FirstPrompt(numShots int) string {
	if len(t.Docs) == 0 {
		return ""
	}
	return t.prompt(&t.Docs[0], min(numShots, len(t.Shots)))
}
