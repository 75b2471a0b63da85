package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
)

func (p *program) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:     "verify",
		Category: ofDevices,
		Usage:    "compare every kernel that this device can run with a float64 reference",
		Flags: []cli.Flag{
			stringFlag("types", "", "check the kernels that read weights or KV caches of `TYPE,...` (default: all kernels)"),
			stringFlag("kernels", "", "check kernels `NAME,...`, spelled as in shaders/variants.txt (default: all)"),
			boolFlag("quick", false, "check matrix products at three shapes instead of seven or more"),
			boolFlag("verbose", false, "print every check, not only wrong results"),
			boolFlag("compile-times", false, "also list the processor time of compiling each kernel (use --cache-dir none)"),
			stringFlag("model", "", "also check `MODEL` from end to end"),
			cacheDirFlag(),
			jsonFlag(),
		},
		Action: p.verify,
	}
}

// A compile is a kernel that a path compiled. Several paths may compile the same one.
type compile struct {
	Path string `json:"path"`
	pumice.Compile
}

// compiledChecks are what --json writes with --compile-times.
type compiledChecks struct {
	Checks   []pumice.VerifyResult `json:"checks"`
	Compiles []compile             `json:"compiles"`
}

// printCompiles prints a line for each, and their sum.
func (p *program) printCompiles(list []compile) {
	if len(list) == 0 {
		return
	}
	var sum float64
	for _, k := range list {
		p.printf("%9.1f ms  %-4s  %-28s %v\n", k.MS, k.Path, k.Kernel, k.Spec)
		sum += k.MS
	}
	p.printf("%9.1f ms  in %d compilations\n", sum, len(list))
}

// checkTime is what a check may take after a signal: it ends by itself, and its longest part, a driver's compiler, can't be
// interrupted. On two busy cores lavapipe takes over a second for a large kernel.
const checkTime = 10 * time.Second

// errWrong says that some check failed.
var errWrong = errors.New("verify: this device computes wrong results")

func (p *program) verify(c *cli.Context) error {
	if err := noMoreArgs(c, 0); err != nil {
		return err
	}
	p.interrupt.allow(checkTime)
	ctx := c.Context
	verbose := c.Bool("verbose") && !c.Bool("json")
	bar := p.newCount("checking")
	defer bar.close()
	if !verbose && bar.bar == nil {
		p.note("checking kernels; this takes minutes")
	}
	results := []pumice.VerifyResult{}
	wrong := 0
	each := func(r pumice.VerifyResult) {
		for _, v := range []*float64{&r.NMSE, &r.MaxAbs, &r.MaxRel} {
			if math.IsNaN(*v) || math.IsInf(*v, 0) { // JSON has neither
				*v = math.MaxFloat64
			}
		}
		if !r.OK {
			wrong++
		}
		results = append(results, r)
		if verbose || !r.OK && !c.Bool("json") {
			word := "ok"
			if !r.OK {
				word = "WRONG"
			}
			bar.close()
			p.printf("%-5s  %-28s %-34s nmse %.1e  max abs %.1e\n", word, r.Kernel, r.Case, r.NMSE, r.MaxAbs)
		}
	}
	compiles := []compile{}
	o := pumice.VerifyOptions{Types: splitList(c.String("types")), Kernels: splitList(c.String("kernels")), Quick: c.Bool("quick"), Progress: bar.ints}
	if c.Bool("compile-times") {
		o.Compiled = func(path string, k pumice.Compile) { compiles = append(compiles, compile{path, k}) }
	}
	err := p.verifyKernels(ctx, c, o, each)
	slices.SortStableFunc(compiles, func(x, y compile) int { return cmp.Compare(y.MS, x.MS) })
	if name := c.String("model"); name != "" && err == nil {
		err = p.verifyModel(ctx, c, name, each)
	}
	bar.close()
	if errors.Is(err, context.Canceled) {
		p.note("nothing of an interrupted check is kept: --types and --kernels check a part, and --quick fewer shapes")
	}
	switch {
	case c.Bool("json") && err != nil && !errors.Is(err, context.Canceled):
	case c.Bool("json") && o.Compiled != nil:
		err = errors.Join(err, p.writeJSON(compiledChecks{results, compiles}))
	case c.Bool("json"):
		err = errors.Join(err, p.writeJSON(results))
	case !c.Bool("json") && len(results) > 0: // of a run that was interrupted, too
		p.printCompiles(compiles)
		err = errors.Join(err, p.printf("%d checks, %d wrong\n", len(results), wrong))
	}
	if err == nil && wrong > 0 {
		err = errWrong
	}
	return err
}

// verifyKernels runs the checks of package pipeline on the device that the options select.
func (p *program) verifyKernels(ctx context.Context, c *cli.Context, o pumice.VerifyOptions, each func(pumice.VerifyResult)) error {
	d, err := pumice.OpenDevice(p.options(c))
	if err != nil {
		return err
	}
	return errors.Join(d.Verify(ctx, o, each), d.Close())
}

// verifyModel compares the logits of a prompt that is evaluated at once with those of the same prompt token by token: the
// two take different kernels, and agree unless one of them is wrong.
func (p *program) verifyModel(ctx context.Context, c *cli.Context, name string, each func(pumice.VerifyResult)) error {
	engine, err := p.open(ctx, c, name)
	if err != nil {
		return err
	}
	defer engine.Close()
	const n = 33 // no multiple of a tile
	vocab := engine.Config().VocabSize
	prompt := make([]int, min(n, engine.Context()))
	for i := range prompt {
		prompt[i] = (i*7919 + 11) % vocab // any spread of tokens will do
	}
	var atOnce []float32
	for row, err := range engine.NewSession().Logits(ctx, prompt, false) {
		if err != nil {
			return err
		}
		atOnce = append(atOnce, row...)
	}
	stepped, err := stepLogits(ctx, engine.NewSession(), prompt)
	if err != nil {
		return err
	}
	each(compare(fmt.Sprintf("%d tokens at once and one by one", len(prompt)), stepped, atOnce))
	return nil
}

// stepLogits evaluates a prompt one token at a time and returns the logits after the last.
func stepLogits(ctx context.Context, session *pumice.Session, prompt []int) ([]float32, error) {
	var last []float32
	for n := range prompt {
		for row, err := range session.Logits(ctx, prompt[:n+1], false) {
			if err != nil {
				return nil, err
			}
			last = append(last[:0], row...)
		}
	}
	return last, nil
}

// modelTolerance is the NMSE that two evaluations of the same tokens may differ by. They round keys and values to the cache's
// type alike, so only the order of float32 sums is left: 1.5e-9 on SmolLM2 (lavapipe 22.3.6), with room for deeper models.
const modelTolerance = 1e-5

// compare checks got against want.
func compare(what string, want, got []float32) pumice.VerifyResult {
	r := pumice.VerifyResult{Kernel: "model", Case: what, Tolerance: modelTolerance}
	var noise, signal float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		noise += d * d
		signal += float64(want[i]) * float64(want[i])
		r.MaxAbs = max(r.MaxAbs, math.Abs(d))
		if want[i] != 0 {
			r.MaxRel = max(r.MaxRel, math.Abs(d/float64(want[i])))
		}
	}
	r.NMSE = noise / signal
	r.OK = r.NMSE <= r.Tolerance // not if it is NaN
	return r
}
