//go:build lab

package verify

import (
	"fmt"
	"os"

	"pumice/internal/lab"
)

// What the environment asks for is in place before anything reads the kernels.
func init() {
	if err := lab.Apply(os.Getenv("PUMICE_SPV"), os.Getenv("PUMICE_LAB")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
