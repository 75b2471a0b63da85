package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mmlu reads data/{dev,test}/<subject>_{dev,test}.csv, which have no header: question, A, B, C, D, answer.
func (d *Data) mmlu(t *Task, subject string) error {
	d.english(t, subject)
	read := func(split string) ([]Doc, error) {
		s := d.source(d.dir(MMLU), "data", split, subject+"_"+split+".csv")
		var docs []Doc
		err := s.rows(func(i, line int, row []string) error {
			if len(row) != 6 {
				return s.problem(line, "%d columns, want question, A, B, C, D, answer", len(row))
			}
			if !isLetter(row[5], 4) {
				return s.problem(line, "the answer %.20q is not A, B, C or D", row[5])
			}
			question := row[0]
			if d.HarnessStyle {
				question = trim(question)
			}
			docs = append(docs, t.question(strconv.Itoa(i), question, row[1:5], row[5]))
			return nil
		})
		return docs, err
	}
	return t.both(read, "dev", "test")
}

// both fills a task whose files have a split for the examples.
func (t *Task) both(read func(split string) ([]Doc, error), dev, scored string) error {
	shots, err := read(dev)
	if err != nil {
		return err
	}
	t.Shots = shots[:min(NumShots, len(shots))]
	t.Docs, err = read(scored)
	return err
}

// ceval reads dev/<subject>_dev.csv and the file of the scored split, which have a header.
func (d *Data) ceval(t *Task, subject string) error {
	for _, s := range cevalSubjects {
		if s.key == subject {
			d.chinese(t, s.name)
		}
	}
	read := func(split string) ([]Doc, error) {
		s := d.source(d.dir(CEval), split, subject+"_"+split+".csv")
		var docs []Doc
		columns := map[string]int{}
		err := s.rows(func(i, line int, row []string) error {
			if i == 0 {
				for at, name := range row {
					columns[name] = at
				}
				return nil
			}
			cell := func(name string) (string, bool) {
				at, ok := columns[name]
				if !ok || at >= len(row) {
					return "", false
				}
				return row[at], true
			}
			var cells []string
			for _, name := range []string{"id", "question", "A", "B", "C", "D"} {
				v, ok := cell(name)
				if !ok {
					return s.problem(line, "no column %q", name)
				}
				cells = append(cells, v)
			}
			gold, ok := cell("answer")
			if !ok && split != "test" {
				return s.problem(line, "no column %q", "answer")
			}
			if !(isLetter(gold, 4) || gold == "" && split == "test") {
				return s.problem(line, "the answer %.20q is not A, B, C or D", gold)
			}
			question := cells[1]
			if d.HarnessStyle {
				question = trim(question)
			}
			docs = append(docs, t.question(cells[0], question, cells[2:], gold))
			return nil
		})
		return docs, err
	}
	split := d.Split
	if split == "" {
		split = "val"
	}
	return t.both(read, "dev", split)
}

