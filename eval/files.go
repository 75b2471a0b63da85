package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pumice/internal/atomicfile"
	"pumice/internal/regular"
	"pumice/internal/version"
)

// protocolVersion counts changes of prompts or scoring that affect results. It is written as each task's "version".
const protocolVersion = 1

// A Sample is an answer with its question, written as a line of a samples file. Its keys are those of
// lm-evaluation-harness and those of Answer.
type Sample struct {
	DocID         int                          `json:"doc_id"` // index in the task
	Doc           SampleDoc                    `json:"doc"`
	Target        string                       `json:"target"` // index of the right choice, or "" if unknown
	Arguments     map[string]map[string]string `json:"arguments"`
	Resps         [][][2]string                `json:"resps"`
	FilteredResps [][2]string                  `json:"filtered_resps"`
	Filter        string                       `json:"filter"`
	Metrics       []string                     `json:"metrics"`
	DocHash       string                       `json:"doc_hash"`
	PromptHash    string                       `json:"prompt_hash"`
	TargetHash    string                       `json:"target_hash"`
	Acc           float64                      `json:"acc"`
	Answer
}

// A SampleDoc is the question from the data file.
type SampleDoc struct {
	ID       string   `json:"id"`
	Question string   `json:"question"`
	Options  []string `json:"options,omitempty"`
	Answer   string   `json:"answer"`
	Points   float64  `json:"score,omitempty"`
}

// sample combines a question and its answer.
func (r *Request) sample(a Answer) (Sample, error) {
	prompt := r.Task.prompt(r.Doc, r.NumShots)
	s := Sample{
		DocID: r.Index, Doc: SampleDoc{r.Doc.ID, r.Doc.Question, r.Doc.Options, r.Doc.Gold, r.Doc.Points},
		Arguments: map[string]map[string]string{}, Filter: "none", Metrics: []string{"acc"}, Answer: a, PromptHash: r.PromptSHA256,
	}
	if r.Doc.Gold != "" {
		s.Target = strconv.Itoa(strings.Index(letters, r.Doc.Gold))
	}
	for i := range r.Doc.N {
		s.Arguments[fmt.Sprintf("gen_args_%d", i)] = map[string]string{"arg_0": prompt, "arg_1": r.Task.Sep + letters[i:i+1]}
		greedy := "False"
		if i < len(a.Greedy) && a.Greedy[i] {
			greedy = "True"
		}
		resp := [2]string{strconv.FormatFloat(a.LogProbs[i], 'f', -1, 64), greedy}
		s.Resps = append(s.Resps, [][2]string{resp})
		s.FilteredResps = append(s.FilteredResps, resp)
	}
	doc, err := json.Marshal(s.Doc)
	if err != nil {
		return s, err
	}
	s.DocHash, s.TargetHash = hexSHA256(doc), hexSHA256([]byte(s.Target))
	if a.Correct {
		s.Acc = 1
	}
	return s, nil
}

// Samples combines requests with their answers, and returns them by task.
func Samples(requests []*Request, entries []Entry) (map[string][]Sample, error) {
	out := map[string][]Sample{}
	for i, r := range requests {
		s, err := r.sample(entries[i].Answer)
		if err != nil {
			return nil, err
		}
		out[r.Task.Name] = append(out[r.Task.Name], s)
	}
	return out, nil
}

