package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pumice"
	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/quantize"
)

// llamaQuantizeName is the name under which the program takes llama-quantize's command line.
const llamaQuantizeName = "llama-quantize"

// quantizeFallbackVariable is fallbackVariable's like for llama-quantize.
const quantizeFallbackVariable = "PUMICE_FALLBACK_QUANTIZE"

const llamaQuantizeUsage = `usage: llama-quantize [--allow-requantize] [--pure] model.gguf [model-quant.gguf] TYPE [THREADS]

TYPE is a type, such as Q8_0, a mixture, such as Q4_K_M, or the number of one. Mixtures have llama.cpp's types; where all
matrices have one type, the embedding and the head have at least Q6_K. COPY keeps the type of each tensor.
`

// A llamaFileType is a type of files that llama-quantize writes, with the type that most of their matrices have.
type llamaFileType struct {
	name   string
	number uint32
	dtype  dtype.DType
}

// llamaTypes are from llama.cpp b10434 (tools/quantize/quantize.cpp; llama.h, enum llama_ftype).
var llamaTypes = []llamaFileType{
	{"F32", 0, dtype.F32}, {"F16", 1, dtype.F16}, {"BF16", 32, dtype.BF16}, {"Q4_0", 2, dtype.Q4_0}, {"Q4_1", 3, dtype.Q4_1}, {"Q8_0", 7, dtype.Q8_0},
	{"Q5_0", 8, dtype.Q5_0}, {"Q5_1", 9, dtype.Q5_1}, {"Q2_K", 10, dtype.Q2_K}, {"Q2_K_S", 21, dtype.Q2_K}, {"Q3_K", 12, dtype.Q3_K}, {"Q3_K_S", 11, dtype.Q3_K},
	{"Q3_K_M", 12, dtype.Q3_K}, {"Q3_K_L", 13, dtype.Q3_K}, {"Q4_K", 15, dtype.Q4_K}, {"Q4_K_S", 14, dtype.Q4_K}, {"Q4_K_M", 15, dtype.Q4_K},
	{"Q5_K", 17, dtype.Q5_K}, {"Q5_K_S", 16, dtype.Q5_K}, {"Q5_K_M", 17, dtype.Q5_K}, {"Q6_K", 18, dtype.Q6_K}, {"IQ4_NL", 25, dtype.IQ4_NL},
	{"IQ4_XS", 30, dtype.IQ4_XS}, {"TQ2_0", 37, dtype.TQ2_0},
}

// copyType is the type that keeps types.
const copyType = "COPY"

// llamaQuantization is what llama-quantize's command line says.
type llamaQuantization struct {
	in, out    string
	typeName   string
	o          quantize.Options
	requantize bool
	help       bool
}

// parseLlamaQuantize reads llama-quantize's command line: flags, an input, perhaps an output, a type, perhaps a number of threads.
func parseLlamaQuantize(args []string) (*llamaQuantization, error) {
	q := &llamaQuantization{o: quantize.Options{Workers: runtime.GOMAXPROCS(0)}}
	for ; len(args) > 0 && strings.HasPrefix(args[0], "-"); args = args[1:] {
		switch args[0] {
		case "--allow-requantize":
			q.requantize = true
		case "--pure":
			q.o.Pure = true
		case "-h", "--help":
			q.help = true
			return q, nil
		default:
			return nil, &usageError{fmt.Sprintf("%s %s: it is not supported", llamaQuantizeName, args[0])}
		}
	}
	if len(args) < 2 {
		return nil, &usageError{llamaQuantizeName + ": want a GGUF file and a type"}
	}
	q.in, args = args[0], args[1:]
	if q.typeName, q.o.Type = llamaType(args[0]); q.typeName == "" && len(args) > 1 {
		q.out = args[0]
		args = args[1:]
		q.typeName, q.o.Type = llamaType(args[0])
	}
	if q.typeName == "" {
		return nil, &usageError{fmt.Sprintf("%s: type %q: want COPY or one of %s", llamaQuantizeName, args[0], dtype.Names(dtype.Weights()))}
	}
	q.o.Keep = q.typeName == copyType
	if i := slices.IndexFunc(llamaTypes, func(t llamaFileType) bool { return t.name == q.typeName }); i >= 0 {
		q.o.Mix = quantize.MixNumbered(llamaTypes[i].number)
	}
	if q.out == "" {
		q.out = filepath.Join(filepath.Dir(q.in), "ggml-model-"+q.typeName+".gguf")
	}
	switch args = args[1:]; {
	case len(args) > 1:
		return nil, &usageError{fmt.Sprintf("%s: unexpected argument %q", llamaQuantizeName, args[1])}
	case len(args) == 1:
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 {
			return nil, &usageError{fmt.Sprintf("%s: %q: want a number of threads", llamaQuantizeName, args[0])}
		}
		q.o.Workers = min(n, q.o.Workers)
	}
	return q, nil
}

