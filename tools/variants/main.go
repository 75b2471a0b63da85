// Command variants tells tools/glslc.sh what package shaders knows of the kernels:
//
//	variants rows   the kernels of shaders/variants.txt, a line `NAME SOURCE NEEDS [DEFINE...]` each
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
	if len(args) != 1 || args[0] != "rows" {
		return errors.New("usage: variants rows")
	}
	rows, err := shaders.Rows()
	if err != nil {
		return err
	}
	for _, r := range rows {
		needs := "-"
		if len(r.Needs) > 0 {
			needs = strings.Join(r.Needs, ",")
		}
		fmt.Println(strings.Join(append([]string{r.Name, r.Source, needs}, r.Defines...), " "))
	}
	return nil
}
