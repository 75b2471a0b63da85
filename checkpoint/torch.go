package checkpoint

import (
	"bytes"
	"context"
	"hash/crc32"
	"math"
	"strings"

	"github.com/nlpodyssey/gopickle/types"

	"pumice/internal/dtype"
)

// A torch checkpoint (torch.save since 1.6) is a zip archive: NAME/data.pkl, a
// pickled dict of tensors, and NAME/data/KEY, the storages that the tensors
// are views of. Several tensors can share a storage.

// maxExpanded bounds the elements of a tensor that repeats some by a stride of
// zero, since nothing in the file pays for them.
const maxExpanded = 1 << 28

// legacyMagic begins the files of torch.save before 1.6: the pickled integer
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
	value, err := unpickle(file, program.offset, program.data, storage)
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
		return "", badFormat(file, -1, "a zip archive without data.pkl is no torch checkpoint")
	}
	return prefix, nil
}

// torchTensors turns the unpickled dict into tensors.
func torchTensors(file string, offset int64, value any) ([]*Tensor, error) {
	var tensors []*Tensor
	seen := map[string]bool{}
	add := func(key, value any) error {
		name, ok := key.(string)
		if !ok {
			return badFormat(file, offset, "a tensor's name is a %T", key)
		}
		if seen[name] {
			return badFormat(file, offset, "tensor %q appears twice", name)
		}
		seen[name] = true
		v, ok := value.(*torchTensor)
		if !ok {
			return badFormat(file, offset, "the value of %q is no tensor", name)
		}
		t, err := v.tensor(file, name)
		tensors = append(tensors, t)
		return err
	}
	switch d := value.(type) {
	case *types.Dict:
		for _, e := range *d {
			if err := add(e.Key, e.Value); err != nil {
				return nil, err
			}
		}
	case *types.OrderedDict:
		for e := d.List.Front(); e != nil; e = e.Next() {
			entry := e.Value.(*types.OrderedDictEntry)
			if err := add(entry.Key, entry.Value); err != nil {
				return nil, err
			}
		}
	default:
		return nil, badFormat(file, offset, "the pickle is a %T, want a dict of tensors", value)
	}
	return tensors, nil
}

// tensor checks the view against its storage.
func (v *torchTensor) tensor(file, name string) (*Tensor, error) {
	s := v.storage
	n, ok := numElements(v.shape)
	if !ok {
		return nil, badFormat(file, s.offset, "tensor %q: absurd shape %v", name, v.shape)
	}
	if n > s.numel && n > maxExpanded {
		return nil, badFormat(file, s.offset, "tensor %q: shape %v over a storage of %d elements", name, v.shape, s.numel)
	}
	if v.offset < 0 || v.offset > s.numel {
		return nil, badFormat(file, s.offset, "tensor %q: begins at element %d of %d", name, v.offset, s.numel)
	}
	// The elements lie between the first and first + sum((size-1) * stride).
	span := 0
	for i, size := range v.shape {
		stride := v.strides[i]
		if stride < 0 || size > 1 && stride > (math.MaxInt-span)/(size-1) {
			return nil, badFormat(file, s.offset, "tensor %q: absurd strides %v", name, v.strides)
		}
		span += max(size-1, 0) * stride
	}
	switch {
	case n == 0:
		span = 0
	case span >= s.numel-v.offset:
		return nil, badFormat(file, s.offset, "tensor %q: shape %v, strides %v from element %d reach beyond a storage of %d",
			name, v.shape, v.strides, v.offset, s.numel)
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
