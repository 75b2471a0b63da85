// Package checkpoint reads models in the formats in which they are published: GGUF
// files, and Hugging Face directories with safetensors or torch weights. Open
// returns a Checkpoint with Tensors by name, whose bytes are mapped from the file
// and never copied, and with Fields, the strictly read configuration. The package
// knows nothing of what names and fields mean for a model.
//
// Files are untrusted. Every length, offset and count is checked against the
// file when it is opened, and an error is a *FormatError or an
// *UnsupportedError. Memory is bounded, and no file can run code.
package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
)

// Format is the file format of the weights.
type Format int

// The formats.
const (
	GGUF Format = iota + 1
	SafeTensors
	Torch
)

func (f Format) String() string {
	switch f {
	case GGUF:
		return "GGUF"
	case SafeTensors:
		return "safetensors"
	case Torch:
		return "torch"
	}
	return fmt.Sprintf("Format(%d)", int(f))
}

// Checkpoint is an open model. All methods except Close are safe for concurrent
// use, but a Fields that they return is not. Each call returns Fields with a
// sticky error of their own, so that each goroutine can read its own.
type Checkpoint struct {
	path       string
	format     Format
	config     *Fields
	generation *Fields
	metadata   *Fields
	tensors    map[string]*Tensor
	names      []string
	mappings   []*mapping
	pairs      []*ggufPairs
}

// Open opens a GGUF file (the first one of a split model), a Hugging Face
// directory, a directory with one GGUF model, or a single .safetensors or .bin
// file beside a config.json. The caller closes the Checkpoint. ctx can cancel
// only Open itself.
func Open(ctx context.Context, path string) (*Checkpoint, error) {
	c := &Checkpoint{path: path, tensors: map[string]*Tensor{}}
	if err := Guard(func() error { return c.open(ctx, path) }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// OpenWeights opens one safetensors or torch file without a configuration, such
// as an adapter's: Config is nil. The caller closes the Checkpoint.
func OpenWeights(ctx context.Context, path string) (*Checkpoint, error) {
	c := &Checkpoint{path: path, tensors: map[string]*Tensor{}}
	var err error
	if c.format, err = sniff(path); err != nil {
		return nil, err
	}
	if c.format == GGUF {
		return nil, &UnsupportedError{File: path, Feature: "GGUF instead of safetensors"}
	}
	if err := Guard(func() error { return c.addFile(ctx, path, nil) }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Checkpoint) open(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if info.IsDir() {
		return c.openDirectory(ctx, path)
	}
	format, err := sniff(path)
	if err != nil {
		return err
	}
	if format == GGUF {
		return c.openGGUF(ctx, path)
	}
	return c.openSingle(ctx, path, format)
}

// sniff determines the format of a file by its first bytes, or else by its name.
func sniff(path string) (Format, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, min(size, int64(len(legacyMagic))))
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0, fmt.Errorf("checkpoint: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte("GGUF")):
		return GGUF, nil
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, legacyMagic):
		return Torch, nil
	case len(head) > 8 && head[8] == '{':
		return SafeTensors, nil
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".gguf":
		return GGUF, nil
	case ".safetensors":
		return SafeTensors, nil
	case ".bin", ".pt", ".pth":
		return Torch, nil
	}
	return 0, badFormat(path, 0, "neither a GGUF, a safetensors nor a torch file")
}

// Close unmaps the files. Tensors' Data and Metadata must not be used after
// Close. Closing twice is fine.
func (c *Checkpoint) Close() error {
	for _, t := range c.tensors {
		t.Data = nil
	}
	for _, p := range c.pairs {
		p.data = nil
	}
	var err error
	for _, m := range c.mappings {
		err = errors.Join(err, m.close())
	}
	c.mappings = nil
	return err
}

// Path returns the path that was opened.
func (c *Checkpoint) Path() string { return c.path }

// Format returns the format of the weights.
func (c *Checkpoint) Format() Format { return c.format }

// Config returns config.json, or nil for GGUF.
func (c *Checkpoint) Config() *Fields { return c.config.own() }

// GenerationConfig returns generation_config.json, or nil if there is none.
func (c *Checkpoint) GenerationConfig() *Fields { return c.generation.own() }

// Metadata returns GGUF's key-value pairs, or nil for other formats. They are
// read from the mapped file and valid until Close.
func (c *Checkpoint) Metadata() *Fields { return c.metadata.own() }

// RawMetadata returns GGUF's key-value pairs in file order, each value in the
// file's encoding, with its type first. Other formats have none. Read them in
// Guard.
func (c *Checkpoint) RawMetadata() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if len(c.pairs) == 0 {
			return
		}
		for _, key := range c.pairs[0].order {
			if !yield(key, c.pairs[0].raw(key)) {
				return
			}
		}
	}
}

// Tensor returns the tensor with the given name.
func (c *Checkpoint) Tensor(name string) (*Tensor, bool) {
	t, ok := c.tensors[name]
	return t, ok
}

// Names returns the tensors' names in file order. The caller must not change them.
func (c *Checkpoint) Names() []string { return c.names }

// NumBytes returns the size of all tensors in their stored types. A storage
// that several tensors share counts once for each of them.
func (c *Checkpoint) NumBytes() int64 {
	var n int64
	for _, t := range c.tensors {
		n += t.NumBytes()
	}
	return n
}

func (c *Checkpoint) mapFile(path string) (*mapping, error) {
	m, err := mapFile(path)
	if err == nil {
		c.mappings = append(c.mappings, m)
	}
	return m, err
}

// addTensors adds the tensors of a file for which keep returns true, or all if keep is nil.
func (c *Checkpoint) addTensors(tensors []*Tensor, keep func(name string) bool) error {
	for _, t := range tensors {
		if keep != nil && !keep(t.Name) {
			continue
		}
		if other := c.tensors[t.Name]; other != nil {
			return badFormat(t.File, t.Offset, "tensor %q is also in %s", t.Name, other.File)
		}
		c.tensors[t.Name] = t
		c.names = append(c.names, t.Name)
	}
	return nil
}

// errOf returns the error of looking up a path, or nil if it exists.
func errOf(path string) error {
	_, err := os.Stat(path)
	return err
}
