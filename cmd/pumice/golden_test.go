package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
)

// golden is golden.json of a fixture (testdata/fixtures/README.md).
type golden struct {
	Blob    string `json:"blob"`
	Prompts []struct {
		Name       string `json:"name"`
		IDs        []int  `json:"ids"`
		LastLogits struct {
			Offset, Count int
		} `json:"last_logits"`
		Top1    []int     `json:"top1_per_position"`
		Margins []float64 `json:"top1_margin_per_position"`
		Greedy  struct {
			IDs []int `json:"ids"`
		} `json:"greedy"`
	} `json:"prompts"`
}

// pumiceRun runs the program in this process and returns what it writes to standard output.
func pumiceRun(t *testing.T, args ...string) string {
	t.Helper()
	out, status, messages := pumiceStatus(t, args...)
	if status != 0 {
		t.Fatalf("pumice %s: status %d: %s", strings.Join(args, " "), status, messages)
	}
	if messages != "" { // with --quiet only errors, those of the validation layer among them
		t.Errorf("pumice %s: %s", strings.Join(args, " "), messages)
	}
	return out
}

func pumiceStatus(t *testing.T, args ...string) (stdout string, status int, stderr string) {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	out, messages := open("out"), open("err")
	status = newProgram(open("in"), out, messages).run(append([]string{"pumice"}, args...))
	read := func(f *os.File) string {
		f.Seek(0, io.SeekStart)
		text, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return read(out), status, read(messages)
}

func commas(ids []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

// TestFixtureGoldens compares greedy tokens and logits with the fixtures' golden numbers: within 1e-3 in float32 throughout,
// within 0.05 with the default types (fixtures/README.md, suggested tolerances).
func TestFixtureGoldens(t *testing.T) {
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	validation := "--validation"
	if _, err := pumice.Devices(pumice.Options{Validation: true}); errors.Is(err, pumice.ErrNoValidation) {
		t.Log("validation layer not installed: running without")
		validation = "--validation=false"
	}
	for _, name := range []string{"xverse", "xverse-st", "llama", "llama-sharded", "smollm2"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(top(t), "testdata", "fixtures", name)
			text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(text, &g); err != nil {
				t.Fatal(err)
			}
			blob, err := os.ReadFile(filepath.Join(dir, "golden.f32"))
			if err != nil {
				t.Fatal(err)
			}
			for _, types := range []struct {
				name  string
				flags []string
				bound float64
				sure  float64 // margin from which an arg-max must be equal
			}{
				{"float32", []string{"--dtype", "f32", "--kv-type", "f32"}, 1e-3, 0},
				{"default", nil, 0.05, 0.1},
			} {
				for _, p := range g.Prompts {
					t.Run(types.name+"/"+p.Name, func(t *testing.T) {
						output := filepath.Join(t.TempDir(), "logits")
						flags := append([]string{"--quiet", "--tokens", commas(p.IDs), "--json"}, types.flags...)
						want := floats(t, blob[p.LastLogits.Offset:][:4*p.LastLogits.Count])
						var all, last logitsResult
						decodeJSON(t, pumiceRun(t, append([]string{"logits", dir, "--output", output}, flags...)...), &last)
						if last.N != 1 || last.Vocab != len(want) {
							t.Errorf("%d rows of %d without --all", last.N, last.Vocab)
						}
						near(t, "last", floats(t, readAll(t, output)), want, types.bound)
						decodeJSON(t, pumiceRun(t, append([]string{"logits", dir, "--all", "--output", output}, flags...)...), &all)
						if all.N != len(p.IDs) || all.Vocab != len(want) || len(all.Argmax) != all.N {
							t.Fatalf("got %d rows of %d, %d argmax", all.N, all.Vocab, len(all.Argmax))
						}
						for i, id := range p.Top1 {
							if all.Argmax[i] != id && p.Margins[i] >= max(types.sure, types.bound) {
								t.Errorf("largest logit at position %d: token %d, want %d by %g", i, all.Argmax[i], id, p.Margins[i])
							}
						}
						rows := floats(t, readAll(t, output))
						if len(rows) != all.N*all.Vocab {
							t.Fatalf("%d logits in the file, want %d x %d", len(rows), all.N, all.Vocab)
						}
						near(t, "--all, last row", rows[len(rows)-all.Vocab:], want, types.bound)

						var r pumice.Result
						n := fmt.Sprint(len(p.Greedy.IDs))
						decodeJSON(t, pumiceRun(t, append([]string{"generate", validation, dir, "--temp", "0", "--ignore-eos", "-n", n}, flags...)...), &r)
						if diff := cmp.Diff(p.Greedy.IDs, r.Tokens); diff != "" {
							t.Errorf("greedy tokens (-want +got):\n%s", diff)
						}
						if types.sure > 0 {
							return
						}
						var a answer
						decodeJSON(t, pumiceRun(t, append([]string{"generate", validation, dir, "--temp", "0", "--ignore-eos", "-n", "1", "--logprobs", "3"}, flags...)...), &a)
						probs := logSoftmax(want)
						for _, c := range append(a.LogProbs[0].Top, a.LogProbs[0].candidate) {
							if !(math.Abs(c.LogProb-probs[c.ID]) <= 2*types.bound) {
								t.Errorf("token %d: log-probability %g, want %g", c.ID, c.LogProb, probs[c.ID])
							}
						}
					})
				}
			}
		})
	}
}

func decodeJSON(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func readAll(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func floats(t *testing.T, data []byte) []float32 {
	t.Helper()
	out := make([]float32, len(data)/4)
	if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// near fails the test if a value is farther than bound from what is wanted.
func near(t *testing.T, what string, got, want []float32, bound float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst, at := 0.0, 0
	var noise, signal float64
	for i := range want {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		noise += d * d
		signal += float64(want[i]) * float64(want[i])
		if !(d <= worst) { // also NaN
			worst, at = d, i
		}
	}
	if !(worst <= bound) {
		t.Errorf("%s: max abs %g at %d (got %g, want %g), NMSE %g; bound %g", what, worst, at, got[at], want[at], noise/signal, bound)
	}
}

// logSoftmax is the logarithm of the softmax of logits.
func logSoftmax(logits []float32) []float64 {
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		out[i] = float64(l) - math.Log(sum)
	}
	return out
}
