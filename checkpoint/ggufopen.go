package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// splitName matches the files of a split model: NAME-00001-of-00003.gguf.
var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// openGGUF opens a GGUF file and, if it is the first of a split model, the other files.
// The key-value pairs are those of the first file.
func (c *Checkpoint) openGGUF(ctx context.Context, path string) error {
	c.format = GGUF
	files, err := c.addGGUF(ctx, path, 0, 0)
	if err != nil {
		return err
	}
	if files <= 1 {
		return nil
	}
	name := splitName.FindStringSubmatch(filepath.Base(path))
	if name == nil {
		return badFormat(path, -1, "the first of %d files, but its name does not end in -00001-of-%05d.gguf", files,
			files)
	}
	for i := 1; i < files; i++ {
		file := filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%05d.gguf", name[1], i+1, files))
		if errors.Is(errOf(file), fs.ErrNotExist) {
			return badFormat(file, -1, "file %d of %d is missing", i+1, files)
		}
		if _, err := c.addGGUF(ctx, file, i, files); err != nil {
			return err
		}
	}
	if want := c.metadata.IntOr("split.tensors.count", len(c.names)); want != len(c.names) {
		c.metadata.Fail("split.tensors.count", "%d tensors expected, the files have %d", want, len(c.names))
	}
	return c.metadata.Err()
}

// addGGUF adds one file: number i, from 0, of a model split into so many files. files is 0 for the first, which says
// how many. It returns the number of files.
func (c *Checkpoint) addGGUF(ctx context.Context, path string, i, files int) (int, error) {
	m, err := c.mapFile(path)
	if err != nil {
		return 0, err
	}
	g, err := parseGGUF(ctx, path, m.data)
	if err != nil {
		return 0, err
	}
	c.pairs = append(c.pairs, g.pairs)
	fields := &Fields{file: path, source: g.pairs, first: new(error)}
	no, count := fields.IntOr("split.no", 0), fields.IntOr("split.count", 1)
	if count < 0 || count > 99999 {
		fields.Fail("split.count", "%d files", count)
	}
	switch {
	case fields.Err() != nil:
		return 0, fields.Err()
	case files == 0 && no != 0:
		return 0, badFormat(path, -1, "file %d of %d: open the first file", no+1, count)
	case files > 0 && (no != i || count != files):
		return 0, badFormat(path, -1, "file %d of %d, want file %d of %d", no+1, count, i+1, files)
	}
	if files == 0 {
		c.metadata = fields
	}
	return count, c.addTensors(g.tensors, nil)
}

// findGGUF returns the one GGUF model of a directory; if it is split, its first
// file.
func findGGUF(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() || !strings.EqualFold(filepath.Ext(e.Name()), ".gguf") {
			continue
		}
		if m := splitName.FindStringSubmatch(e.Name()); m != nil {
			if no, _ := strconv.Atoi(m[2]); no != 1 {
				continue
			}
		}
		found = append(found, filepath.Join(dir, e.Name()))
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", badFormat(dir, -1, "no weights: want model.safetensors or pytorch_model.bin, in one file or with an "+
			"index, or a GGUF file")
	}
	return "", badFormat(dir, -1, "%d GGUF models (%q and others): name one", len(found), filepath.Base(found[0]))
}
