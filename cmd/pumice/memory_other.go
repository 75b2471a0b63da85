//go:build !linux

package main

import (
	"errors"
	"os"
)

// memoryFile is an empty file in memory, which only Linux has.
func memoryFile() (*os.File, error) {
	return nil, errors.New("models without a file need Linux; pumice synth writes one")
}