// agieval reads data/v1/<name>.jsonl. It keeps questions that have options and exactly one right letter.
func (d *Data) agieval(t *Task, name string) error {
	if zh, ok := agievalNames[name]; ok {
		d.chinese(t, zh)
	} else {
		d.english(t, name)
	}
	s := d.source(d.dir(AGIEval), "data", "v1", name+".jsonl")
	err := s.lines(func(n, _ int, line []byte) error {
		v, err := parseJSON(line)
		if err != nil {
			return s.problem(n, "%v", err)
		}
		doc, kept, err := t.agievalDoc(strconv.Itoa(n-1), v)
		switch {
		case err != nil:
			return s.problem(n, "%v", err)
		case kept:
			t.Docs = append(t.Docs, doc)
		default:
			t.Skipped++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !d.OfficialShots {
		t.takeShots()
		return nil
	}
	return d.agievalShots(t, name)
}

func (t *Task) agievalDoc(id string, v any) (doc Doc, kept bool, err error) {
	f := fields{object: v}
	passage := f.optional("passage")
	question := f.text("question")
	options := f.texts("options")
	label := f.labels("label")
	if f.err != nil {
		return doc, false, f.err
	}
	if len(options) < 2 && len(label) > 0 {
		return doc, false, fmt.Errorf("the label %.20q, but %d options", label[0], len(options))
	}
	if len(label) != 1 {
		return doc, false, nil
	}
	if len(options) > len(letters) {
		return doc, false, fmt.Errorf("%d options, at most %d have letters", len(options), len(letters))
	}
	if !isLetter(label[0], len(options)) {
		return doc, false, fmt.Errorf("the label %.20q is not a letter of the %d options", label[0], len(options))
	}
	for i := range options {
		options[i] = cutLabel(options[i])
	}
	text := strings.TrimLeft(trim(passage)+"\n"+trim(question), "\n")
	return t.question(id, text, options, label[0]), true, nil
}

// agievalShots reads data/few_shot_prompts.csv. It has a column for each task, and rows "sample i" with a Python dict,
// each followed by a row with its explanation.
func (d *Data) agievalShots(t *Task, name string) error {
	s := d.source(d.dir(AGIEval), "data", "few_shot_prompts.csv")
	column := -1
	return s.rows(func(i, line int, row []string) error {
		if i == 0 {
			column = slices.Index(row, name)
			return nil
		}
		if column < 0 || column >= len(row) || !strings.HasPrefix(row[0], "sample") || trim(row[column]) == "" {
			return nil
		}
		v, err := parseValue([]byte(trim(row[column])))
		if err != nil {
			return s.problem(line, "column %q: %v", name, err)
		}
		shot, kept, err := t.agievalDoc(row[0], v)
		if err != nil {
			return s.problem(line, "column %q: %v", name, err)
		}
		if kept && len(t.Shots) < NumShots {
			t.Shots = append(t.Shots, shot)
		}
		return nil
	})
}

// gaokaoBench reads Data/Objective_Questions/<keyword>.json. The options are in the question's text.
func (d *Data) gaokaoBench(t *Task, keyword string) error {
	d.chinese(t, gaokaoNames[strings.Split(keyword, "_")[1]])
	s := d.source(d.dir(GaokaoBench), "Data", "Objective_Questions", keyword+".json")
	text, err := s.whole()
	if err != nil || text == nil {
		return err
	}
	var shots, docs []Doc
	items := 0
	err = s.examples(text, func(i, line int, item any) error {
		f := fields{object: item}
		question, answers, points := f.text("question"), f.texts("answer"), f.number("score")
		if f.err != nil {
			return s.problem(line, "item %d: %v", i, f.err)
		}
		question = trim(question)
		var subs []Doc
		for k, answer := range answers {
			if len([]rune(answer)) != 1 {
				t.Skipped++
				continue
			}
			if !isLetter(answer, 4) {
				if err := s.problem(line, "item %d: the answer %.20q is not A, B, C or D", i, answer); err != nil {
					return err
				}
				continue
			}
			doc := Doc{ID: strconv.Itoa(i), Body: question + "\n" + cueChinese, N: 4, Gold: answer, Question: question, Points: points}
			if len(answers) > 1 {
				doc.ID = fmt.Sprintf("%d.%d", i, k+1)
				doc.Body = fmt.Sprintf("%s\n（%d）%s", question, k+1, cueChinese)
			}
			subs = append(subs, doc)
		}
		if len(subs) == 0 {
			return nil
		}
		if items++; items <= NumShots {
			shots = append(shots, subs[0])
		} else {
			docs = append(docs, subs...)
		}
		return nil
	})
	t.Shots, t.Docs = shots, docs
	return err
}

// examples calls each with the items of the list "example" of a JSON object, up to the first that can't be parsed.
func (s *source) examples(text []byte, each func(i, line int, item any) error) error {
	var top struct {
		Example []json.RawMessage `json:"example"`
	}
	if err := json.Unmarshal(text, &top); err != nil {
		line := 1
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line += bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		}
		return s.problem(line, "invalid JSON: %v", err)
	}
	if top.Example == nil {
		return s.problem(1, "no list %q", "example")
	}
	at := 0
	for i, raw := range top.Example {
		if found := bytes.Index(text[at:], raw); found >= 0 {
			at += found
		}
		line := 1 + bytes.Count(text[:at], []byte("\n"))
		item, err := parseJSON(raw)
		if err != nil {
			return s.problem(line, "item %d: %v", i, err)
		}
		if err := each(i, line, item); err != nil {
			return err
		}
		at += len(raw)
	}
	return nil
}

// derivedDir is the directory of the substitute for AI-Gaokao's papers, which may exist beside them or instead of them.
const derivedDir = "derived"

// gaokaoEnglish reads <paper>/processed_*.jsonl of every paper, in the order of their names. Each line is a Python
// dict.
func (d *Data) gaokaoEnglish(t *Task, subset string) error {
	d.english(t, "gaokao_english")
	var name string
	for _, s := range gaokaoSubsets {
		if s.key == subset {
			name = s.file
		}
	}
	dir := d.dir(GaokaoEnglish)
	papers, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*", name))
	if err != nil {
		return err
	}
	if len(papers) == 0 {
		papers, err = filepath.Glob(filepath.Join(escapeGlob(dir), derivedDir, "*", name))
		if err != nil {
			return err
		}
		note := "gaokao_english is " + filepath.Join(dir, derivedDir) +
			", a substitute: its numbers are not those of the published benchmark."
		if len(papers) > 0 && !slices.Contains(d.Notes, note) {
			d.Notes = append(d.Notes, note)
		}
	}
	if len(papers) == 0 {
		return &fs.PathError{Op: "open", Path: filepath.Join(dir, "*", name), Err: os.ErrNotExist}
	}
	slices.Sort(papers)
	for _, file := range papers {
		s := &source{d, file}
		paper := filepath.Base(filepath.Dir(file))
		err := s.lines(func(n, i int, line []byte) error {
			v, err := parseValue([]byte(trim(string(line))))
			if err != nil {
				return s.problem(n, "%v", err)
			}
			f := fields{object: v}
			context, question, options, answer := f.text("context"), f.optional("question"), f.texts("options"), f.text("answer")
			if question == "" {
				question = f.text("question_mark")
			}
			gold := slices.Index(options, answer)
			switch {
			case f.err != nil:
				return s.problem(n, "%v", f.err)
			case len(options) < 2 || len(options) > len(letters):
				return s.problem(n, "%d options, want 2 to %d", len(options), len(letters))
			case gold < 0:
				return s.problem(n, "the answer %.40q is not one of the options", answer)
			}
			id := fmt.Sprintf("%s:%d", paper, i)
			t.Docs = append(t.Docs, t.question(id, trim(context)+"\n"+trim(question), options, letters[gold:gold+1]))
			return nil
		})
		if err != nil {
			return err
		}
	}
	t.takeShots()
	return nil
}

// escapeGlob returns a glob pattern that matches only path.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// fields reads the members of an object. The first error sticks.
type fields struct {
	object any
	err    error
}

func (f *fields) fail(key, want string) {
	if f.err == nil {
		f.err = fmt.Errorf("%q: want %s", key, want)
	}
}

// member returns a member, or nil if it is absent.
func (f *fields) member(key string) any {
	m, ok := f.object.(map[string]any)
	if !ok {
		if f.err == nil {
			f.err = errors.New("not an object")
		}
		return nil
	}
	return m[key]
}

func (f *fields) text(key string) string {
	s, ok := f.member(key).(string)
	if !ok {
		f.fail(key, "a string")
	}
	return s
}

// optional is text, but returns "" if the member is null or absent.
func (f *fields) optional(key string) string {
	if f.member(key) == nil {
		return ""
	}
	return f.text(key)
}

// texts reads a list of strings, or nil if it is null.
func (f *fields) texts(key string) []string {
	v := f.member(key)
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	var out []string
	for _, item := range list {
		s, isText := item.(string)
		ok = ok && isText
		out = append(out, s)
	}
	if !ok {
		f.fail(key, "a list of strings")
	}
	return out
}

// labels reads the right letters: the items of a list, or each of A to G in a string.
func (f *fields) labels(key string) []string {
	v := f.member(key)
	if _, ok := v.([]any); ok {
		return f.texts(key)
	}
	if v == nil {
		return nil
	}
	text := f.text(key)
	var out []string
	for _, r := range text {
		if strings.ContainsRune(letters, r) {
			out = append(out, string(r))
		}
	}
	if len(out) == 0 && trim(text) != "" {
		return []string{text} // the caller reports that it is not a letter
	}
	return out
}

// number returns a number, or 0 if it is null or absent.
func (f *fields) number(key string) float64 {
	v := f.member(key)
	n, ok := v.(float64)
	if v != nil && !ok {
		f.fail(key, "a number")
	}
	return n
}
