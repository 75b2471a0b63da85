package eval

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"pumice/internal/regular"
)

// A Card is scores in percent as model cards print them: a number a benchmark, and one a category of MMLU and C-Eval.
type Card struct {
	Source string    `json:"source,omitempty"` // of published rows
	Rows   []CardRow `json:"rows"`
}

// A CardRow is one model's numbers. A number that isn't given is absent.
type CardRow struct {
	Model     string             `json:"model"`
	Type      string             `json:"type,omitempty"` // "pretrained" or "chat"
	Scores    map[string]float64 `json:"scores"`         // by group: "mmlu", "mmlu_stem", "ceval", ...
	Published bool               `json:"-"`              // by somebody else, not measured
	Partial   bool               `json:"-"`              // of a part of the questions
}

//go:embed published.json
var publishedJSON []byte

// PublishedCard is the numbers that the card of XVERSE-7B-Chat has.
func PublishedCard() *Card {
	c, err := parseCard("published.json", publishedJSON)
	if err != nil {
		panic(err) // it is part of the program
	}
	return c
}

// ReadCard reads published rows from a file: {"source": "...", "rows": [{"model": "...", "type": "...", "scores": {"mmlu": 63.7}}]}.
func ReadCard(name string) (*Card, error) {
	text, err := regular.ReadFile(name, maxFileBytes)
	if err != nil {
		return nil, err
	}
	return parseCard(name, text)
}

func parseCard(name string, text []byte) (*Card, error) {
	var c Card
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, &ResultError{name, err.Error()}
	}
	for i := range c.Rows {
		r := &c.Rows[i]
		r.Published = true
		if r.Model == "" {
			return nil, &ResultError{name, fmt.Sprintf("row %d has no model", i)}
		}
		for key, v := range r.Scores {
			if groups[key] == nil || v < 0 || v > 100 {
				return nil, &ResultError{name, fmt.Sprintf("row %d: score %q: %v: want percent of a group", i, key, v)}
			}
		}
	}
	return &c, nil
}

// CardRow is the measured model as a row of the card.
func (s *Summary) CardRow() CardRow {
	r := CardRow{Model: s.Identity.Model, Scores: map[string]float64{}}
	if s.Identity.ChatTemplate != "" {
		r.Type = "chat"
	}
	r.Partial = s.Identity.Limit > 0 || len(s.Identity.Samples) > 0 || s.Shard != ""
	for _, g := range s.Groups {
		if g.Accuracy != nil {
			r.Scores[g.Name] = 100 * *g.Accuracy
			r.Partial = r.Partial || g.Found < g.Of
		}
	}
	return r
}

// label marks what was not measured here, and what isn't the benchmarks' result.
func (r CardRow) label() string {
	switch {
	case r.Published:
		return r.Model + " (published)"
	case r.Partial:
		return r.Model + " (part of the questions)"
	}
	return r.Model
}

// cardTable is one table of the card: its heading and what its columns are called.
type cardTable struct {
	heading string
	groups  []string
	titles  []string
}

// cardTables are the card's three tables.
func cardTables() []cardTable {
	overall := cardTable{heading: "Overall"}
	for _, b := range Benchmarks() {
		overall.groups, overall.titles = append(overall.groups, b), append(overall.titles, titles[b])
	}
	out := []cardTable{overall}
	for _, b := range []string{MMLU, CEval} {
		t := cardTable{titles[b] + " by category", []string{b}, []string{"Average"}}
		for _, name := range groupNames {
			if g := groups[name]; g.Parent == b && name != "ceval_hard" {
				t.groups, t.titles = append(t.groups, name), append(t.titles, g.Title)
			}
		}
		out = append(out, t)
	}
	return out
}

// CardTables writes rows as the tables of the XVERSE-7B-Chat card, in percent. A table that the first row has no number for is
// left out.
func CardTables(rows []CardRow) string {
	var b strings.Builder
	for _, t := range cardTables() {
		if len(rows) == 0 || !rows[0].hasAny(t.groups) {
			continue
		}
		left := []bool{true, true}
		var cells [][]string
		for _, r := range rows {
			if !r.hasAny(t.groups) {
				continue
			}
			line := []string{r.label(), r.Type}
			for _, g := range t.groups {
				v, ok := r.Scores[g]
				text := "-"
				if ok {
					text = fmt.Sprintf("%.1f", v)
				}
				line = append(line, text)
			}
			cells = append(cells, line)
		}
		for range t.groups {
			left = append(left, false)
		}
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s\n\n%s", t.heading, render(append([]string{"Models", "Type"}, t.titles...), left, cells))
	}
	return b.String()
}

func (r CardRow) hasAny(groups []string) bool {
	for _, g := range groups {
		if _, ok := r.Scores[g]; ok {
			return true
		}
	}
	return false
}
