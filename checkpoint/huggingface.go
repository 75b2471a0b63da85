package checkpoint

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// maxIndexBytes bounds model.safetensors.index.json; 100,000 tensors take 10 MB.
const maxIndexBytes = 64 << 20

// weightFiles are the possible names of the weights in a Hugging Face
// directory, the preferred one first.
var weightFiles = []struct {
	name   string
	format Format
	index  bool
}{
	{"model.safetensors", SafeTensors, false},
	{"model.safetensors.index.json", SafeTensors, true},
	{"pytorch_model.bin", Torch, false},
	{"pytorch_model.bin.index.json", Torch, true},
}

// openDirectory opens a Hugging Face directory, or a directory with one GGUF
// model and no other weights.
func (c *Checkpoint) openDirectory(ctx context.Context, dir string) error {
	has := func(name string) bool {
		return !errors.Is(errOf(filepath.Join(dir, name)), fs.ErrNotExist)
	}
	for _, w := range weightFiles {
		if !has(w.name) {
			continue
		}
		if err := c.readConfigs(dir); err != nil {
			return err
		}
		c.format = w.format
		if w.index {
			return c.openSharded(ctx, dir, w.name)
		}
		return c.addFile(ctx, filepath.Join(dir, w.name), nil)
	}
	first, err := findGGUF(dir)
	if err != nil {
		return err
	}
	return c.openGGUF(ctx, first)
}

// openSingle opens one safetensors or torch file and the configuration beside it.
func (c *Checkpoint) openSingle(ctx context.Context, path string, format Format) error {
	if err := c.readConfigs(filepath.Dir(path)); err != nil {
		return err
	}
	c.format = format
	return c.addFile(ctx, path, nil)
}

// readConfigs reads config.json, which must exist, and
// generation_config.json, which may exist.
func (c *Checkpoint) readConfigs(dir string) error {
	var err error
	c.config, err = ReadFields(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return badFormat(dir, -1, "weights without a config.json beside them")
	}
	if err != nil {
		return err
	}
	c.generation, err = ReadFields(filepath.Join(dir, "generation_config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// addFile maps one file of weights and adds the tensors for which keep returns
// true, or all if keep is nil.
func (c *Checkpoint) addFile(ctx context.Context, path string, keep func(name string) bool) error {
	m, err := c.mapFile(path)
	if err != nil {
		return err
	}
	parse := parseSafetensors
	if c.format == Torch {
		parse = parseTorch
	}
	tensors, err := parse(ctx, path, m.data)
	if err != nil {
		return err
	}
	return c.addTensors(tensors, keep)
}

// openSharded opens the files that an index names. A tensor in several files is
// taken from the file that the index names for it; tensors that the index does
// not mention are kept.
func (c *Checkpoint) openSharded(ctx context.Context, dir, index string) error {
	path := filepath.Join(dir, index)
	weightMap, err := readIndex(ctx, path)
	if err != nil {
		return err
	}
	shards := map[string]bool{}
	for _, shard := range weightMap {
		shards[shard] = true
	}
	names := make([]string, 0, len(shards))
	for shard := range shards {
		names = append(names, shard)
	}
	slices.Sort(names)
	for _, shard := range names {
		file := filepath.Join(dir, shard)
		if errors.Is(errOf(file), fs.ErrNotExist) {
			return badFormat(path, -1, "the shard %q is missing", shard)
		}
		err := c.addFile(ctx, file, func(name string) bool {
			want, ok := weightMap[name]
			return !ok || want == shard
		})
		if err != nil {
			return err
		}
	}
	missing := []string{}
	for name := range weightMap {
		if c.tensors[name] == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		first := slices.Min(missing)
		return badFormat(path, -1, "tensor %q is not in %q, the file that the index names (%d such tensors)", first,
			weightMap[first], len(missing))
	}
	return nil
}

// readIndex returns the index's weight_map: the file of each tensor.
func readIndex(ctx context.Context, path string) (map[string]string, error) {
	text, err := readFile(path, maxIndexBytes)
	if err != nil {
		return nil, err
	}
	return parseIndex(ctx, path, text)
}

func parseIndex(ctx context.Context, path string, text []byte) (map[string]string, error) {
	r := newObjectReader(ctx, path, 0, text)
	var weightMap map[string]string
	r.object(func(key string) {
		if key != "weight_map" {
			r.skip()
			return
		}
		if weightMap != nil {
			r.fail("weight_map appears twice")
			return
		}
		weightMap = map[string]string{}
		shards := map[string]string{}
		r.object(func(tensor string) {
			shard := r.str()
			if r.err != nil {
				return
			}
			if _, ok := weightMap[tensor]; ok {
				r.fail("tensor %q appears twice", tensor)
				return
			}
			if len(weightMap) == maxTensors {
				r.fail("more than %d tensors", maxTensors)
				return
			}
			if shards[shard] == "" {
				if !plainFileName(shard) {
					r.fail("tensor %q: the shard %q is not a file of this directory", tensor, shard)
					return
				}
				shards[shard] = shard
			}
			weightMap[tensor] = shards[shard] // one copy of each file name
		})
	})
	r.end()
	if r.err == nil && len(weightMap) == 0 {
		r.fail("no weight_map")
	}
	return weightMap, r.err
}

// plainFileName reports whether name can only mean a file of the directory in
// which it is looked up, on any system.
func plainFileName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\:\x00")
}
