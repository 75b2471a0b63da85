// Command variants tells tools/glslc.sh what package shaders knows of the kernels:
//
//	variants rows            the kernels of shaders/variants.txt, a line `NAME SOURCE TARGET [DEFINE...]` each
//	variants interface FILE  what the kernel in a SPIR-V file is given, as shaders/spv/manifest.txt has it
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"pumice/shaders"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "rows":
		return rows()
	case len(args) == 2 && args[0] == "interface":
		spirv, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		f, err := shaders.Reflect(spirv)
		if err != nil {
			return err
		}
		fmt.Println(f)
		return nil
	}
	return errors.New("usage: variants rows | variants interface FILE")
}

func rows() error {
	list, err := shaders.Rows()
	if err != nil {
		return err
	}
	for _, r := range list {
		fmt.Println(strings.Join(append([]string{r.Name, r.Source, r.Target()}, r.Defines...), " "))
	}
	return nil
}
