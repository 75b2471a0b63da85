package bench

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"pumice/internal/humanize"
)

//go:embed page.html
var pageText string

//go:embed page.js
var pageScript string

var page = template.Must(template.New("page").Parse(pageText))

// A cell of the page's table. Rows are sorted by its key.
type cell struct{ Text, Key, Class string }

type column struct {
	Name   string
	Number bool
	always bool
	of     func(m measurement) (text string, key float64)
}

func words(of func(m measurement) string) func(measurement) (string, float64) {
	return func(m measurement) (string, float64) { return of(m), 0 }
}

func amount(format string, of func(m measurement) float64) func(measurement) (string, float64) {
	return func(m measurement) (string, float64) {
		x := of(m)
		if x == 0 {
			return "", 0
		}
		return fmt.Sprintf(format, x), x
	}
}

// columns are those of the page. All but the first few are left out where every row says the same.
var columns = []column{
	{"test", false, true, words(func(m measurement) string { return m.test })},
	{"program", false, false, words(func(m measurement) string { return m.Program })},
	{"t/s, median", true, true, amount("%.2f", func(m measurement) float64 { return m.median })},
	{"spread", true, true, func(m measurement) (string, float64) { return m.Steadiness.cell(), m.Spread }},
	{"kernels right", false, true, words(func(m measurement) string { return m.Stamp.cell() })},
	{"model", false, false, words(func(m measurement) string { return m.ModelType })},
	{"device", false, false, words(measurement.device)},
	{"mean ± deviation", true, true, func(m measurement) (string, float64) { return fmt.Sprintf("%.2f ± %.2f", m.mean, m.stddev), m.mean }},
	{"of read bandwidth", true, false, amount("%.0f %%", func(m measurement) float64 { return 100 * m.bandwidth })},
	{"of peak", true, false, amount("%.0f %%", func(m measurement) float64 { return 100 * m.peak })},
	{"J/token", true, false, amount("%.3g", func(m measurement) float64 {
		if m.joules == nil {
			return 0
		}
		return *m.joules
	})},
	{"tokens as base", false, false, words(func(m measurement) string {
		if m.TokensCompared == 0 {
			return ""
		}
		return fmt.Sprintf("%d/%d", m.TokensEqual, m.TokensCompared)
	})},
	{"KL, base", true, false, amount("%.2g", func(m measurement) float64 { return m.KLBase })},
	{"KL, exact", true, false, amount("%.2g", func(m measurement) float64 {
		if m.KLExact == nil {
			return 0
		}
		return *m.KLExact
	})},
	{"runs", true, false, amount("%.0f", func(m measurement) float64 { return float64(len(m.samples)) })},
	{"size", true, false, func(m measurement) (string, float64) { return humanize.Bytes(m.ModelSize), float64(m.ModelSize) }},
	{"KV", false, false, words(func(m measurement) string { return m.TypeK })},
	{"backend", false, false, words(func(m measurement) string { return m.backend() })},
	{"path", false, false, words(func(m measurement) string { return m.KernelPath })},
	{"build", false, false, words(func(m measurement) string { return m.BuildCommit })},
	{"time", false, false, words(func(m measurement) string { return m.time })},
	{"file", false, false, words(func(m measurement) string { return m.file })},
	{"remarks", false, false, words(remarks)},
}

// shownColumns are those of a page of these rows.
func shownColumns(rows []measurement) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !c.always && !slices.ContainsFunc(rows, func(m measurement) bool {
			text, _ := c.of(m)
			first, _ := c.of(rows[0])
			return text != first || c.Name == "remarks" && text != ""
		})
	})
}

// remarks say what is wrong with a row.
func remarks(m measurement) string {
	_, why, _ := strings.Cut(strings.TrimSpace(m.marked(m.test)), ": ")
	if len(m.KernelsWrong) > 0 {
		why = strings.TrimPrefix(why+"; wrong kernels: "+strings.Join(m.KernelsWrong, ", "), "; ")
	}
	return why
}

// WritePage writes the results of files as one page of HTML that needs nothing else: a table that sorts, plots, and what was
// measured with what. links are names of other pages beside it; there may be none.
func WritePage(w io.Writer, title string, links []string, files ...*File) error {
	type row struct {
		Struck bool
		Cells  []cell
	}
	type source struct {
		Name   string
		Values []cell
	}
	var all []measurement
	var sources []source
	for _, f := range files {
		rows := f.measurements()
		all = append(all, rows...)
		for _, m := range rows {
			s := source{Name: m.file + ": " + m.ModelType}
			if severalLanes(rows) {
				s.Name += ", " + m.lane()
			}
			setupValues(m.Setup, func(name, value string) {
				if value != "" && value != "0" {
					s.Values = append(s.Values, cell{Key: name, Text: value})
				}
			})
			if line := strings.TrimSpace(m.line()); line != "" {
				s.Values = append(s.Values, cell{Key: "answers", Text: line})
			}
			if m.score != nil {
				s.Values = append(s.Values, cell{Key: "score", Text: strings.TrimSpace(m.score.line())})
			}
			if len(m.KernelNames) > 0 {
				s.Values = append(s.Values, cell{Key: "kernels", Text: strings.Join(m.KernelNames, ", ")})
			}
			if i := slices.IndexFunc(sources, func(other source) bool { return other.Name == s.Name }); i < 0 {
				sources = append(sources, s)
			} else if m.score != nil { // which the last row has
				sources[i] = s
			}
		}
	}
	shown := shownColumns(all)
	var rows []row
	struck := 0
	for _, m := range all {
		r := row{Struck: m.Struck}
		for _, c := range shown {
			text, key := c.of(m)
			x := cell{Text: text, Key: text}
			switch {
			case c.Number:
				x.Key, x.Class = fmt.Sprintf("%g", key), "n"
			case c.Name == "remarks":
				x.Class = "why"
			}
			r.Cells = append(r.Cells, x)
		}
		rows = append(rows, r)
		if m.Struck {
			struck++
		}
	}
	var drawn []template.HTML
	pictures := plots(all)
	for _, f := range files {
		if p := RooflinePlot(f.Results); p != "" {
			pictures = append(pictures, p)
		}
	}
	for _, p := range pictures {
		drawn = append(drawn, template.HTML(p)) // plot.text escapes
	}
	sum := sha256.Sum256([]byte(pageScript))
	summary := fmt.Sprintf("%d rows of %d files.", len(all), len(files))
	if len(files) == 1 {
		summary = fmt.Sprintf("%d rows.", len(all))
	}
	if struck > 0 {
		summary += fmt.Sprintf(" Struck out, since their device computed wrong results: %d.", struck)
	}
	err := page.Execute(w, map[string]any{
		"Title": title, "Summary": summary, "Links": links, "Columns": shown, "Rows": rows, "Plots": drawn, "Sources": sources,
		"Software": slices.ContainsFunc(all, func(m measurement) bool { return m.SoftwareOnly }),
		"Script":   template.JS(pageScript), "ScriptHash": "sha256-" + base64.StdEncoding.EncodeToString(sum[:]),
	})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}
