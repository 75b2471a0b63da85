package eval

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// runSamples evaluates shard i of n of the sample questions.
func runSamples(t *testing.T, plan *Plan, i, n int) (*Summary, map[string][]Sample) {
	t.Helper()
	part, err := plan.Shard(i, n)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := run(t.Context(), []session{&chunked{}}, part, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := testIdentity
	id.Tasks = []string{"mmlu", "ceval", "agieval", "gaokao_bench_all", "gaokao_english"}
	s := &Summary{Identity: id, Devices: []string{"d"}, Absent: []string{"mmlu_law"}, Problems: []Problem{{"f", 1, "m"}}}
	if n > 1 {
		s.Shard = strings.Join([]string{string(rune('0' + i)), string(rune('0' + n))}, "/")
	}
	selection, err := Select(id.Tasks)
	if err != nil {
		t.Fatal(err)
	}
	s.Tasks = Summarize(plan, part, entries)
	s.Groups = selection.Group(s.Tasks)
	samples, err := Samples(part, entries)
	if err != nil {
		t.Fatal(err)
	}
	return s, samples
}

// TestMergedShardsEqualTheWhole writes an evaluation as a whole and in three shards, merges these, and compares the
// files.
func TestMergedShardsEqualTheWhole(t *testing.T) {
	plan := samplePlan(t)
	when := time.Unix(1e9, 0)
	dir := t.TempDir()
	s, samples := runSamples(t, plan, 1, 1)
	whole, err := Write(filepath.Join(dir, "whole"), s, samples, when)
	if err != nil {
		t.Fatal(err)
	}
	var summaries []*Summary
	var parts []map[string][]Sample
	for i := 1; i <= 3; i++ {
		s, samples := runSamples(t, plan, i, 3)
		name, err := Write(filepath.Join(dir, "part", string(rune('0'+i))), s, samples, when)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = ReadSummary(filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		if samples, err = ReadSamples(name); err != nil {
			t.Fatal(err)
		}
		summaries, parts = append(summaries, s), append(parts, samples)
	}
	var me *MergeError
	if _, err := Merge(summaries[:2]); !errors.As(err, &me) || !strings.Contains(me.Msg, "a shard is missing") {
		t.Errorf("two of three shards: %v", err)
	}
	if _, err := Merge([]*Summary{summaries[0], summaries[0]}); !errors.As(err, &me) {
		t.Errorf("the same shard twice: %v", err)
	}
	merged, err := Merge(summaries)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := Write(filepath.Join(dir, "merged"), merged, MergeSamples(parts), when)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(whole), "*"))
	if err != nil || len(files) != len(plan.Tasks)+1 {
		t.Fatalf("files %v, %v; want one per task and the results", files, err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(filepath.Dir(joined), filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-whole +merged):\n%s", filepath.Base(file), diff)
		}
	}

	// The keys that programs expect in lm-evaluation-harness's files.
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config",
		"git_hash", "date", "max_length", "model_name", "chat_template", "task_hashes", "total_evaluation_time_seconds"} {
		if doc[key] == nil {
			t.Errorf("no key %q", key)
		}
	}
	var rows map[string]map[string]any
	if err := json.Unmarshal(doc["results"], &rows); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"alias", "sample_len", "acc,none", "acc_stderr,none"} {
		if rows["mmlu"][key] == nil || rows["mmlu_computer_security"][key] == nil {
			t.Errorf("no key %q in a result", key)
		}
	}
}

