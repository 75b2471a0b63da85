// Command coalesce counts what the lanes of a subgroup ask of memory together: for every kernel of GPUs, the sectors of 32 bytes
// that a request touches beside the least that its bytes fill, and the conflicts of banks in shared memory. No GPU or driver is
// involved: package simt executes workgroups of production's dispatches, as package kernels specialises them for three GPUs.
//
//	coalesce REPORT   puts the tables into the file REPORT, docs/coalescing.md
//	coalesce -sites KERNEL   lists the sites of one kernel on NVIDIA's
//
// The package's test fails where a kernel takes more than the tables say or than the bound allows.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"pumice/internal/simt"
	"pumice/shaders"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "coalesce:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "-sites":
		return sites(args[1])
	case len(args) != 1:
		return errors.New("usage: coalesce REPORT | -sites KERNEL")
	}
	old, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var all [][]traced
	for _, g := range gpus() {
		list, err := traces(g, "")
		if err != nil {
			return err
		}
		all = append(all, list)
	}
	text, err := write(string(old), all)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if err := os.WriteFile(args[0], []byte(text), 0o644); err != nil {
		return err
	}
	for _, list := range all {
		err = errors.Join(err, check(list))
	}
	return err
}

// A traced is a dispatch and what it has asked for on a GPU.
type traced struct {
	dispatch
	*Trace
	gpu string
}

// traces executes for a GPU the dispatches of one kernel or, without a name, all.
func traces(g gpu, kernel string) ([]traced, error) {
	variants, err := shaders.Variants()
	if err != nil {
		return nil, err
	}
	named := map[string]shaders.Variant{}
	for _, v := range variants {
		named[v.Name] = v
	}
	list := slices.DeleteFunc(dispatches(g), func(d dispatch) bool { return kernel != "" && d.variant != kernel })
	out := make([]traced, len(list))
	var eg errgroup.Group
	eg.SetLimit(runtime.NumCPU())
	for i := range list {
		eg.Go(func() error {
			t, err := list[i].trace(g, named[list[i].variant])
			out[i] = traced{list[i], t, g.name}
			return err
		})
	}
	return out, eg.Wait()
}

// sites prints what each site of a kernel asks for.
func sites(kernel string) error {
	list, err := traces(gpus()[0], kernel)
	if err != nil {
		return err
	}
	for _, t := range list {
		fmt.Printf("%s: %.2f\n", t.variant, t.total())
		for _, s := range t.Sites {
			if s.Binding == simt.Shared {
				fmt.Printf("%s: %d requests, %d cycles in %d phases, %d ways\n", t.site(s), s.Requests, s.Cycles, s.Phases, s.Ways)
			} else {
				fmt.Printf("%s: %d requests, %d sectors of at least %d, %d lines of at least %d\n", t.site(s), s.Requests, s.Sectors, s.LeastSectors, s.Lines, s.LeastLines)
			}
		}
	}
	return nil
}
