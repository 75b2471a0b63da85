package checkpoint

import (
	"bytes"
	"cmp"
	"context"
	"hash/crc32"
	"math"
	"slices"
	"strings"

	"pumice/internal/dtype"
)

// A torch checkpoint (torch.save since 1.6) is a zip archive of NAME/data.pkl, a
// pickled dict of tensors, and of NAME/data/KEY, the storages of which the tensors
// are views. Several tensors can share a storage.

// legacyMagic is the start of files of torch.save before 1.6: the pickled integer
// 0x1950a86a20f9469cfc6c.
var legacyMagic = []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")

// parseTorch returns the tensors of a file in the dict's order.
func parseTorch(ctx context.Context, file string, data []byte) ([]*Tensor, error) {
	if bytes.HasPrefix(data, legacyMagic) {
		return nil, &UnsupportedError{file, "the torch.save format from before torch 1.6"}
	}
	entries, err := parseZip(ctx, file, data)
	if err != nil {
		return nil, err
	}
	prefix, err := torchPrefix(file, entries)
	if err != nil {
		return nil, err
	}
	if e := entries[prefix+"byteorder"]; e != nil && string(e.data) != "little" {
		return nil, &UnsupportedError{file, "byte order " + quote(string(e.data))}
	}
	program := entries[prefix+"data.pkl"]
	if len(program.data) <= maxPickleBytes && crc32.ChecksumIEEE(program.data) != program.crc {
		return nil, badFormat(file, program.offset, "the checksum of data.pkl is wrong")
	}
	storage := func(d dtype.DType, key string, numel int) (*torchStorage, error) {
		e := entries[prefix+"data/"+key]
		if e == nil {
			return nil, badFormat(file, program.offset, "storage %q is not in the archive", shorten(key))
		}
		if numel < 0 || numel > len(e.data)/d.BlockBytes() {
			return nil, badFormat(file, e.offset, "storage %q: %d elements of %s in %d bytes", shorten(key), numel, d, len(e.data))
		}
		return &torchStorage{d, numel, e.offset, e.data[:numel*d.BlockBytes()]}, nil
	}
	value, err := unpickle(ctx, file, program.offset, program.data, storage)
	if err != nil {
		return nil, err
	}
	return torchTensors(file, program.offset, value)
}

// torchPrefix returns the archive's one folder, with its slash.
func torchPrefix(file string, entries map[string]*zipEntry) (string, error) {
	prefix := ""
	for name := range entries {
		folder, ok := strings.CutSuffix(name, "/data.pkl")
		if !ok || strings.Contains(folder, "/") {
			continue
		}
		if prefix != "" {
			return "", badFormat(file, -1, "two entries named data.pkl")
		}
		prefix = folder + "/"
	}
	if prefix == "" {
		return "", badFormat(file, -1, "a zip archive without data.pkl is not a torch checkpoint")
	}
	return prefix, nil
}

// torchTensors turns the unpickled dict into tensors.
func torchTensors(file string, offset int64, value any) ([]*Tensor, error) {
	dict, ok := value.(*pickleDict)
	if !ok {
		return nil, badFormat(file, offset, "the pickle is %s, want a dict of tensors", pickleKind(value))
	}
	var tensors []*Tensor
	seen := map[string]bool{}
	for _, item := range dict.items {
		name, ok := item.key.(string)
		if !ok {
			return nil, badFormat(file, offset, "a tensor's name is %s", pickleKind(item.key))
		}
		if len(name) > maxName {
			return nil, badFormat(file, offset, "a name of %d bytes", len(name))
		}
		if seen[name] {
			return nil, badFormat(file, offset, "tensor %q appears twice", name)
		}
		seen[name] = true
		view, ok := item.value.(*torchTensor)
		if !ok {
			return nil, badFormat(file, offset, "the value of %q is not a tensor", name)
		}
		t, err := view.tensor(file, name)
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, t)
	}
	return tensors, nil
}

// tensor checks the view against its storage.
func (v *torchTensor) tensor(file, name string) (*Tensor, error) {
	s := v.storage
	n, ok := numElements(v.shape)
	if !ok {
		return nil, badFormat(file, s.offset, "tensor %q: invalid shape %v", name, v.shape)
	}
	if v.offset < 0 || v.offset > s.numel {
		return nil, badFormat(file, s.offset, "tensor %q: begins at element %d of %d", name, v.offset, s.numel)
	}
	// The elements are between the first and first + sum((size-1) * stride).
	span := 0
	for i, size := range v.shape {
		stride := v.strides[i]
		if stride < 0 || size > 1 && stride > (math.MaxInt-span)/(size-1) {
			return nil, badFormat(file, s.offset, "tensor %q: invalid strides %v", name, v.strides)
		}
		span += max(size-1, 0) * stride
	}
	switch {
	case n == 0:
		span = 0
	case span >= s.numel-v.offset:
		return nil, badFormat(file, s.offset, "tensor %q: shape %v, strides %v from element %d reach beyond a storage of %d",
			name, v.shape, v.strides, v.offset, s.numel)
	case overlapping(v.shape, v.strides):
		return nil, badFormat(file, s.offset, "tensor %q: shape %v, strides %v use an element of the storage twice", name, v.shape, v.strides)
	default:
		span++
	}
	size := s.dtype.BlockBytes()
	begin, end := v.offset*size, (v.offset+span)*size
	t := &Tensor{Name: name, DType: s.dtype, Shape: v.shape, File: file, Offset: s.offset + int64(begin), Data: s.data[begin:end:end]}
	if n > 0 && !contiguous(v.shape, v.strides) {
		t.Strides = v.strides
	}
	return t, nil
}

// overlapping reports whether two elements of a view are the same element of the
// storage. Such a view can be far larger than the file. Slicing and permuting a
// tensor never makes one.
func overlapping(shape, strides []int) bool {
	var dims []int
	for i, size := range shape {
		if size > 1 {
			dims = append(dims, i)
		}
	}
	slices.SortFunc(dims, func(a, b int) int { return cmp.Compare(strides[a], strides[b]) })
	span := 0 // distance of the first and last element of a slice over the dimensions so far
	for _, i := range dims {
		if strides[i] <= span {
			return true
		}
		span += (shape[i] - 1) * strides[i]
	}
	return false
}

func contiguous(shape, strides []int) bool {
	want := 1
	for i := len(shape) - 1; i >= 0; i-- {
		if shape[i] != 1 && strides[i] != want {
			return false
		}
		want *= shape[i]
	}
	return true
}