// TestGroupNumbers computes a group by hand: two tasks of 4 and 2 questions, 3 and 0 right.
func TestGroupNumbers(t *testing.T) {
	tasks := []TaskSummary{
		{Name: "gaokao_bench_2010-2022_Math_II_MCQs", Scored: 4, Correct: 3, Points: 20, PointsRight: 16},
		{Name: "gaokao_bench_2010-2022_Math_I_MCQs", Scored: 2, Points: 12},
	}
	selection, err := Select([]string{"gaokao_bench"})
	if err != nil {
		t.Fatal(err)
	}
	g := selection.Group(tasks)[0]
	for name, c := range map[string]struct {
		got  *float64
		want float64
	}{
		"headline": {g.Accuracy, 0.5}, "micro": {g.Micro, 0.5}, "macro": {g.Macro, 0.375}, "points": {g.ScoreRate, 0.5},
		// Sample variances p(1-p)n/(n-1) are 0.25 and 0: pooled 3*0.25/4, over 6 questions.
		"stderr": {g.Stderr, math.Sqrt(0.75 / 4 / 6)},
	} {
		if c.got == nil || math.Abs(*c.got-c.want) > 1e-12 {
			t.Errorf("%s: got %v, want %g", name, c.got, c.want)
		}
	}
	if g.Found != 2 || g.Of != 7 || g.Questions != 6 {
		t.Errorf("%+v", g)
	}
	// As in lm-evaluation-harness: sqrt(p(1-p)/(n-1)).
	if got := tasks[0].Stderr(); math.Abs(got-0.25) > 1e-12 {
		t.Errorf("standard error of 3 of 4: %g, want 0.25", got)
	}
}

// TestMcNemar compares with sums of binomial coefficients, computed with integers in Python.
func TestMcNemar(t *testing.T) {
	for _, c := range []struct {
		b, c int
		want float64
	}{{0, 0, 1}, {5, 5, 1}, {1, 9, 0.021484375}, {0, 10, 0.001953125}, {30, 50, 0.03299261842647}, {9, 1, 0.021484375}} {
		if got := mcNemar(c.b, c.c); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%d and %d: %g, want %g", c.b, c.c, got, c.want)
		}
	}
	if p := mcNemar(7000, 7300); !(math.Abs(p-0.012403909) < 1e-8) {
		t.Errorf("7000 and 7300: %g", p)
	}
}

func TestCompare(t *testing.T) {
	sample := func(id, pred, gold string, logProb float64) Sample {
		return Sample{Answer: Answer{ID: id, Pred: pred, Gold: gold, Correct: pred == gold, LogProbs: []float64{logProb}}}
	}
	a := map[string][]Sample{"mmlu_virology": {sample("0", "A", "A", -1), sample("1", "B", "A", -1), sample("2", "A", "A", -1), sample("9", "A", "A", -1)}}
	b := map[string][]Sample{"mmlu_virology": {sample("0", "A", "A", -1.5), sample("1", "A", "A", -1), sample("2", "A", "A", -1)}, "mmlu_anatomy": {sample("0", "A", "A", -1)}}
	got, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Unpaired != 2 {
		t.Errorf("%d unpaired", got.Unpaired)
	}
	var names []string
	for _, r := range got.Rows {
		names = append(names, r.Name)
		if r.Questions != 3 || r.OnlyA != 0 || r.OnlyB != 1 || r.P != 1 || math.Abs(r.SamePred-2.0/3) > 1e-12 || r.LogProbWorst != 0.5 {
			t.Errorf("%+v", r)
		}
	}
	if diff := cmp.Diff([]string{"mmlu", "mmlu_other", "mmlu_virology", "all"}, names); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if !strings.Contains(got.String(), "mmlu_virology") {
		t.Error("the table lacks a row")
	}
	var me *MergeError
	if _, err := Compare(a, nil); !errors.As(err, &me) {
		t.Errorf("nothing in common: %v", err)
	}
}

