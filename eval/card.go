package eval

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"pumice/internal/regular"
)

// A Card holds scores in percent as model cards print them: a number for each benchmark and for each category of MMLU
// and C-Eval.
type Card struct {
	Source string    `json:"source,omitempty"` // origin of published rows
	Rows   []CardRow `json:"rows"`
}

// A CardRow holds one model's scores. An unknown score is absent.
type CardRow struct {
	Model     string             `json:"model"`
	Type      string             `json:"type,omitempty"` // "pretrained" or "chat"
	Scores    map[string]float64 `json:"scores"`         // by group: "mmlu", "mmlu_stem", "ceval", ...
	Published bool               `json:"-"`              // published by others, not measured here
	Partial   bool               `json:"-"`              // only some of the questions were asked
}

//go:embed published.json
var publishedJSON []byte

// PublishedCard returns the scores in the model card of XVERSE-7B-Chat.
func PublishedCard() *Card {
	c, err := parseCard("published.json", publishedJSON)
	if err != nil {
		panic(err) // the text is embedded in the program
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

// CardRow returns the measured scores as a row of a card.
func (s *Summary) CardRow() CardRow {
	r := CardRow{Model: s.Identity.Model, Scores: map[string]float64{}}
	if s.Identity.NumShots != NumShots { // as published rows are
		r.Model += fmt.Sprintf(", %d-shot", s.Identity.NumShots)
	}
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

// label returns the model's name, marked if the scores were published by others or are not for all questions.
func (r CardRow) label() string {
	switch {
	case r.Published:
		return r.Model + " (published)"
	case r.Partial:
		return r.Model + " (part of the questions)"
	}
	return r.Model
}

// cardTable is one table of the card: its heading, its groups and the titles of its columns.
type cardTable struct {
	heading string
	groups  []string
	titles  []string
}

// cardTables returns the card's three tables.
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

// CardTables returns rows as the tables of the XVERSE-7B-Chat card, in percent. A table for which the first row has no
// score is left out.
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
