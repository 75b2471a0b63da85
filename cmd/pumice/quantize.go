package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/humanize"
	"pumice/quantize"
)

func (p *program) quantizeCommand() *cli.Command {
	return &cli.Command{
		Name:      "quantize",
		Category:  ofModels,
		Usage:     "write a model as a GGUF file for llama.cpp, with its matrices in another type",
		ArgsUsage: "MODEL FILE.gguf",
		Description: "MODEL is a Hugging Face directory, or a GGUF file, whose metadata are kept.\n" +
			"Types: " + dtype.Names(dtype.Weights()) + ".\n" +
			"Mixtures, with more bits for the matrices that llama.cpp gives more: " + strings.Join(quantize.MixNames(), ", ") + ".\n" +
			"Where a type's block size does not divide the length of a row, another type takes its place: Q5_0 that of Q4_K, Q5_1 that\n" +
			"of Q5_K, Q8_0 that of Q6_K, Q4_0 that of TQ2_0, IQ4_NL that of the other K types and IQ4_XS, and F16 where that does not divide it either.\n" +
			"Norms and biases stay float32. docs/quantization.md lists what each type costs in quality.",
		Flags: []cli.Flag{
			stringFlag("type", "q8_0", "convert the matrices to `TYPE`, or by a mixture of types"),
			boolFlag("pure", false,
				"convert all matrices to this type, the embedding and the head too, which otherwise are at least Q6_K"),
			boolFlag("force", false, "overwrite a regular file, also the one that a symbolic link points to"),
			jsonFlag(),
		},
		Action: p.quantize,
	}
}

// quantized is what --json writes.
type quantized struct {
	Path          string           `json:"path"`
	Architecture  string           `json:"architecture"`
	Type          string           `json:"type"`
	Bytes         int64            `json:"bytes"`
	Parameters    int64            `json:"parameters"`
	BitsPerWeight float64          `json:"bits_per_weight"`
	Tensors       map[string]int   `json:"tensors"`      // by type
	TensorBytes   map[string]int64 `json:"tensor_bytes"` // by type
}

// quantizeOptions returns the options that the flags give.
func quantizeOptions(c *cli.Context) (quantize.Options, error) {
	name := c.String("type")
	o := quantize.Options{Pure: c.Bool("pure"), Workers: runtime.GOMAXPROCS(0)}
	var err error
	if o.Type, err = dtype.Parse(name); err == nil && o.Type.Weight() {
		return o, nil
	}
	if o.Mix = quantize.MixNamed(name); o.Mix == nil {
		hint := ""
		if near := nearestType(name); near != "" {
			hint = "; the nearest is " + near
		}
		return o, &usageError{fmt.Sprintf("--type %q: want one of %s, %s%s", name, dtype.Names(dtype.Weights()), strings.Join(quantize.MixNames(), ", "), hint)}
	}
	o.Type = o.Mix.Type
	return o, nil
}

// nearestType returns the type or mixture of as many bits whose name begins as a name does for longest, "" if there is none.
func nearestType(name string) string {
	name = strings.ToLower(name)
	bits := regexp.MustCompile("[0-9]+")
	want := bits.FindString(name)
	near, most := "", 0
	for _, known := range append(strings.Split(dtype.Names(dtype.Weights()), ", "), quantize.MixNames()...) {
		same := 0
		for same < min(len(known), len(name)) && known[same] == name[same] {
			same++
		}
		if bits.FindString(known) == want && same >= most {
			near, most = known, same
		}
	}
	return near
}

func (p *program) quantize(c *cli.Context) error {
	if err := noMoreArgs(c, 2); err != nil {
		return err
	}
	if c.Args().Get(1) == "" {
		return &usageError{"quantize: want a model and the name of a GGUF file"}
	}
	o, err := quantizeOptions(c)
	if err != nil {
		return err
	}
	out := c.Args().Get(1)
	if !strings.HasSuffix(out, ".gguf") {
		return &usageError{fmt.Sprintf("quantize: %q: want a name that ends in .gguf", out)}
	}
	if _, err := os.Lstat(out); err == nil && !c.Bool("force") {
		return fmt.Errorf("%s exists: --force overwrites it", out)
	}
	path, err := pumice.Resolve(c.Args().First())
	if err != nil {
		return err
	}
	ck, err := checkpoint.Open(c.Context, path)
	if err != nil {
		return err
	}
	defer ck.Close()
	if ck.Metadata() == nil {
		var none *pumice.NoTokenizerError
		if o.Tokenizer, err = pumice.OpenTokenizer(c.Context, path); errors.As(err, &none) {
			p.note("%s has no tokenizer, so the GGUF file has none either", path)
		} else if err != nil {
			return err
		}
	}
	bar := p.newBar("writing")
	defer bar.close()
	o.Progress = bar.set
	plan, err := quantize.NewPlan(c.Context, ck, o)
	if err != nil {
		return err
	}
	for _, note := range plan.Notes {
		p.note("%s", note)
	}
	again := 0
	for _, t := range plan.Tensors {
		if t.From.BlockSize() > 1 && t.From != t.DType {
			again++
		}
	}
	if again > 0 {
		p.note("%d matrices are quantised already: another type loses quality once more, and a wider one gains nothing", again)
	}
	ctx := c.Context
	if err := plan.Write(ctx, out, c.Bool("force")); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: --force overwrites a file", err)
	} else if err != nil {
		return err
	}
	bar.close()
	return p.printQuantized(c, plan, out, o)
}

func (p *program) printQuantized(c *cli.Context, plan *quantize.Plan, path string, o quantize.Options) error {
	name := o.Type.String()
	if o.Mix != nil {
		name = o.Mix.Name
	}
	q := quantized{Path: path, Architecture: plan.Architecture, Type: name, Bytes: plan.Bytes(), Parameters: plan.Parameters,
		Tensors: map[string]int{}, TensorBytes: map[string]int64{}}
	var total int64
	var types []string
	for _, t := range plan.Tensors {
		name := t.DType.String()
		if q.Tensors[name]++; !slices.Contains(types, name) {
			types = append(types, name)
		}
		q.TensorBytes[name] += t.Bytes
		total += t.Bytes
	}
	q.BitsPerWeight = 8 * float64(total) / float64(max(q.Parameters, 1))
	if c.Bool("json") {
		return p.writeJSON(q)
	}
	var parts []string
	for _, name := range types {
		parts = append(parts, fmt.Sprintf("%d tensors %s (%s)", q.Tensors[name], name, humanize.Bytes(q.TensorBytes[name])))
	}
	return p.printf("%s: %s, %s, %.2f bits a weight: %s\n", path, q.Architecture, humanize.Bytes(q.Bytes), q.BitsPerWeight, strings.Join(parts, ", "))
}
