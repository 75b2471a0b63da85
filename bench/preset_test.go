package bench

import (
	"math"
	"strings"
	"testing"
)

// TestPresetsMakeOneNumber: LocalScore's score is that of its formula, and MLPerf's means are geometric.
func TestPresetsMakeOneNumber(t *testing.T) {
	rows := func(p *Preset) (list []Result) {
		for i, b := range p.Tests {
			r := row(Test{Prompt: b.Prompt, Gen: b.Gen}, 10)
			r.PromptTS, r.GenTS, r.TTFTMS = 1000, 50, 100
			if i == 0 {
				r.PromptTS, r.GenTS, r.TTFTMS = 4000, 200, 400
			}
			list = append(list, r)
		}
		return list
	}
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got/want-1) > 1e-9 {
			t.Errorf("%s: %g, want %g", name, got, want)
		}
	}
	local := FindPreset("localscore")
	list := rows(local)
	s := local.score(list)
	pp, tg, ttft := (8*1000+4000)/9., (8*50+200)/9., (8*100+400)/9.
	near("score", s.Score, 10*math.Pow(pp*tg*1000/ttft, 1./3))
	near("prompt", s.PromptTS, pp)
	if text := s.line(); !strings.HasPrefix(text, "localscore: score 809.") && !strings.Contains(text, "means of 9 tests") {
		t.Error(text)
	}
	for i := range list { // an RTX 3090 with Llama 3.1 8B, in LocalScore's db.sqlite (ef2c21f)
		list[i].PromptTS, list[i].GenTS, list[i].TTFTMS = 3552.2600615555557, 103.1011972222222, 357.87756411111104
	}
	near("a published score", local.score(list).Score, 1007.7311028205496)
	perf := FindPreset("mlperf")
	list = rows(perf)
	s = perf.score(list)
	near("generation", s.GenTS, math.Pow(50*50*50*50*200, 1./5))
	near("first token", s.TTFTMS, math.Pow(100*100*100*100*400, 1./5))
	if s.Score != 0 || !strings.Contains(s.line(), "geometric means of 5 tests") {
		t.Errorf("%+v %s", s, s.line())
	}
	if perf.score(list[1:]) != nil {
		t.Error("a score without one of the tests")
	}
	if list[2].Struck = true; perf.score(list) != nil {
		t.Error("a score with a struck row")
	}
	if FindPreset("no such") != nil || perf.task(Test{Prompt: 457, Gen: 512}) != "creative writing" || local.task(Test{Prompt: 16, Gen: 1536}) != "" {
		t.Error("names")
	}
}
