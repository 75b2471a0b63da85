package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Preset is the lengths of prompts and answers that another benchmark has, and how it makes one number of them.
type Preset struct {
	Name  string
	Tests []Both
	Tasks []string // their names, if they have any

	geometric bool // means over the tests are geometric
	scored    bool // LocalScore's score is made of them
}

// Presets lists them.
//
// localscore has the tests of Mozilla's LocalScore (github.com/cjpais/LocalScore, ef2c21f, TestDescriptionsTable.tsx), and its score,
// 10 times the geometric mean of the means of prompt tokens a second, generated tokens a second, and 1000 over the milliseconds to
// the first token: the scores in that repository's db.sqlite are those of this formula.
//
// mlperf has the tasks that MLPerf Client 1.0 to 1.6 requires (github.com/mlcommons/mlperf_client, v1.5: benchmark_result.h).
// Each has two prompts in data/llama3/prompts; a test is as long as they are in the mean, in tokens of Llama 3.1, and has their
// max_length. They have up to a fifth more tokens of Llama 2 or Phi 3.5. It has the benchmark's geometric means over the tasks of the
// time to the first token and of the tokens a second after it (llm_executor.cpp). The prompts themselves, the models and the gate
// on answers are not here: what comes out is no result of MLPerf.
var Presets = []Preset{
	{Name: "localscore", scored: true, Tests: []Both{
		{1024, 16}, {4096, 256}, {2048, 256}, {2048, 768}, {1024, 1024}, {1280, 3072}, {384, 1152}, {64, 1024}, {16, 1536},
	}},
	{
		Name: "mlperf", geometric: true, Tests: []Both{{105, 256}, {457, 512}, {837, 128}, {1344, 256}, {1837, 128}},
		Tasks: []string{"content generation", "creative writing", "summarization, light", "summarization, moderate", "code analysis"},
	},
}

// FindPreset is the preset of a name; nil: there is none.
func FindPreset(name string) *Preset {
	i := slices.IndexFunc(Presets, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &Presets[i]
}

// task is the name of a test, "" of one without.
func (p *Preset) task(t Test) string {
	i := slices.Index(p.Tests, Both{t.Prompt, t.Gen})
	if i < 0 || i >= len(p.Tasks) {
		return ""
	}
	return p.Tasks[i]
}

// A Score is what a Preset makes of its rows.
type Score struct {
	Preset   string  `json:"preset"`
	Tests    int     `json:"tests"`     // that are in it
	PromptTS float64 `json:"prompt_ts"` // means of the rows' keys of these names
	GenTS    float64 `json:"gen_ts"`
	TTFTMS   float64 `json:"ttft_ms"`
	Score    float64 `json:"score"` // LocalScore's; 0 of a preset without
}

// score is that of the rows of all tests; nil if one of them is missing, struck, or ended before its first run.
func (p *Preset) score(rows []Result) *Score {
	s := &Score{Preset: p.Name, Tests: len(p.Tests)}
	means := []struct {
		of  func(r Result) float64
		out *float64
	}{
		{func(r Result) float64 { return r.PromptTS }, &s.PromptTS},
		{func(r Result) float64 { return r.GenTS }, &s.GenTS},
		{func(r Result) float64 { return r.TTFTMS }, &s.TTFTMS},
	}
	for _, t := range p.Tests {
		i := slices.IndexFunc(rows, func(r Result) bool { return r.NPrompt == t.Prompt && r.NGen == t.Gen })
		if i < 0 || rows[i].Struck {
			return nil
		}
		for _, m := range means {
			x := m.of(rows[i])
			if x <= 0 {
				return nil
			}
			if p.geometric {
				x = math.Log(x)
			}
			*m.out += x / float64(len(p.Tests))
		}
	}
	if p.geometric {
		for _, m := range means {
			*m.out = math.Exp(*m.out)
		}
	}
	if p.scored {
		s.Score = 10 * math.Cbrt(s.PromptTS*s.GenTS*1000/s.TTFTMS)
	}
	return s
}

// line is the score in words.
func (s *Score) line() string {
	var parts []string
	if s.Score > 0 {
		parts = append(parts, fmt.Sprintf("score %.1f", s.Score))
	}
	mean := "means"
	if p := FindPreset(s.Preset); p != nil && p.geometric {
		mean = "geometric means"
	}
	parts = append(parts, fmt.Sprintf("%s of %d tests: prompt %.1f t/s, generation %.1f t/s, first token after %.0f ms", mean, s.Tests, s.PromptTS, s.GenTS, s.TTFTMS))
	return s.Preset + ": " + strings.Join(parts, "; ") + "\n"
}