// Write writes results_<time>.json into dir, and samples_<task>_<time>.jsonl for each task in samples. Each file is
// written atomically. Write returns the name of the results file.
func Write(dir string, s *Summary, samples map[string][]Sample, when time.Time) (string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	stamp := when.UTC().Format("2006-01-02T15-04-05.000000")
	for task, list := range samples {
		err := writeFile(filepath.Join(dir, "samples_"+task+"_"+stamp+".jsonl"), func(w *bufio.Writer) error {
			e := json.NewEncoder(w)
			e.SetEscapeHTML(false)
			for _, sample := range list {
				if err := e.Encode(sample); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	if s.Identity.Split == "test" && samples != nil {
		if err := writeJSON(filepath.Join(dir, "submission_ceval_"+stamp+".json"), submission(samples)); err != nil {
			return "", err
		}
	}
	name := filepath.Join(dir, "results_"+stamp+".json")
	return name, writeJSON(name, document(s, samples, when))
}

// submission returns the content of a submission to C-Eval's site: subject to question to letter.
func submission(samples map[string][]Sample) map[string]map[string]string {
	out := map[string]map[string]string{}
	for task, list := range samples {
		if info := tasks[task]; info.Benchmark == CEval {
			out[info.Key] = map[string]string{}
			for _, s := range list {
				out[info.Key][s.ID] = s.Pred
			}
		}
	}
	return out
}

// writeFile writes a file atomically.
func writeFile(name string, fill func(w *bufio.Writer) error) error {
	return atomicfile.Replace(name, func(f *os.File) error {
		w := bufio.NewWriter(f)
		if err := fill(w); err != nil {
			return err
		}
		return w.Flush()
	})
}

func writeJSON(name string, v any) error {
	return writeFile(name, func(w *bufio.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

// object is a JSON object whose keys may have commas, which a struct's keys can't.
type object = map[string]any

// document returns the content of the results file: lm-evaluation-harness's keys, and the Summary under "pumice".
func document(s *Summary, samples map[string][]Sample, when time.Time) object {
	results, groupRows, subtasks := object{}, object{}, object{}
	configs, versions, shots, better, counts, hashes := object{}, object{}, object{}, object{}, object{}, object{}
	for _, t := range s.Tasks {
		results[t.Name] = row(t.Name, t.Questions, defined(t.Accuracy()), defined(t.Stderr()))
		versions[t.Name], shots[t.Name] = protocolVersion, t.NumShots
		better[t.Name] = object{"acc": true}
		counts[t.Name] = object{"original": t.Original, "effective": t.Questions}
		configs[t.Name] = object{"task": t.Name, "output_type": "multiple_choice", "num_fewshot": t.NumShots, "metadata": object{"version": protocolVersion}}
		if list, ok := samples[t.Name]; ok {
			var all bytes.Buffer
			for _, sample := range list {
				all.WriteString(sample.DocHash + sample.PromptHash + sample.TargetHash)
			}
			hashes[t.Name] = hexSHA256(all.Bytes())
		}
	}
	for _, g := range s.Groups {
		r := row(g.Name, g.Questions, g.Accuracy, g.Stderr)
		r["acc_micro,none"], r["acc_macro,none"] = g.Micro, g.Macro
		r["tasks"] = object{"found": g.Found, "of": g.Of}
		if g.Categories != nil {
			r["acc_categories,none"] = g.Categories
		}
		if g.ScoreRate != nil {
			r["score_rate,none"] = g.ScoreRate
		}
		results[g.Name], groupRows[g.Name] = r, r
		versions[g.Name], better[g.Name] = protocolVersion, object{"acc": true}
		subtasks[g.Name] = groups[g.Name].Tasks
	}
	var template any
	if s.Identity.ChatTemplate != "" {
		template = s.Identity.ChatTemplate
	}
	return object{
		"results": results, "groups": groupRows, "group_subtasks": subtasks, "configs": configs, "versions": versions, "n-shot": shots,
		"higher_is_better": better, "n-samples": counts, "task_hashes": hashes,
		"config": object{
			"model": "pumice", "model_args": object{"pretrained": s.Identity.Model, "dtype": s.Identity.DType, "kv_type": s.Identity.KVType},
			"model_sha256": s.Identity.ModelSHA256, "batch_size": 1, "device": strings.Join(s.Devices, ", "), "limit": s.Identity.Limit,
			"num_fewshot": s.Identity.NumShots,
		},
		"git_hash": revision(), "date": float64(when.UnixMicro()) / 1e6, "max_length": s.Identity.MaxLength, "model_name": s.Identity.Model,
		"chat_template": template, "total_evaluation_time_seconds": strconv.FormatFloat(s.Seconds, 'f', -1, 64), "pumice": s,
	}
}

func row(name string, n int, acc, stderr *float64) object {
	r := object{"alias": name, "sample_len": n, "acc,none": "N/A", "acc_stderr,none": "N/A"}
	if acc != nil {
		r["acc,none"] = *acc
	}
	if stderr != nil {
		r["acc_stderr,none"] = *stderr
	}
	return r
}

// revision returns the source revision of the program, or nil if it is unknown.
func revision() any {
	if revision, _ := version.Commit(); revision != "" {
		return revision
	}
	return nil
}

// A ResultError reports a file that is not a valid result of this package.
type ResultError struct{ File, Msg string }

func (e *ResultError) Error() string { return fmt.Sprintf("eval: %s: %s", e.File, e.Msg) }

// resultsFile returns the name of a results file: name itself, or the newest file in the directory name.
func resultsFile(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return name, err
	}
	files, err := filepath.Glob(filepath.Join(escapeGlob(name), "results_*.json"))
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", &ResultError{name, "the directory has no results_*.json"}
	}
	return slices.Max(files), nil
}

// ReadSummary reads a results file, or the newest one in a directory.
func ReadSummary(name string) (*Summary, error) {
	name, err := resultsFile(name)
	if err != nil {
		return nil, err
	}
	text, err := regular.ReadFile(name, maxFileBytes)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Pumice *Summary `json:"pumice"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, &ResultError{name, err.Error()}
	}
	if doc.Pumice == nil {
		return nil, &ResultError{name, `no member "pumice": another program wrote it`}
	}
	return doc.Pumice, nil
}

// ReadSamples reads the samples beside a results file, or beside the newest one in a directory. It returns them by
// task, in order of doc_id.
func ReadSamples(name string) (map[string][]Sample, error) {
	name, err := resultsFile(name)
	if err != nil {
		return nil, err
	}
	stamp := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "results_"), ".json")
	files, err := filepath.Glob(filepath.Join(escapeGlob(filepath.Dir(name)), "samples_*_"+escapeGlob(stamp)+".jsonl"))
	if err != nil {
		return nil, err
	}
	out := map[string][]Sample{}
	for _, file := range files {
		task := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "samples_"), "_"+stamp+".jsonl")
		if out[task], err = readSamples(file); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readSamples(file string) ([]Sample, error) {
	f, err := regular.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Sample
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var s Sample
		if err := d.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			return nil, &ResultError{file, fmt.Sprintf("sample %d: %v", len(out)+1, err)}
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b Sample) int { return a.DocID - b.DocID })
	return out, nil
}

// MergeSamples joins the samples of shards.
func MergeSamples(shards []map[string][]Sample) map[string][]Sample {
	out := map[string][]Sample{}
	for _, s := range shards {
		for task, list := range s {
			out[task] = append(out[task], list...)
		}
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b Sample) int { return a.DocID - b.DocID })
	}
	return out
}