func TestPublishedCard(t *testing.T) {
	c := PublishedCard()
	if len(c.Rows) != 13 || c.Source == "" {
		t.Fatalf("%d rows from %q", len(c.Rows), c.Source)
	}
	for _, r := range c.Rows {
		if !r.Published || len(r.Scores) < 5 {
			t.Errorf("%+v", r)
		}
	}
	name := filepath.Join(t.TempDir(), "card.json")
	var re *ResultError
	for _, text := range []string{`{`, `{"rows":[{"scores":{}}]}`, `{"rows":[{"model":"m","scores":{"gsm8k":1}}]}`, `{"rows":[{"model":"m","scores":{"mmlu":637}}]}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCard(name); !errors.As(err, &re) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestTablesAndChartMarkPublishedScores draws a measured model beside published ones.
func TestTablesAndChartMarkPublishedScores(t *testing.T) {
	s, _ := runSamples(t, samplePlan(t), 1, 1)
	s.Identity.Model = "a<b"
	rows := append([]CardRow{s.CardRow()}, PublishedCard().Rows[11:]...)
	card := CardTables(rows)
	for _, want := range []string{"|XVERSE-7B-Chat (published)", "|MMLU|C-Eval|AGIEval|GAOKAO-Bench|GAOKAO-English|", "|Average|STEM|Social Science|Humanities|Others|", "|a<b (part of the questions)|", "63.7", "MMLU by category", "C-Eval by category"} {
		if !strings.Contains(strings.ReplaceAll(card, " |", "|"), want) && !strings.Contains(card, want) {
			t.Errorf("the card's tables lack %q:\n%s", want, card)
		}
	}
	table := Table(s)
	for _, want := range []string{"mmlu (3 of 57 tasks)", "f:1: m", "mmlu_law"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	chart := Chart("a<b\x1b", rows)
	for d := xml.NewDecoder(strings.NewReader(chart)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(chart, "(published)"); n != 2 {
		t.Errorf("%d legends contain published, want 2", n)
	}
	if !strings.Contains(chart, `class="published1"`) || strings.Contains(chart, `class="published0"`) {
		t.Error("the published bars, and no others, must be hatched")
	}
	if strings.Contains(chart, "url(") {
		t.Error("ImageMagick fills black what it doesn't know")
	}
}

// TestChartDistinguishesRows draws all published rows: no two bars look alike, and the legend is inside the picture.
func TestChartDistinguishesRows(t *testing.T) {
	rows := PublishedCard().Rows
	chart := Chart("all", rows)
	looks := map[string]bool{}
	bars := regexp.MustCompile(`<path class="published(\d+)" d="M([0-9.]+) [0-9.]+L([0-9.]+) [^"]*" stroke="([^"]*)"`)
	for _, m := range bars.FindAllStringSubmatch(chart, len(rows)) { // those of the legend
		from, _ := strconv.ParseFloat(m[2], 64)
		to, _ := strconv.ParseFloat(m[3], 64)
		looks[fmt.Sprint(m[4], from < to)] = true
	}
	if len(looks) != len(rows) || len(rows) < 10 {
		t.Errorf("%d looks of bars for %d rows: %v", len(looks), len(rows), looks)
	}
	width := 0
	if _, err := fmt.Sscanf(chart[strings.Index(chart, "width="):], `width="%d"`, &width); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		at := regexp.MustCompile(`<text x="(\d+)" y="\d+">` + regexp.QuoteMeta(r.label()) + `<`).FindStringSubmatch(chart)
		if at == nil {
			t.Fatalf("no legend for %s", r.label())
		}
		if x, err := strconv.Atoi(at[1]); err != nil || x+7*len(r.label()) > width {
			t.Errorf("%s begins at %s of %d", r.label(), at[1], width)
		}
	}
}

func TestModelSHA256(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "m-00001-of-00002.gguf", "one")
	write(t, dir, "m-00002-of-00002.gguf", "two")
	write(t, dir, "single.gguf", "one")
	write(t, dir, "hf/config.json", "{}")
	write(t, dir, "hf/notes.txt", "not the model's")
	sum := func(name string) string {
		got, err := ModelSHA256(t.Context(), filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	const one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed" // sha256sum
	if got := sum("single.gguf"); got != one {
		t.Errorf("a file: %s, want %s", got, one)
	}
	before := []string{sum("m-00001-of-00002.gguf"), sum("hf")}
	write(t, dir, "m-00002-of-00002.gguf", "three")
	write(t, dir, "hf/notes.txt", "changed")
	if after := []string{sum("m-00001-of-00002.gguf"), sum("hf")}; after[0] == before[0] || after[1] != before[1] {
		t.Errorf("hashes %v became %v: the second file counts, notes don't", before, after)
	}
	if _, err := ModelSHA256(t.Context(), t.TempDir()); err == nil {
		t.Error("an empty directory has a hash")
	}
}

// TestWrittenResultsCanBeRead writes results and reads them back.
func TestWrittenResultsCanBeRead(t *testing.T) {
	s, samples := runSamples(t, samplePlan(t), 1, 1)
	name, err := Write(t.TempDir(), s, samples, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadSummary(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	back, err := ReadSamples(name)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(samples, back) {
		t.Errorf("samples (-want +got):\n%s", cmp.Diff(samples, back))
	}
}
