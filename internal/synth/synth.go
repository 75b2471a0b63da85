// Package synth writes checkpoints with random weights, of any registered family and size, as a
// Hugging Face directory or a GGUF file. They open and run like real ones, but their output is
// meaningless. They serve to test sizes that can't be downloaded, and shapes that were never published.
//
// A Shape is a family with its sizes; Lookup returns those of published models. Write draws the
// weights while it writes them, so that it needs little memory and is as fast as the disk. It
// writes no tokenizer: such a model takes only token ids.
package synth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
)

// A Shape has the sizes of a model. Fields have the same meaning as in model.Config.
type Shape struct {
	Family        string
	Hidden        int
	Layers        int
	Heads         int
	KVHeads       int
	HeadDim       int
	Intermediate  int
	Vocab         int
	Context       int
	Eps           float64
	Theta         float64 // 0 without RoPE
	Window        int     // 0 if the family has none
	Tied          bool    // the embedding is also the head
	Second        bool    // Baichuan 2, not Baichuan
	LocalInterval int     // Gemma 3: every LocalInterval-th layer has global attention
}

// A Format is the storage format of a checkpoint.
type Format int

const (
	SafeTensors Format = iota // a directory with config.json and safetensors
	GGUF                      // one file
)

func (f Format) String() string { return [...]string{"safetensors", "gguf"}[f] }

// ParseFormat returns the format with this name.
func ParseFormat(name string) (Format, error) {
	for _, f := range []Format{SafeTensors, GGUF} {
		if strings.EqualFold(name, f.String()) {
			return f, nil
		}
	}
	return 0, fmt.Errorf("synth: unknown format %q: want safetensors or gguf", name)
}

// Families lists the families by name.
func Families() []string {
	var names []string
	for i := range families {
		names = append(names, families[i].name)
	}
	return names
}

func find(name string) (*family, error) {
	for i := range families {
		if families[i].name == name {
			return &families[i], nil
		}
	}
	return nil, fmt.Errorf("synth: unknown family %q: want one of %s", name, strings.Join(Families(), ", "))
}

// Sizes lists the published sizes of a family; there are none for an unknown family.
func Sizes(name string) []string {
	var out []string
	if f, err := find(name); err == nil {
		for _, p := range f.presets {
			out = append(out, p.name)
		}
	}
	return out
}

// Tiny is a size that every family has in addition to the published ones: two to four layers.
const Tiny = "tiny"

// Lookup returns the shape of a published size, or of Tiny.
func Lookup(name, size string) (Shape, error) {
	f, err := find(name)
	if err != nil {
		return Shape{}, err
	}
	if size == Tiny {
		return f.tiny(), nil
	}
	for _, p := range f.presets {
		if p.name == size {
			s := p.Shape
			s.Family = name
			return s, nil
		}
	}
	return Shape{}, fmt.Errorf("synth: %s has no size %q: want one of %s, %s", name, size, strings.Join(Sizes(name), ", "), Tiny)
}

// tiny returns the family's first size with its special properties but small dimensions.
func (f *family) tiny() Shape {
	s := f.presets[0].Shape
	s.Family = f.name
	s.Hidden, s.Intermediate, s.Layers, s.Heads, s.HeadDim = 256, 512, 2, 4, 64
	switch {
	case s.KVHeads == 1:
	case f.grouped:
		s.KVHeads = 2
	default:
		s.KVHeads = 4
	}
	if s.LocalInterval > 0 || f.name == "smollm3" {
		s.Layers = 6 // one of each kind
	}
	if f.fourfold {
		s.Intermediate = 4 * s.Hidden
	}
	s.Vocab, s.Context = 512, 512
	if s.Window > 0 {
		s.Window = 32
	}
	return s
}

// check refuses shapes that the family can't have.
func (s *Shape) check() error {
	f, err := find(s.Family)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		name  string
		value int
	}{
		{"hidden", s.Hidden}, {"layers", s.Layers}, {"heads", s.Heads}, {"key-value heads", s.KVHeads}, {"head dim", s.HeadDim},
		{"intermediate", s.Intermediate}, {"vocabulary", s.Vocab}, {"context", s.Context},
	} {
		if x.value < 1 || x.value > 1<<24 {
			return fmt.Errorf("synth: %s: %s of %d", s.Family, x.name, x.value)
		}
	}
	switch {
	case s.Heads%s.KVHeads != 0:
		return fmt.Errorf("synth: %s: %d heads do not share %d key-value heads evenly", s.Family, s.Heads, s.KVHeads)
	case s.HeadDim%2 != 0 || f.name == "chatglm" && s.HeadDim%4 != 0:
		return fmt.Errorf("synth: %s: heads of %d do not rotate", s.Family, s.HeadDim)
	case !f.headDim && s.Heads*s.HeadDim != s.Hidden:
		return fmt.Errorf("synth: %s: %d heads of %d are not the hidden size, %d", s.Family, s.Heads, s.HeadDim, s.Hidden)
	case f.oneKV && s.KVHeads != 1:
		return fmt.Errorf("synth: %s has one key-value head, not %d", s.Family, s.KVHeads)
	case !f.oneKV && !f.grouped && s.KVHeads != s.Heads:
		return fmt.Errorf("synth: %s has as many key-value heads as heads: %d, not %d", s.Family, s.Heads, s.KVHeads)
	case f.fourfold && s.Intermediate%s.Hidden != 0:
		return fmt.Errorf("synth: %s: an intermediate size of %d is not a multiple of the hidden size, %d", s.Family,
			s.Intermediate, s.Hidden)
	}
	return nil
}

