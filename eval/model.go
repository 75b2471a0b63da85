package eval

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"pumice/internal/regular"
)

// modelFiles are the files of a directory that determine a model.
var modelFiles = []string{"*.safetensors", "*.bin", "*.pth", "*.pt", "*.gguf", "*.json", "*.model"}

// splitName matches the end of the name of a GGUF file of a split model.
var splitName = regexp.MustCompile(`-\d{5}-of-(\d{5})\.gguf$`)

// ModelSHA256 returns a hash of a model: that of its file, or for several files that of their names and hashes.
func ModelSHA256(ctx context.Context, path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	var files []string
	switch name := splitName.FindStringSubmatch(path); {
	case info.IsDir():
		for _, pattern := range modelFiles {
			found, err := filepath.Glob(filepath.Join(escapeGlob(path), pattern))
			if err != nil {
				return "", err
			}
			files = append(files, found...)
		}
		slices.Sort(files)
		if len(files) == 0 {
			return "", fmt.Errorf("eval: no model's files in %s", path)
		}
	case name != nil:
		base := strings.TrimSuffix(path, splitName.FindString(path))
		if files, err = filepath.Glob(escapeGlob(base) + "-*-of-" + name[1] + ".gguf"); err != nil {
			return "", err
		}
	default:
		return fileSHA256(ctx, path)
	}
	all := sha256.New()
	for _, f := range files {
		sum, err := fileSHA256(ctx, f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%s %s\n", sum, filepath.Base(f))
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func fileSHA256(ctx context.Context, name string) (string, error) {
	f, err := regular.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &cancellable{ctx, f}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cancellable is a reader that returns ctx's error once ctx has ended.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
