package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// A Summary has the results of an evaluation. The results file has it under the key "pumice".
type Summary struct {
	Identity Identity       `json:"identity"`
	Shard    string         `json:"shard,omitempty"` // "2/8" if the counts are those of a shard
	Devices  []string       `json:"devices"`
	Tasks    []TaskSummary  `json:"tasks"`
	Groups   []GroupSummary `json:"groups"`
	Absent   []string       `json:"absent"`          // tasks without files
	Problems []Problem      `json:"problems"`        // problems with the files
	Notes    []string       `json:"notes,omitempty"` // whole sentences on the data
	Seconds  float64        `json:"seconds"`         // device time, including that of answers from the journal
}

// A TaskSummary counts the answers to a task's questions.
type TaskSummary struct {
	Name        string  `json:"name"`
	Original    int     `json:"original"`  // questions that the task has
	Planned     int     `json:"planned"`   // questions to ask, in all shards together
	Questions   int     `json:"questions"` // questions answered
	Scored      int     `json:"scored"`    // questions whose answer is known
	Correct     int     `json:"correct"`
	Skipped     int     `json:"skipped"` // questions of the file that aren't single-answer ones
	NumShots    int     `json:"n_shot"`
	FewerShots  int     `json:"fewer_shots"` // questions with fewer examples, because of MaxLength
	Truncated   int     `json:"truncated"`
	Points      float64 `json:"points"` // GAOKAO-Bench: points of the scored questions
	PointsRight float64 `json:"points_right"`
}

// Accuracy returns the share of right answers, or NaN if no question is scored.
func (t TaskSummary) Accuracy() float64 { return float64(t.Correct) / float64(t.Scored) }

// Stderr returns the standard error of Accuracy, or NaN for fewer than two questions.
func (t TaskSummary) Stderr() float64 {
	p := t.Accuracy()
	return math.Sqrt(p * (1 - p) / float64(t.Scored-1))
}

// A GroupSummary has the scores of a group of tasks. A score that can't be computed is absent.
type GroupSummary struct {
	Name       string   `json:"name"`
	Title      string   `json:"title"`
	Parent     string   `json:"parent,omitempty"`
	Headline   Mean     `json:"headline"`
	Found      int      `json:"found"`                    // tasks with answers
	Of         int      `json:"of"`                       // tasks of the group
	Questions  int      `json:"questions"`                // questions scored
	Accuracy   *float64 `json:"acc"`                      // by the headline's mean
	Stderr     *float64 `json:"acc_stderr"`               // pooled over the tasks; absent for a mean over tasks
	Micro      *float64 `json:"acc_micro"`                // over questions
	Macro      *float64 `json:"acc_macro"`                // mean over tasks
	Categories *float64 `json:"acc_categories,omitempty"` // MMLU: mean over the four categories
	ScoreRate  *float64 `json:"score_rate,omitempty"`     // GAOKAO-Bench: share of the points
}

