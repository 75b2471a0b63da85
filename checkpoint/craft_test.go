package checkpoint

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"pumice/internal/ggufwrite"
)

// These functions build files byte by byte, so that every field can also be
// wrong.

// craftZip is one entry of an archive, stored unless method says otherwise.
type craftZip struct {
	name   string
	data   []byte
	method uint16
	flags  uint16
	local  string // the local header's name, if it differs
	at     int64  // the local header's offset in the directory, if it differs
	crc    uint32 // added to the correct checksum
}

// zipBytes writes an archive. With zip64 the directory's end and all sizes are
// in the 64-bit form, as torch does for files over 4 GiB.
func zipBytes(zip64 bool, entries ...craftZip) []byte {
	le := binary.LittleEndian
	var b, dir []byte
	for _, e := range entries {
		offset := len(b)
		crc := crc32.ChecksumIEEE(e.data) + e.crc
		local := e.name
		if e.local != "" {
			local = e.local
		}
		b = append(b, "PK\x03\x04\x14\x00"...)
		b = le.AppendUint16(b, e.flags|8) // sizes follow the data, as torch writes them
		b = le.AppendUint16(b, e.method)
		b = append(b, make([]byte, 4+12)...) // time; crc and sizes, to come
		b = le.AppendUint16(b, uint16(len(local)))
		b = le.AppendUint16(b, 0)
		b = append(append(b, local...), e.data...)
		b = le.AppendUint32(append(b, "PK\x07\x08"...), crc)
		b = le.AppendUint32(b, uint32(len(e.data)))
		b = le.AppendUint32(b, uint32(len(e.data)))
		if e.at != 0 {
			offset = int(e.at)
		}
		var extra []byte
		size, at := uint32(len(e.data)), uint32(offset)
		if zip64 {
			extra = le.AppendUint16(le.AppendUint16(extra, 1), 24)
			extra = le.AppendUint64(le.AppendUint64(extra, uint64(size)), uint64(size))
			extra = le.AppendUint64(extra, uint64(offset))
			size, at = 0xffffffff, 0xffffffff
		}
		dir = append(dir, "PK\x01\x02\x14\x00\x14\x00"...)
		dir = le.AppendUint16(dir, e.flags|8)
		dir = le.AppendUint16(dir, e.method)
		dir = le.AppendUint32(append(dir, 0, 0, 0, 0), crc)
		dir = le.AppendUint32(le.AppendUint32(dir, size), size)
		dir = le.AppendUint16(dir, uint16(len(e.name)))
		dir = le.AppendUint16(dir, uint16(len(extra)))
		dir = append(dir, make([]byte, 10)...)
		dir = le.AppendUint32(dir, at)
		dir = append(append(dir, e.name...), extra...)
	}
	at, n, size := len(b), len(entries), len(dir)
	b = append(b, dir...)
	if zip64 {
		end := len(b)
		b = le.AppendUint64(append(b, "PK\x06\x06"...), 44)
		b = append(b, make([]byte, 4+8)...)
		b = le.AppendUint64(le.AppendUint64(b, uint64(n)), uint64(n))
		b = le.AppendUint64(le.AppendUint64(b, uint64(size)), uint64(at))
		b = append(b, "PK\x06\x07\x00\x00\x00\x00"...)
		b = le.AppendUint32(le.AppendUint64(b, uint64(end)), 1)
		n, size, at = 0xffff, 0xffffffff, 0xffffffff
	}
	b = append(b, "PK\x05\x06\x00\x00\x00\x00"...)
	b = le.AppendUint16(le.AppendUint16(b, uint16(n)), uint16(n))
	b = le.AppendUint32(le.AppendUint32(b, uint32(size)), uint32(at))
	return append(b, 0, 0)
}

// pickled is one tensor of a crafted state dict.
type pickled struct {
	name           string
	storage        string // torch's class
	key            string
	numel, offset  int
	shape, strides []int
}

func pickleInt(b []byte, v int) []byte {
	if v == int(int32(v)) {
		return binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(v))
	}
	return binary.LittleEndian.AppendUint64(append(b, '\x8a', 8), uint64(v))
}

func pickleString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(append(b, 'X'), uint32(len(s))), s...)
}

func pickleInts(b []byte, list []int) []byte {
	b = append(b, '(')
	for _, v := range list {
		b = pickleInt(b, v)
	}
	return append(b, 't')
}

// pickleTensor appends what torch.save writes for one tensor.
func pickleTensor(b []byte, p pickled) []byte {
	b = append(b, "ctorch._utils\n_rebuild_tensor_v2\n(("...)
	b = pickleString(b, "storage")
	b = append(b, "ctorch\n"+p.storage+"\n"...)
	b = pickleInt(pickleString(pickleString(b, p.key), "cpu"), p.numel)
	b = pickleInt(append(b, 't', 'Q'), p.offset)
	b = pickleInts(pickleInts(b, p.shape), p.strides)
	return append(b, "\x89ccollections\nOrderedDict\n)RtR"...)
}

// stateDict pickles a dict of tensors.
func stateDict(tensors ...pickled) []byte {
	b := []byte("\x80\x02}(")
	for _, p := range tensors {
		b = pickleTensor(pickleString(b, p.name), p)
	}
	return append(b, 'u', '.')
}

// torchBytes returns an archive as torch.save makes it.
func torchBytes(pickle []byte, storages ...[]byte) []byte {
	entries := []craftZip{{name: "m/data.pkl", data: pickle}, {name: "m/byteorder", data: []byte("little")}}
	for i, s := range storages {
		entries = append(entries, craftZip{name: fmt.Sprintf("m/data/%d", i), data: s})
	}
	return zipBytes(false, entries...)
}

// counting returns n float32 values 0, 1, 2...
func counting(n int) []byte {
	var b []byte
	for i := range n {
		b, _ = binary.Append(b, binary.LittleEndian, float32(i))
	}
	return b
}

// safetensorsBytes returns a file with the given header.
func safetensorsBytes(header string, body int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, body)...)
}

// ggufBytes returns a small valid file.
func ggufBytes(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.gguf")
	writeGGUF(t, path, []ggufwrite.KV{{Key: "general.architecture", Value: "llama"}, {Key: "n", Value: uint32(3)},
		{Key: "words", Value: []string{"a", "bc"}}, {Key: "scores", Value: []float32{1, 2}}}, "w")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// craftGGUF returns the start of a file: magic, version and counts, then the strings and
// integers of rest in GGUF's encoding.
func craftGGUF(version uint32, tensors, pairs uint64, rest ...any) []byte {
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), version)
	b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, tensors), pairs)
	for _, v := range rest {
		switch v := v.(type) {
		case string:
			b = append(binary.LittleEndian.AppendUint64(b, uint64(len(v))), v...)
		case []byte:
			b = append(b, v...)
		default:
			var err error
			if b, err = binary.Append(b, binary.LittleEndian, v); err != nil {
				panic(err)
			}
		}
	}
	return b
}