// Resized returns the shape with those sizes of to that are not 0. Head dim and key-value heads
// are adjusted if the family derives them from other sizes.
func (s Shape) Resized(to Shape) Shape {
	f, err := find(s.Family)
	if err != nil {
		return s
	}
	set := func(p *int, v int) {
		if v != 0 {
			*p = v
		}
	}
	set(&s.Hidden, to.Hidden)
	set(&s.Layers, to.Layers)
	set(&s.Heads, to.Heads)
	set(&s.Intermediate, to.Intermediate)
	set(&s.Vocab, to.Vocab)
	set(&s.Context, to.Context)
	if !f.headDim && s.Heads > 0 {
		s.HeadDim = s.Hidden / s.Heads
	}
	if !f.oneKV && !f.grouped {
		s.KVHeads = s.Heads
	}
	if f.fourfold && to.Intermediate == 0 {
		s.Intermediate = 4 * s.Hidden
	}
	set(&s.HeadDim, to.HeadDim)
	set(&s.KVHeads, to.KVHeads)
	return s
}

// Parse returns the shape with a name such as xverse-7b or llama-3-8b: that of a family, and of a size that Lookup knows.
func Parse(name string) (Shape, error) {
	family, size, ok := strings.Cut(name, "-")
	if !ok {
		return Shape{}, fmt.Errorf("synth: shape %q: want a family and a size, such as xverse-7b", name)
	}
	return Lookup(family, size)
}

// Parameters counts the weights of a shape.
func (s Shape) Parameters() (int64, error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	f, _ := find(s.Family)
	var n int64
	for _, t := range s.tensors(f.hf) {
		n += t.elements()
	}
	return n, nil
}

// Options configure Write.
type Options struct {
	Format     Format
	DType      dtype.DType // type of the matrices
	Seed       uint64      // the same seed gives the same bytes
	Hollow     bool        // zeros that take no disk space instead of weights; GGUF only
	ShardBytes int64       // size of the largest safetensors file; 0 stands for 5 GB
	Progress   func(done, total int64)
}

// Formats lists the formats that a family can be written in.
func Formats(name string) []Format {
	f, err := find(name)
	switch {
	case err != nil:
		return nil
	case f.arch == "":
		return []Format{SafeTensors}
	}
	return []Format{SafeTensors, GGUF}
}

// Write writes a checkpoint to path: a directory of safetensors, which it makes, or a GGUF file
// (in the directory path if that does not end in .gguf). Existing files are never overwritten. An
// interrupted or failed write leaves no partial file behind, but may leave complete ones.
func Write(ctx context.Context, path string, s Shape, o Options) error {
	f, tensors, err := s.stored(o)
	if err != nil {
		return err
	}
	d := newDrawer(ctx, o.Seed, f.gainMinusOne && o.Format == SafeTensors, tensors, o.Progress)
	if o.Format == SafeTensors {
		return writeDirectory(path, f.config(&s), tensors, o, d)
	}
	if !strings.EqualFold(filepath.Ext(path), ".gguf") {
		path = filepath.Join(path, "model.gguf")
	}
	return writeGGUF(path, s.metadata(f), tensors, o, d)
}

// Check reports whether Write or Fill can write a shape.
func Check(s Shape, o Options) error {
	_, _, err := s.stored(o)
	return err
}

// Fill writes a GGUF file into w, whatever o.Format is. Hollow files it can't write.
func Fill(ctx context.Context, w io.Writer, s Shape, o Options) error {
	o.Format = GGUF
	f, tensors, err := s.stored(o)
	if err != nil {
		return err
	}
	layout, err := ggufwrite.New(s.metadata(f), filled(tensors, newDrawer(ctx, o.Seed, false, tensors, o.Progress)))
	if err == nil {
		_, err = w.Write(layout.Header)
	}
	if err == nil {
		err = layout.WriteTensors(w)
	}
	if err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	return nil
}

// stored returns the family and the tensors of a file of the shape.
func (s Shape) stored(o Options) (*family, []tensor, error) {
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	f, _ := find(s.Family)
	if !slices.Contains(Formats(s.Family), o.Format) {
		return nil, nil, fmt.Errorf("synth: GGUF has no architecture for %s", s.Family)
	}
	if !o.DType.Weight() {
		return nil, nil, fmt.Errorf("synth: %s weights cannot be written", o.DType)
	}
	if o.Hollow && o.Format != GGUF {
		return nil, nil, fmt.Errorf("synth: only GGUF files can be hollow, not %s", o.Format)
	}
	if o.Format == SafeTensors && o.DType.BlockSize() > 1 {
		return nil, nil, fmt.Errorf("synth: safetensors hold f32, f16 or bf16, not %s", o.DType)
	}
	list := f.hf
	if o.Format == GGUF {
		list = f.gguf
	}
	tensors := s.tensors(list)
	for i := range tensors {
		t := &tensors[i]
		t.dtype = o.DType
		if o.Format == GGUF && t.kind != matrix {
			t.dtype = dtype.F32 // the type of vectors from llama.cpp's converter
		}
		if t.cols%t.dtype.BlockSize() != 0 {
			return nil, nil, fmt.Errorf("synth: %s: rows of %d cannot be %s, which has blocks of %d", t.name, t.cols, t.dtype, t.dtype.BlockSize())
		}
	}
	return f, tensors, nil
}

// WriteHollow writes a GGUF file of a published model's size into dir, without weights (Options.Hollow), unless it is there, and
// returns its name.
func WriteHollow(ctx context.Context, dir, family, size string, t dtype.DType) (string, error) {
	s, err := Lookup(family, size)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, strings.Join([]string{family, size, t.String()}, "-")+".gguf")
	err = Write(ctx, file, s, Options{Format: GGUF, DType: t, Hollow: true})
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return file, err
}
