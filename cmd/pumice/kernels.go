package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/dtype"
	"pumice/internal/synth"
)

func (p *program) kernelsCommand() *cli.Command {
	return &cli.Command{
		Name:      "kernels",
		Category:  ofDevices,
		Usage:     "list the kernels that a model runs on this device, and what the driver makes of them",
		ArgsUsage: "[MODEL]",
		Description: "Without MODEL the kernels are those of a 7B Llama with the weights of each of --types. No weights are loaded.\n\n" +
			"--stats compiles each kernel and lists what the driver tells of it: registers of an invocation, registers that did not fit\n" +
			"(spills) and the memory they take, the bytes of code, the lanes of a subgroup. Drivers on GPUs tell that; CPU drivers don't.",
		Flags: slices.Concat([]cli.Flag{
			boolFlag("stats", false, "compile the kernels and list registers, spills, code size and subgroup size"),
			stringFlag("types", "q4_0,q8_0,q4_k,f16", "without MODEL, list the kernels for weights of `TYPE,...`"),
			jsonFlag(),
		}, modelFlags()),
		Action: p.kernels,
	}
}

func (p *program) kernels(c *cli.Context) error {
	named := c.Args().Len() > 0 || c.IsSet("model") || c.IsSet("hf-repo")
	if named && c.IsSet("types") {
		return &usageError{"--types and MODEL: give one of them"}
	}
	var types []dtype.DType
	for _, name := range splitList(c.String("types")) {
		t, err := dtype.Parse(name)
		if err == nil && !t.Weight() {
			err = fmt.Errorf("%s is no type of weights", name)
		}
		if err != nil {
			return &usageError{"--types: " + err.Error()}
		}
		types = append(types, t)
	}
	d, err := pumice.OpenDevice(p.options(c))
	if err != nil {
		return err
	}
	defer d.Close()
	list := []pumice.KernelStats{}
	if named {
		var name string
		if name, err = onlyModel(c); err == nil {
			list, err = p.kernelsOf(c, d, name)
		}
	} else {
		list, err = p.kernelsOfTypes(c, d, types)
	}
	if err != nil && !errors.Is(err, pumice.ErrNoStats) {
		return err
	}
	if c.Bool("json") {
		return errors.Join(err, p.writeJSON(list))
	}
	return errors.Join(p.printKernels(list, c.Bool("stats") && err == nil), err)
}

// kernelsOf lists the kernels of a model.
func (p *program) kernelsOf(c *cli.Context, d *pumice.Device, name string) ([]pumice.KernelStats, error) {
	m, err := pumice.OpenModel(c.Context, name)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.Kernels(c.Context, d, p.options(c), c.Bool("stats"))
}

// kernelsOfTypes lists the kernels of a 7B Llama of each type.
func (p *program) kernelsOfTypes(c *cli.Context, d *pumice.Device, types []dtype.DType) ([]pumice.KernelStats, error) {
	dir, err := os.MkdirTemp("", "pumice-kernels")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	all := []pumice.KernelStats{}
	seen := map[string]bool{}
	var none error
	for _, t := range types {
		file, err := synth.WriteHollow(c.Context, dir, "llama", "2-7b", t)
		if err != nil {
			return nil, err
		}
		list, err := p.kernelsOf(c, d, file)
		if err != nil && !errors.Is(err, pumice.ErrNoStats) {
			return nil, err
		}
		if err != nil {
			none = err
		}
		for _, k := range list {
			if key := k.Kernel + " " + k.Constants; !seen[key] {
				seen[key] = true
				all = append(all, k)
			}
		}
	}
	return all, none
}

// printKernels prints a line for each kernel.
func (p *program) printKernels(list []pumice.KernelStats, stats bool) error {
	if stats {
		p.printf("%-26s %9s %6s %8s %8s %8s %6s  %s\n", "kernel", "registers", "spills", "scratch", "shared", "code", "lanes", "constants")
	}
	for _, k := range list {
		var err error
		if stats {
			err = p.printf("%-26s %9d %6d %8d %8d %8d %6d  %s\n", k.Kernel, k.Registers, k.Spills, k.Scratch, k.Shared, k.CodeBytes, k.Lanes, k.Constants)
		} else {
			err = p.printf("%-26s %s\n", k.Kernel, k.Constants)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
