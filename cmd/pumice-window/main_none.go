//go:build !window

// Command pumice-window shows in a window what a pumice serve on this machine does. Built without the tag window it says so.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "pumice-window: this program has no windows; build it with go build -tags window ./cmd/pumice-window")
	os.Exit(2)
}