// defined returns a pointer to x, or nil if x is NaN.
func defined(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// Summarize counts the answers to requests, which are all of the plan or some of them.
func Summarize(p *Plan, requests []*Request, entries []Entry) []TaskSummary {
	var out []TaskSummary
	at := map[*Task]int{}
	for _, t := range p.Tasks {
		at[t] = len(out)
		out = append(out, TaskSummary{Name: t.Name, Original: len(t.Docs), Skipped: t.Skipped, NumShots: min(p.Options.NumShots, len(t.Shots))})
	}
	for _, r := range p.Requests {
		out[at[r.Task]].Planned++
	}
	for i, r := range requests {
		t := &out[at[r.Task]]
		t.Questions++
		if r.NumShots < t.NumShots {
			t.FewerShots++
		}
		if r.Truncated {
			t.Truncated++
		}
		if r.Doc.Gold == "" {
			continue
		}
		t.Scored++
		t.Points += r.Doc.Points
		if entries[i].Correct {
			t.Correct++
			t.PointsRight += r.Doc.Points
		}
	}
	return out
}

// Group computes the groups of a selection.
func (s *Selection) Group(tasks []TaskSummary) []GroupSummary {
	byName := map[string]TaskSummary{}
	for _, t := range tasks {
		byName[t.Name] = t
	}
	var out []GroupSummary
	for _, name := range s.Groups {
		out = append(out, groups[name].summarize(byName))
	}
	for i := range out {
		if out[i].Name != MMLU {
			continue
		}
		sum, n := 0.0, 0
		for _, g := range out {
			if g.Parent == MMLU && g.Micro != nil {
				sum, n = sum+*g.Micro, n+1
			}
		}
		if n == len(mmluCategories) {
			out[i].Categories = defined(sum / float64(n))
		}
	}
	return out
}

func (g *Group) summarize(tasks map[string]TaskSummary) GroupSummary {
	s := GroupSummary{Name: g.Name, Title: g.Title, Parent: g.Parent, Headline: g.Headline, Of: len(g.Tasks)}
	correct, macro := 0, 0.0
	points, right, variance := 0.0, 0.0, 0.0
	for _, name := range g.Tasks {
		t := tasks[name]
		if t.Scored == 0 {
			continue
		}
		s.Found++
		s.Questions += t.Scored
		correct += t.Correct
		macro += t.Accuracy()
		points += t.Points
		right += t.PointsRight
		if t.Scored > 1 {
			variance += float64(t.Scored-1) * t.Stderr() * t.Stderr() * float64(t.Scored)
		}
	}
	n := float64(s.Questions)
	s.Micro, s.Macro = defined(float64(correct)/n), defined(macro/float64(s.Found))
	if g.Benchmark == GaokaoBench {
		s.ScoreRate = defined(right / points)
	}
	s.Accuracy = s.Macro
	if g.Headline == Micro {
		s.Accuracy = s.Micro
		s.Stderr = defined(math.Sqrt(variance / (n - float64(s.Found)) / n)) // pooled_sample_stderr of lm-evaluation-harness
	}
	return s
}

// A MergeError says why results can't be merged.
type MergeError struct{ Msg string }

func (e *MergeError) Error() string { return "eval: merge: " + e.Msg }

// Merge adds up the shards of one evaluation. The error is a *MergeError if they belong to different evaluations, or
// if together they are not complete.
func Merge(shards []*Summary) (*Summary, error) {
	if len(shards) == 0 {
		return nil, &MergeError{"no results"}
	}
	out := *shards[0]
	out.Shard, out.Devices, out.Seconds = "", nil, 0
	out.Tasks = slices.Clone(shards[0].Tasks)
	seen := map[string]bool{}
	for i, p := range shards {
		if diff := p.Identity.differs(out.Identity); diff != "" {
			return nil, &MergeError{fmt.Sprintf("result %d belongs to another evaluation: %s", i+1, diff)}
		}
		if seen[p.Shard] {
			return nil, &MergeError{fmt.Sprintf("shard %q is given twice", p.Shard)}
		}
		seen[p.Shard] = true
		if len(p.Tasks) != len(out.Tasks) || !slices.Equal(p.Absent, out.Absent) || len(p.Problems) != len(out.Problems) {
			return nil, &MergeError{fmt.Sprintf("result %d (shard %q) has other data", i+1, p.Shard)}
		}
		out.Devices = append(out.Devices, p.Devices...)
		out.Seconds += p.Seconds
		if i == 0 {
			continue
		}
		for j, t := range p.Tasks {
			sum := &out.Tasks[j]
			if t.Name != sum.Name || t.Planned != sum.Planned || t.Original != sum.Original {
				msg := fmt.Sprintf("result %d (shard %q) has other questions of %q", i+1, p.Shard, t.Name)
				return nil, &MergeError{msg}
			}
			sum.Questions += t.Questions
			sum.Scored += t.Scored
			sum.Correct += t.Correct
			sum.FewerShots += t.FewerShots
			sum.Truncated += t.Truncated
			sum.Points += t.Points
			sum.PointsRight += t.PointsRight
		}
	}
	for _, t := range out.Tasks {
		if t.Questions != t.Planned {
			return nil, &MergeError{fmt.Sprintf("%d of %d questions of %q: a shard is missing", t.Questions, t.Planned, t.Name)}
		}
	}
	slices.SortFunc(out.Devices, cmp.Compare[string])
	out.Devices = slices.Compact(out.Devices)
	selection, err := Select(out.Identity.Tasks)
	if err != nil {
		return nil, err
	}
	out.Groups = selection.Group(out.Tasks)
	return &out, nil
}