// llamaType returns the name of a type that is given by name or number, or "".
func llamaType(text string) (string, dtype.DType) {
	if strings.EqualFold(text, copyType) {
		return copyType, 0
	}
	number, err := strconv.ParseUint(text, 10, 32)
	for _, t := range llamaTypes {
		if strings.EqualFold(text, t.name) || err == nil && uint32(number) == t.number {
			return t.name, t.dtype
		}
	}
	return "", 0
}

// llamaQuantize is llama-quantize, with the lines of its output that hosts count.
func (p *program) llamaQuantize(ctx context.Context, args []string) error {
	q, err := parseLlamaQuantize(args)
	if err != nil {
		return err
	}
	if q.help {
		return p.printf("%s", llamaQuantizeUsage)
	}
	ck, err := checkpoint.Open(ctx, q.in)
	if err != nil {
		return err
	}
	defer ck.Close()
	if ck.Format() != checkpoint.GGUF {
		return fmt.Errorf("%s: %s is no GGUF file; pumice quantize takes directories", llamaQuantizeName, q.in)
	}
	var plan *quantize.Plan
	var begins []int64 // where each tensor begins among all of them
	shown := 0
	q.o.Progress = func(done, _ int64) {
		for ; shown < len(begins) && begins[shown] < done; shown++ {
			t := plan.Tensors[shown]
			p.printf("[%4d/%4d] %36s - %v, type = %6s, converting to %s\n", shown+1, len(begins), t.Name, t.Shape, t.From, t.DType)
		}
	}
	plan, err = quantize.NewPlan(ctx, ck, q.o)
	var foreign *pumice.UnsupportedError
	if fallback := os.Getenv(quantizeFallbackVariable); errors.As(err, &foreign) && fallback != "" {
		p.note("%v: %s takes over", err, fallback)
		return errors.Join(err, syscall.Exec(fallback, append([]string{fallback}, args...), os.Environ()))
	}
	if err != nil {
		return err
	}
	var size, from int64
	for _, t := range plan.Tensors {
		begins = append(begins, size)
		size += t.Bytes
		n := int64(1)
		for _, d := range t.Shape {
			n *= int64(d)
		}
		from += n / int64(t.From.BlockSize()) * int64(t.From.BlockBytes())
		if !q.requantize && t.From != t.DType && t.From.BlockSize() > 1 {
			return fmt.Errorf("%s: %s: tensor %q is %s already: --allow-requantize quantises it once more", llamaQuantizeName, q.in, t.Name, t.From)
		}
	}
	start := time.Now()
	if err := writeLlama(ctx, plan, q.in, q.out); err != nil {
		return err
	}
	return p.printf("llama_model_quantize_impl: model size  = %8.2f MiB\nllama_model_quantize_impl: quant size  = %8.2f MiB\n\nmain: quantize time = %8.2f ms\n",
		float64(from)/mib, float64(size)/mib, float64(time.Since(start).Microseconds())/1000)
}

// writeLlama writes a file, or into the file that is there, as llama-quantize does: ollama makes it, keeps it open and reads it
// from there.
func writeLlama(ctx context.Context, plan *quantize.Plan, in, path string) error {
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return plan.Write(ctx, path, false)
	}
	if own, err := os.Stat(in); err != nil || os.SameFile(own, there) {
		return errors.Join(err, fmt.Errorf("%s is what is read", path))
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(plan.WriteIn(ctx, f), f.Close())
}
