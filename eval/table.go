package eval

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// fewRows is how many rows of a table show its groups well enough without another table.
const fewRows = 20

// Table returns the tables of lm-evaluation-harness: a row for each task, indented under its groups, then, if there are many, the
// groups again.
func Table(s *Summary) string {
	head := []string{"Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"}
	left := []bool{true, false, true, false, true, true, false, true, false}
	byName := map[string]TaskSummary{}
	for _, t := range s.Tasks {
		byName[t.Name] = t
	}
	rowOf := func(name string, shots any, acc, stderr *float64) []string {
		return []string{name, fmt.Sprint(protocolVersion), "none", fmt.Sprint(shots), "acc", "↑", fixed(acc), "±", fixed(stderr)}
	}
	task := func(indent string, t TaskSummary) []string {
		return rowOf(indent+t.Name, t.NumShots, defined(t.Accuracy()), defined(t.Stderr()))
	}
	var all, onlyGroups [][]string
	listed := map[string]bool{}
	for _, g := range s.Groups {
		indent := ""
		if g.Parent != "" && slices.ContainsFunc(s.Groups, func(p GroupSummary) bool { return p.Name == g.Parent }) {
			indent = " - "
		}
		name := indent + g.Name
		if g.Found < g.Of {
			name += fmt.Sprintf(" (%d of %d tasks)", g.Found, g.Of)
		}
		r := rowOf(name, "", g.Accuracy, g.Stderr)
		all, onlyGroups = append(all, r), append(onlyGroups, r)
		hasCategories := slices.ContainsFunc(s.Groups, func(c GroupSummary) bool { return c.Parent == g.Name })
		for _, name := range groups[g.Name].Tasks {
			if t, ok := byName[name]; ok && !hasCategories && !listed[name] {
				listed[name] = true
				all = append(all, task(strings.Repeat(" ", len(indent))+" - ", t))
			}
		}
	}
	for _, t := range s.Tasks {
		if !listed[t.Name] {
			all = append(all, task("", t))
		}
	}
	out := render(head, left, all)
	if len(onlyGroups) > 0 && len(all) > fewRows {
		head[0] = "Groups"
		out += "\n" + render(head, left, onlyGroups)
	}
	return out + "\n" + notes(s)
}

// fixed formats a value from 0 to 1 with four digits.
func fixed(x *float64) string {
	if x == nil {
		return "N/A"
	}
	return fmt.Sprintf("%.4f", *x)
}

// percent formats a value as the model card prints it.
func percent(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", 100**x)
}

// notes returns remarks that a reader of the numbers must know.
func notes(s *Summary) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	id := s.Identity
	if id.Limit > 0 || len(id.Samples) > 0 {
		say("Only some of the questions were asked: these are not the benchmarks' results.")
	}
	if s.Shard != "" {
		say("Only shard %s: the questions of other shards are not included.", s.Shard)
	}
	shots := "0-shot"
	if id.NumShots > 0 {
		shots = fmt.Sprintf("Up to %d examples", id.NumShots)
	}
	say("%s; prompts of at most %d tokens, in %s own style%s.", shots, id.MaxLength, map[string]string{"authors": "the authors'", "harness": "lm-evaluation-harness's"}[id.PromptStyle],
		map[bool]string{true: ", as messages of a conversation"}[id.ChatTemplate != ""])
	fewer, cut := 0, 0
	for _, t := range s.Tasks {
		fewer, cut = fewer+t.FewerShots, cut+t.Truncated
	}
	if fewer > 0 {
		say("Questions with fewer examples, to keep that length: %d. Of these, cut at the beginning: %d.", fewer, cut)
	}
	for _, g := range s.Groups {
		if g.Found == 0 {
			continue
		}
		what, means := "over questions", []string{"mean over tasks " + percent(g.Macro)} // the table has the first
		if g.Headline == Macro {
			what, means = "the mean over tasks", []string{"over questions " + percent(g.Micro)}
		}
		if g.Categories != nil {
			means = append(means, "mean over categories "+percent(g.Categories))
		}
		if g.ScoreRate != nil {
			means = append(means, "points won "+percent(g.ScoreRate))
		}
		say("%s: the value is %s; in percent: %s (%d of %d tasks, %d scored).", g.Name, what, strings.Join(means, ", "), g.Found, g.Of, g.Questions)
	}
	for _, note := range s.Notes {
		say("%s", note)
	}
	if len(s.Absent) > 0 {
		say("Left out, because their files are absent: %s.", strings.Join(s.Absent, ", "))
	}
	if len(s.Problems) > 0 {
		say("%d problems in the files; the questions concerned are left out:", len(s.Problems))
		for i, p := range s.Problems {
			if i == 20 {
				say("  and %d more, in the results file", len(s.Problems)-i)
				break
			}
			say("  %s", strings.TrimPrefix(p.Error(), "eval: "))
		}
	}
	return b.String()
}

// render draws a table of GitHub's Markdown with aligned columns.
func render(head []string, left []bool, rows [][]string) string {
	width := slices.Repeat([]int{3}, len(head)) // Markdown's minimum
	for _, r := range append([][]string{head}, rows...) {
		for i, cell := range r {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(r []string) {
		for i, cell := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if left[i] {
				b.WriteString("|" + cell + pad)
			} else {
				b.WriteString("|" + pad + cell)
			}
		}
		b.WriteString("|\n")
	}
	line(head)
	for i := range head {
		if left[i] {
			b.WriteString("|" + strings.Repeat("-", width[i]))
		} else {
			b.WriteString("|" + strings.Repeat("-", width[i]-1) + ":")
		}
	}
	b.WriteString("|\n")
	for _, r := range rows {
		line(r)
	}
	return b.String()
}
