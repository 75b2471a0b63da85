package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLlamaQuantizesArguments reads the command lines of programs that run llama-quantize.
func TestLlamaQuantizesArguments(t *testing.T) {
	for args, want := range map[string]string{
		"--allow-requantize in out COPY":            "in out COPY true false",                                // ollama v0.31.0 create
		"--allow-requantize in out Q4_K_M":          "in out Q4_K_M true false",                              // with --quantize
		"/model/a.gguf /model/a-Q4_K_M.gguf Q4_K_M": "/model/a.gguf /model/a-Q4_K_M.gguf Q4_K_M false false", // RamaLama 0.25
		"--pure dir/in.gguf q8_0 4":                 "dir/in.gguf dir/ggml-model-Q8_0.gguf Q8_0 false true",
		"in.gguf out.gguf 15":                       "in.gguf out.gguf Q4_K false false",
		"in.gguf f16":                               "in.gguf ggml-model-F16.gguf F16 false false",
	} {
		q, err := parseLlamaQuantize(strings.Fields(args))
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		if mix := q.o.Mix != nil; mix != (q.typeName == "Q4_K_M" || q.typeName == "Q4_K") || mix && q.o.Mix.Name != "Q4_K_M" {
			t.Errorf("%s: mixture %v", args, q.o.Mix)
		}
		if got := fmt.Sprint(q.in, " ", q.out, " ", q.typeName, " ", q.requantize, " ", q.o.Pure); got != want || q.o.Keep != (q.typeName == "COPY") {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
	for args, want := range map[string]string{
		"": "want a GGUF file", "in.gguf": "want a GGUF file", "in.gguf out.gguf": `type "out.gguf"`, "in out IQ2_XXS": `type "IQ2_XXS"`,
		"in out Q8_0 x": "number of threads", "in out Q8_0 0": "number of threads", "in out Q8_0 1 2": "unexpected", "--imatrix f in out Q8_0": "not supported",
		"--tensor-type a=q8_0 in out Q4_K_M": "not supported",
	} {
		if _, err := parseLlamaQuantize(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// TestLlamaQuantize writes into a file that is open, counts tensors on standard output, and quantises twice only if told.
func TestLlamaQuantize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(args ...string) (string, error) {
		out, err := exec.Command("pumice", args...).Output() // testscript.Main put it into PATH
		if exit, ok := err.(*exec.ExitError); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return string(out), err
	}
	in := filepath.Join(dir, "in.gguf")
	if _, err := run("quantize", filepath.Join(top(t), "testdata", "fixtures", "llama"), in, "--type", "q8_0"); err != nil {
		t.Fatal(err)
	}
	open, err := os.CreateTemp(dir, "COPY")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	out, err := run("llama-quantize", "--allow-requantize", in, open.Name(), "COPY")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^\[\s*(\d+)/\s*30\]`).FindAllStringSubmatch(out, -1) // as ollama matches them
	if len(lines) != 30 || lines[29][1] != "30" {
		t.Errorf("%d lines of tensors: %s", len(lines), out)
	}
	got, err := io.ReadAll(open)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(in); err != nil || string(got) != string(want) {
		t.Errorf("%d bytes, %v; want the %d of the file", len(got), err, len(want))
	}
	if out, err := run("llama-quantize", in, filepath.Join(dir, "out.gguf"), "Q4_0"); err == nil || !strings.Contains(err.Error(), "error: llama-quantize: "+in+": tensor \"blk.0.attn_q.weight\" is Q8_0 already: --allow-requantize") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := run("llama-quantize", "--allow-requantize", in, "Q4_0"); err != nil {
		t.Error(err)
	}
	if out, err := run("inspect", filepath.Join(dir, "ggml-model-Q4_0.gguf")); err != nil || !strings.Contains(out, "Q4_0") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := run("llama-quantize", "--allow-requantize", in, in, "COPY"); err == nil || !strings.Contains(err.Error(), "is what is read") {
		t.Errorf("%s, %v", out, err)
	}
}
