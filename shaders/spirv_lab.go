//go:build lab

package shaders

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// replaced has NAME.spv of the kernels that are not those of the build; "" means none.
var replaced string

// Replace makes Variants take the kernels of which dir has NAME.spv from there, with the interface that the build's have. It is
// called before Variants.
func Replace(dir string) { replaced = dir }

// compiled is the compiled kernel of a name.
func compiled(name string) ([]byte, error) {
	if replaced != "" {
		b, err := os.ReadFile(filepath.Join(replaced, name+".spv"))
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	return files.ReadFile("spv/" + name + ".spv")
}
