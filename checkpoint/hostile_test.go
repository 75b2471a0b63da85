package checkpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pumice/internal/bounded"
	"pumice/internal/ggufwrite"
)

// hostile is a file that must be refused. want is part of the message.
type hostile struct {
	name string
	data []byte
	want string
}

// readers are the parsers, each given bytes as if they were mapped.
var readers = map[string]func(ctx context.Context, data []byte) error{
	"safetensors": func(ctx context.Context, data []byte) error {
		_, err := parseSafetensors(ctx, "x.safetensors", data)
		return err
	},
	"torch":  func(ctx context.Context, data []byte) error { _, err := parseTorch(ctx, "x.bin", data); return err },
	"gguf":   func(ctx context.Context, data []byte) error { _, err := parseGGUF(ctx, "x.gguf", data); return err },
	"config": func(_ context.Context, data []byte) error { _, err := NewFields("config.json", data); return err },
	"index": func(ctx context.Context, data []byte) error {
		_, err := parseIndex(ctx, "index.json", data)
		return err
	},
}

func hostileSafetensors() []hostile {
	one := func(begin, end string, body int) []byte {
		return safetensorsBytes(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[`+begin+`,`+end+`]}}`, body)
	}
	shape := func(s string) []byte {
		return safetensorsBytes(`{"w":{"dtype":"F32","shape":`+s+`,"data_offsets":[0,8]}}`, 8)
	}
	many := strings.Repeat(`"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, 2)
	return []hostile{
		{"empty", nil, "too short"},
		{"header beyond file", binary.LittleEndian.AppendUint64(nil, 100), "a header of 100 bytes in a file of 8 (an incomplete download?)"},
		{"header of 2^64-1", bytes.Repeat([]byte{0xff}, 64), "a header of"},
		{"no header", make([]byte, 8), "cut off"},
		{"list", safetensorsBytes("[]", 0), "want a JSON object"},
		{"cut header", safetensorsBytes(`{"w":{"dtype":"F32"`, 0), "cut off"},
		{"data after header", safetensorsBytes(`{} {}`, 0), "follows"},
		{"begin after end", one("8", "0", 8), "bytes 8 to 0"},
		{"negative offset", one("-8", "0", 8), "bytes -8 to 0"},
		{"beyond file", one("0", "8", 7), `the file ends before the end of tensor "w": it has 69 bytes, its tensors need 70 (an incomplete download?)`},
		{"wrong size", one("0", "4", 4), "4 bytes for shape [2]"},
		{"offset 2^63", one("0", "9223372036854775808", 8), "integers"},
		{"offset as float", one("0", "8.0", 8), "integers"},
		{"offset as string", one(`"0"`, "8", 8), "integers"},
		{"hole", safetensorsBytes(`{"w":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`, 4), "belong to no tensor"},
		{"tail", one("0", "8", 9), "1 bytes after the last tensor"},
		{"overlap", safetensorsBytes(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`, 6), `"b" overlaps`},
		{"same bytes twice", safetensorsBytes(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4), "overlaps"},
		{"duplicate", safetensorsBytes(`{`+many[:len(many)-1]+`}`, 0), `"x" appears twice`},
		{"duplicate key", safetensorsBytes(`{"w":{"dtype":"U8","dtype":"U8"}}`, 0), `"dtype" appears twice`},
		{"overflowing shape", shape("[4294967296,4294967296]"), "invalid shape"},
		{"overflow hidden by zero", shape("[0,4294967296,4294967296]"), "invalid shape"},
		{"shape of 2^63", shape("[9223372036854775807]"), "invalid shape"},
		{"negative shape", shape("[-2,-1]"), "invalid shape"},
		{"nine dimensions", shape("[1,1,1,1,1,1,1,1,2]"), "at most 8 integers"},
		{"nested shape", shape("[[2]]"), "integers"},
		{"unknown dtype", safetensorsBytes(`{"w":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}}`, 8), `tensor "w": dtype "F7"`},
		{"unknown key", safetensorsBytes(`{"w":{"type":"F32"}}`, 0), `unknown key "type"`},
		{"huge name", safetensorsBytes(`{"`+strings.Repeat("n", 1<<20)+`":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), "a name of 1048576 bytes"},
		{"missing key", safetensorsBytes(`{"w":{"dtype":"F32","shape":[0]}}`, 0), "want dtype, shape"},
		{"null tensor", safetensorsBytes(`{"w":null}`, 0), "want a JSON object"},
		{"metadata of numbers", safetensorsBytes(`{"__metadata__":{"a":1}}`, 0), "want a string"},
		{"deep nesting", safetensorsBytes(strings.Repeat(`{"a":`, 100000), 0), "unknown key"},
		{"deep metadata", safetensorsBytes(`{"__metadata__":{"a":`+strings.Repeat(`[`, 100000), 0), "want a string"},
	}
}

func hostileTorch() []hostile {
	good := pickled{"w", "FloatStorage", "0", 4, 0, []int{4}, []int{1}}
	with := func(change func(p *pickled)) []byte {
		p := good
		change(&p)
		return torchBytes(stateDict(p), counting(4))
	}
	program := func(s string) []byte { return torchBytes([]byte("\x80\x02" + s)) }
	zip := func(change func(e *craftZip)) []byte {
		e := craftZip{name: "m/data/0", data: counting(4)}
		change(&e)
		return zipBytes(false, craftZip{name: "m/data.pkl", data: stateDict(good)}, e)
	}
	valid := torchBytes(stateDict(good), counting(4))
	end := bytes.LastIndex(valid, []byte("PK\x05\x06"))
	endField := func(at int, v uint32) []byte {
		b := slices.Clone(valid)
		binary.LittleEndian.PutUint32(b[end+at:], v)
		return b
	}
	return []hostile{
		{"empty", nil, "cut off"},
		{"not a zip", []byte("hello, world, this is no archive"), "cut off (an incomplete download?)"},
		{"legacy", append(slices.Clone(legacyMagic), '.'), "before torch 1.6"},
		{"os.system", program("cos\nsystem\n(X\x02\x00\x00\x00lstR."), `"os.system"`},
		{"eval", program("cbuiltins\neval\n(X\x01\x00\x00\x001tR."), `"builtins.eval"`},
		{"python 2 eval", program("c__builtin__\neval\n."), `"__builtin__.eval"`},
		{"object", program("c__builtin__\nobject\n."), `"__builtin__.object"`},
		{"reconstructor", program("ccopy_reg\n_reconstructor\n."), `"copy_reg._reconstructor"`},
		{"torch global", program("ctorch.jit\n_load\n."), `"torch.jit._load"`},
		{"almost allowed", program("ctorch\nFloatStorage2\n."), "FloatStorage2"},
		{"stack global", program("X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."), "protocol 4"},
		{"instance", program("(ios\nsystem\n."), "opcode 0x69"},
		{"extension", program("\x82\x01."), "opcode 0x82"},
		{"protocol 4", torchBytes([]byte("\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.")), "protocol 4"},
		{"protocol 9", torchBytes([]byte("\x80\x09.")), "protocol 9"},
		{"opcode 0xff", program("\xff."), "opcode 0xff"},
		{"no stop", program("}"), "cut off"},
		{"after stop", program("}.}"), "1 bytes follow"},
		{"nothing on the stack", program("."), "malformed pickle"},
		{"string beyond file", program("X\xff\xff\xff\x7fabc."), "cut off in opcode"},
		{"huge long", program("\x8a\xff" + strings.Repeat("\x7f", 255) + "."), "integer of 255 bytes"},
		{"huge long4", program("\x8b\xff\xff\xff\x7f."), "opcode 0x8b"},
		{"empty long", program("\x8a\x00."), "integer of 0 bytes"},
		{"decimal long", program("L" + strings.Repeat("9", 100000) + "L\n."), "opcode 0x4c"},
		{"deep marks", program(strings.Repeat("(", 100000) + "."), "nests more than"},
		{"tuple without mark", program("t."), "without a mark"},
		{"mark crossing", program("}(R."), "malformed pickle"},
		{"odd items", program("}(K\x01u."), "malformed pickle"},
		{"unhashable key", program("ccollections\nOrderedDict\n)R(C\x01aK\x01u."), "malformed pickle"},
		{"opcode flood", program("N" + strings.Repeat("q\x00", maxPickleOps) + "."), "opcodes"},
		{"stack flood", program(strings.Repeat("}", maxPickleOps) + "."), "values on its stack"},
		{"huge list is called", program(stringBomb("]", "a") + ")R."), "opcode 0x52: a list is called"},
		{"huge dict is called", program(stringBomb("}", "h\x00s") + ")R."), "opcode 0x52: a dict is called"},
		{"huge tuple is called", program(stringBomb("(", "") + "t)R."), "opcode 0x52: a tuple is called"},
		{"called with a huge list", program("ccollections\nOrderedDict\n" + stringBomb("]", "a") + "R."), "the arguments are not a tuple"},
		{"huge list as a key", program(stringBomb("]", "a") + "q\x01}h\x01Ns."), "a dict's key is a list"},
		{"huge list as a tensor", program(stringBomb("]", "a") + "q\x01}X\x01\x00\x00\x00ah\x01s."), `"a" is not a tensor`},
		{"huge list as a storage", program(stringBomb("]", "a") + "Q."), "not a storage"},
		{"huge list", program(stringBomb("]", "a") + "."), "the pickle is a list"},
		{"huge name", program("}X\x00\x00\x10\x00" + strings.Repeat("n", 1<<20) + "Ns."), "a name of 1048576 bytes"},
		{"deep tuples are called", program(")" + strings.Repeat("\x85", 100000) + ")R."), "a tuple is called"},
		{"doubled tuples are called", program(")" + strings.Repeat("q\x00h\x00\x86", 60) + ")R."), "a tuple is called"},
		{"dict of attributes for a list", program("]}b."), "a list is given a dict for attributes"},
		{"arguments for OrderedDict", program("ccollections\nOrderedDict\n]\x85R."), "OrderedDict with 1 arguments"},
		{"memo of nothing", program("h\x07."), "nothing in the memo under 7"},
		{"memo flood", program(memoFlood()), "want a dict"},
		{"pickle flood", torchBytes(make([]byte, maxPickleBytes+1)), "a pickle of"},
		{"no dict", program("K\x01."), "want a dict"},
		{"list", program("]."), "want a dict"},
		{"no tensor", program("}X\x01\x00\x00\x00aK\x01s."), `"a" is not a tensor`},
		{"name is a number", program("}K\x01K\x01s."), "name is an integer"},
		{"cyclic list", program("]q\x00h\x00aK\x01)R."), "malformed pickle"},
		{"dict holding itself", program("}q\x00X\x01\x00\x00\x00ah\x00s."), `"a" is not a tensor`},
		{"persistent id", program("K\x01Q."), "not a storage"},
		{"storage of a module", program("(X\x07\x00\x00\x00storageccollections\nOrderedDict\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ."), "unexpected type"},
		{"duplicate tensor", torchBytes(stateDict(good, good), counting(4)), "appears twice"},
		{"missing storage", with(func(p *pickled) { p.key = "7" }), `storage "7" is not in`},
		{"storage outside", with(func(p *pickled) { p.key = "../data.pkl" }), "is not in"},
		{"storage too short", with(func(p *pickled) { p.numel = 5 }), "5 elements of F32 in 16 bytes"},
		{"negative storage", with(func(p *pickled) { p.numel = -1 }), "-1 elements"},
		{"storage of 2^62", with(func(p *pickled) { p.numel = 1 << 62 }), "elements of F32"},
		{"view beyond storage", with(func(p *pickled) { p.offset = 1 }), "reach beyond"},
		{"negative offset", with(func(p *pickled) { p.offset = -1 }), "begins at element -1"},
		{"offset of 2^62", with(func(p *pickled) { p.offset = 1 << 62 }), "begins at element"},
		{"negative stride", with(func(p *pickled) { p.offset, p.strides = 3, []int{-1} }), "invalid strides"},
		{"overflowing stride", with(func(p *pickled) { p.shape, p.strides = []int{3, 2}, []int{math.MaxInt / 2, math.MaxInt / 2} }), "invalid strides"},
		{"overflowing shape", with(func(p *pickled) { p.shape, p.strides = []int{1 << 40, 1 << 40}, []int{0, 0} }), "invalid shape"},
		{"negative shape", with(func(p *pickled) { p.shape = []int{-4} }), "invalid shape"},
		{"expanded", with(func(p *pickled) { p.shape, p.strides = []int{2, 4}, []int{0, 1} }), "use an element of the storage twice"},
		{"expanded element", with(func(p *pickled) { p.shape, p.strides = []int{1 << 28}, []int{0} }), "use an element of the storage twice"},
		{"overlapping rows", with(func(p *pickled) { p.shape, p.strides = []int{3, 2}, []int{1, 1} }), "use an element of the storage twice"},
		{"overlapping columns", with(func(p *pickled) { p.shape, p.strides = []int{2, 2, 1}, []int{1, 1, 9} }), "use an element of the storage twice"},
		{"expanded to 2^40", with(func(p *pickled) { p.shape, p.strides = []int{1 << 20, 1 << 20}, []int{0, 0} }), "use an element of the storage twice"},
		{"strides of another rank", with(func(p *pickled) { p.strides = []int{1, 1} }), "unexpected arguments"},
		{"nine dimensions", with(func(p *pickled) { p.shape, p.strides = make([]int, 9), make([]int, 9) }), "unexpected arguments"},
		{"no data.pkl", zipBytes(false, craftZip{name: "m/x", data: nil}), "without data.pkl"},
		{"two data.pkl", zipBytes(false, craftZip{name: "a/data.pkl"}, craftZip{name: "b/data.pkl"}), "two entries"},
		{"wrong checksum", zipBytes(false, craftZip{name: "m/data.pkl", data: stateDict(), crc: 1}), "checksum"},
		{"big endian", zipBytes(false, craftZip{name: "m/data.pkl", data: stateDict()}, craftZip{name: "m/byteorder", data: []byte("big")}), `byte order "big"`},
		{"compressed entry", zip(func(e *craftZip) { e.method = 8 }), `compressed zip entry "m/data/0"`},
		{"encrypted entry", zip(func(e *craftZip) { e.flags = 1 }), "encrypted"},
		{"path outside", zip(func(e *craftZip) { e.name = "../x" }), "leaves the archive"},
		{"path outside within", zip(func(e *craftZip) { e.name = "m/../../x" }), "leaves the archive"},
		{"absolute path", zip(func(e *craftZip) { e.name = "/etc/passwd" }), "leaves the archive"},
		{"path with backslash", zip(func(e *craftZip) { e.name = `m\..\x` }), "leaves the archive"},
		{"duplicate entry", zip(func(e *craftZip) { e.name = "m/data.pkl" }), "appears twice"},
		{"other local name", zip(func(e *craftZip) { e.local = "m/data/1" }), "another name"},
		{"overlapping entry", zipBytes(false, craftZip{name: "m/a", data: counting(40)}, craftZip{name: "m/a", data: nil, at: 1}), "no local header"},
		{"header outside", zip(func(e *craftZip) { e.at = 1 << 30 }), "outside the file"},
		{"header in the directory", zip(func(e *craftZip) { e.at = int64(end) - 10 }), "outside the file"},
		{"nested entries", nestedZip(), "overlap"},
		{"directory outside", endField(16, 1<<31), "outside the file"},
		{"directory too large", endField(12, 1<<31), "outside the file"},
		{"more entries than fit", endField(8, 0xfffefffe), "zip entries in a directory"},
		{"fewer entries than fit", endField(8, 0x00010001), "longer than its entries"},
		{"several volumes", endField(4, 0x00010001), "several volumes"},
		{"zip64 record outside", zip64Outside(), "no zip64 directory record"},
		{"zip64 extra missing", bytes.ReplaceAll(zipBytes(true, craftZip{name: "m/data.pkl", data: stateDict()}), []byte{1, 0, 24, 0}, []byte{2, 0, 24, 0}), "64-bit sizes"},
	}
}

// stringBomb returns a program that puts a string of 64 KiB into the value that begin makes, 50000 times. The opcodes
// of add follow each string.
func stringBomb(begin, add string) string {
	s := string(pickleString(nil, strings.Repeat("A", 1<<16))) + "q\x00"
	if begin != "(" {
		s += begin // above the string on the stack
	} else {
		s = begin + s
	}
	return s + strings.Repeat("h\x00"+add, 50000)
}

// A reader takes time and memory in proportion to the size of the file, whatever its content.
// (Not parallel: the measured heap is that of all tests.)
func TestReadersCostWhatFilesDo(t *testing.T) {
	const n = 1 << 16
	var tensors, scalars, keys, metadata, index []byte
	for i := range n {
		tensors = fmt.Appendf(tensors, `"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, i)
		metadata = fmt.Appendf(metadata, `"%d":"",`, i)
		index = fmt.Appendf(index, `"%d":"a",`, i)
		scalars = append(pickleString(scalars, fmt.Sprint(i)), 'N')
	}
	gguf := craftGGUF(3, n, maxGGUFPairs)
	for i := range maxGGUFPairs {
		keys = append(binary.LittleEndian.AppendUint64(keys, 5), fmt.Sprintf("%05d", i)...)
		keys = append(binary.LittleEndian.AppendUint32(keys, ggufU8), 1)
	}
	gguf = append(gguf, keys...)
	for i := range n {
		gguf = append(binary.LittleEndian.AppendUint64(gguf, 6), fmt.Sprintf("%06d", i)...)
		gguf = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(gguf, 1), 0)
		gguf = append(gguf, make([]byte, 12)...)
	}
	var batches []byte
	for at := 0; at < len(scalars); {
		end := min(at+len(scalars)/8, len(scalars))
		for end < len(scalars) && scalars[end-1] != 'N' {
			end++
		}
		batches = append(append(append(batches, '('), scalars[at:end]...), 'u')
		at = end
	}
	for _, c := range []struct {
		name, reader string
		data         []byte
	}{
		{"tensors", "safetensors", safetensorsBytes("{"+string(tensors[:len(tensors)-1])+"}", 0)},
		{"metadata", "safetensors", safetensorsBytes(`{"__metadata__":{`+string(metadata[:len(metadata)-1])+"}}", 0)},
		{"spaces", "safetensors", safetensorsBytes("{"+strings.Repeat(" ", 8<<20)+"}", 0)},
		{"escapes", "safetensors", safetensorsBytes(`{"`+strings.Repeat(`\u0001`, n)+`":{}}`, 0)},
		{"keys and tensors", "gguf", gguf},
		{"empty strings", "gguf", craftGGUF(3, 0, 1, "k", ggufArray, ggufString, uint64(n), make([]byte, 8*n))},
		{"dict of None", "torch", torchBytes(append(append([]byte("\x80\x02}"), batches...), '.'))},
		{"format bomb", "torch", torchBytes([]byte("\x80\x02" + stringBomb("]", "a") + ")R."))},
		{"entries", "torch", zipBytes(false, slices.Repeat([]craftZip{{name: "m/data/0"}}, 1<<10)...)},
		{"index", "index", []byte(`{"weight_map": {` + string(index[:len(index)-1]) + "}}")},
		{"keys", "config", []byte("{" + string(metadata[:len(metadata)-1]) + "}")},
		{"digits", "config", []byte(`{"a": ` + strings.Repeat("9", 4<<20) + "}")},
		{"nesting", "config", []byte(`{"a": ` + strings.Repeat("[", 4<<20))},
	} {
		t.Run(c.name, func(t *testing.T) {
			bounded.Run(t, len(c.data), func(ctx context.Context) {
				if err := readers[c.reader](ctx, c.data); err != nil && !isTyped(err) && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

// config.json is small: its reader has no context.
func TestReadersStopWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for reader, data := range map[string][]byte{
		"safetensors": safetensorsBytes(`{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2), "gguf": ggufBytes(t),
		"torch": torchBytes(stateDict()), "index": []byte(`{"weight_map": {"w": "a"}}`),
	} {
		if err := readers[reader](t.Context(), data); err != nil {
			t.Errorf("%s: %v", reader, err)
		}
		if err := readers[reader](ctx, data); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", reader, err)
		}
	}
}

// memoFlood stores None under as many memo keys as the limits admit.
func memoFlood() string {
	var b strings.Builder
	b.WriteByte('N')
	for i := range maxPickleOps - 4 {
		b.WriteByte('r')
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(i*7)))
	}
	b.WriteByte('.')
	return b.String()
}

// nestedZip hides one entry in the data of another.
func nestedZip() []byte {
	inner := zipBytes(false, craftZip{name: "m/b", data: counting(4)})
	entry := inner[:30+3+16]
	offset := 30 + 3
	return zipBytes(false, craftZip{name: "m/a", data: append(slices.Clone(entry), counting(4)...)}, craftZip{name: "m/b", data: nil, at: int64(offset)})
}

func zip64Outside() []byte {
	b := zipBytes(true, craftZip{name: "m/data.pkl", data: stateDict()})
	at := bytes.LastIndex(b, []byte("PK\x06\x07"))
	binary.LittleEndian.PutUint64(b[at+8:], 1<<63)
	return b
}

func hostileGGUF() []hostile {
	const u32, f32, str, array = uint32(4), uint32(6), uint32(8), uint32(9)
	tensor := func(dims []uint64, typ uint32, offset uint64, data int) []byte {
		b := craftGGUF(3, 1, 0, "w", uint32(len(dims)), dims, typ, offset)
		for len(b)%32 != 0 {
			b = append(b, 0)
		}
		return append(b, make([]byte, data)...)
	}
	two := func(second uint64) []byte {
		b := craftGGUF(3, 2, 0, "a", uint32(1), uint64(16), uint32(0), uint64(0), "b", uint32(1), uint64(8), uint32(0), second)
		return append(b, make([]byte, 512)...)
	}
	be := binary.BigEndian.AppendUint32([]byte("GGUF"), 3)
	return []hostile{
		{"empty", nil, "4 bytes wanted"},
		{"other magic", []byte("GGML\x03\x00\x00\x00aaaaaaaaaaaaaaaa"), "begins with \"GGML\""},
		{"version 0", craftGGUF(0, 0, 0), "GGUF version 0"},
		{"version 1", craftGGUF(1, 0, 0), "GGUF version 1"},
		{"version 99", craftGGUF(99, 0, 0), "GGUF version 99"},
		{"big endian", append(be, make([]byte, 16)...), "big-endian GGUF (version 3)"},
		{"2^60 pairs", craftGGUF(3, 0, 1<<60), "key-value pairs in a file"},
		{"2^60 tensors", craftGGUF(3, 1<<60, 0), "tensors in a file"},
		{"2^64-1 pairs", craftGGUF(3, 0, math.MaxUint64), "key-value pairs in a file"},
		{"key of 2^63", craftGGUF(3, 0, 1, uint64(1)<<63, make([]byte, 32)), "a name of"},
		{"string of 2^63", craftGGUF(3, 0, 1, "k", str, uint64(1)<<63, make([]byte, 32)), "bytes wanted"},
		{"array of 2^60", craftGGUF(3, 0, 1, "k", array, f32, uint64(1)<<60, make([]byte, 32)), "elements of k"},
		{"strings of 2^60", craftGGUF(3, 0, 1, "k", array, str, uint64(1)<<60, make([]byte, 32)), "elements of k"},
		{"more strings than fit", craftGGUF(3, 0, 1, "k", array, str, uint64(9), make([]byte, 64)), "9 strings"},
		{"string in array beyond file", craftGGUF(3, 0, 1, "k", array, str, uint64(2), "a", uint64(1)<<40, make([]byte, 9)), "bytes wanted"},
		{"array of arrays", craftGGUF(3, 0, 1, "k", array, array, uint64(1), array, make([]byte, 32)), "array of arrays"},
		{"unknown value type", craftGGUF(3, 0, 1, "k", uint32(13), make([]byte, 32)), "unknown type 13"},
		{"unknown element type", craftGGUF(3, 0, 1, "k", array, uint32(77), make([]byte, 32)), "unknown type 77"},
		{"duplicate key", craftGGUF(3, 0, 2, "k", u32, uint32(1), "k", u32, uint32(1)), `"k" appears twice`},
		{"alignment 0", craftGGUF(3, 0, 1, "general.alignment", u32, uint32(0)), "power of two"},
		{"alignment 24", craftGGUF(3, 0, 1, "general.alignment", u32, uint32(24)), "power of two"},
		{"alignment 2^31", craftGGUF(3, 0, 1, "general.alignment", u32, uint32(1)<<31), "power of two"},
		{"alignment as string", craftGGUF(3, 0, 1, "general.alignment", str, "32"), "power of two"},
		{"duplicate tensor", craftGGUF(3, 2, 0, "w", uint32(1), uint64(0), uint32(0), uint64(0), "w", uint32(1), uint64(0), uint32(0), uint64(0)), `"w" appears twice`},
		{"beyond file", tensor([]uint64{8}, 0, 0, 31), `the file ends before the end of tensor "w": it has 95 bytes, its tensors need 96 (an incomplete download?)`},
		{"offset beyond file", tensor([]uint64{8}, 0, 32, 32), "its tensors need 128"},
		{"offset 2^63", tensor([]uint64{8}, 0, 1<<63, 32), "not a multiple of the alignment"},
		{"offset near 2^63", tensor([]uint64{8}, 0, 1<<63-32, 32), "its tensors need 9223372036854775872"},
		{"odd offset", tensor([]uint64{8}, 0, 4, 64), "not a multiple of the alignment"},
		{"overflowing shape", tensor([]uint64{1 << 32, 1 << 32}, 0, 0, 32), "invalid shape"},
		{"overflow hidden by zero", tensor([]uint64{0, 1 << 32, 1 << 32}, 0, 0, 32), "invalid shape"},
		{"shape of 2^63", tensor([]uint64{1 << 63}, 0, 0, 32), "invalid shape"},
		{"nine dimensions", tensor(make([]uint64, 9), 0, 0, 32), "9 dimensions"},
		{"2^32-1 dimensions", craftGGUF(3, 1, 0, "w", uint32(math.MaxUint32), make([]byte, 64)), "dimensions"},
		{"part of a block", tensor([]uint64{33}, 8, 0, 64), "not a multiple of Q8_0's block"},
		{"overlap", two(32), `"a" and "b" overlap`},
		{"same offset", two(0), "overlap"},
		{"unknown type beyond file", tensor([]uint64{8}, 200, 1<<40, 32), "its tensors need 1099511627840"},
	}
}

func hostileConfig() []hostile {
	return []hostile{
		{"empty", nil, "cut off"},
		{"list", []byte("[1]"), "want a JSON object"},
		{"NaN", []byte(`{"rms_norm_eps": NaN}`), "rms_norm_eps"},
		{"Infinity", []byte(`{"rope_theta": -Infinity}`), "rope_theta"},
		{"cut", []byte(`{"a": [1, 2`), `"a": `},
		{"two objects", []byte(`{} {}`), "follows"},
		{"deep", []byte(`{"a":` + strings.Repeat("[", 1<<20)), `"a": `},
		{"deep objects", []byte(strings.Repeat(`{"a":`, 1<<20)), `"a": `},
		{"too many keys", []byte("{" + manyKeys(maxConfigKeys+1) + "}"), "more than 16384 keys"},
		{"too large", bytes.Repeat([]byte(" "), maxConfigBytes+1), "at most"},
		{"control character", []byte("{\"a\": \"\x00\"}"), `"a": `},
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"k%d":1`, i)
	}
	return b.String()
}

func hostileIndex() []hostile {
	shard := func(name string) []byte { return fmt.Appendf(nil, `{"weight_map": {"w": %q}}`, name) }
	return []hostile{
		{"no map", []byte(`{"metadata": {}}`), "no weight_map"},
		{"empty map", []byte(`{"weight_map": {}}`), "no weight_map"},
		{"two maps", []byte(`{"weight_map": {"a":"b"}, "weight_map": {"a":"c"}}`), "twice"},
		{"map of numbers", []byte(`{"weight_map": {"w": 1}}`), "want a string"},
		{"map as list", []byte(`{"weight_map": []}`), "want a JSON object"},
		{"duplicate tensor", []byte(`{"weight_map": {"w": "a", "w": "b"}}`), `"w" appears twice`},
		{"absolute", shard("/etc/passwd"), "not a file of this directory"},
		{"parent", shard("../x.safetensors"), "not a file of this directory"},
		{"dots", shard(".."), "not a file of this directory"},
		{"subdirectory", shard("a/b"), "not a file of this directory"},
		{"backslash", shard(`..\x`), "not a file of this directory"},
		{"drive", shard("C:x"), "not a file of this directory"},
		{"nul", []byte(`{"weight_map": {"w": "x\u0000"}}`), "not a file of this directory"},
		{"empty", shard(""), "not a file of this directory"},
		{"cut", []byte(`{"weight_map": {"w": "a"`), "cut off"},
		{"cut within metadata", []byte(`{"metadata": {"a":`), "unexpected EOF"},
	}
}

// Every hostile file is refused with a typed error that names the file, and
// costs little memory.
func TestHostileFilesAreRefused(t *testing.T) {
	for reader, cases := range map[string][]hostile{
		"safetensors": hostileSafetensors(), "torch": hostileTorch(), "gguf": hostileGGUF(), "config": hostileConfig(), "index": hostileIndex(),
	} {
		for _, h := range cases {
			t.Run(reader+"/"+h.name, func(t *testing.T) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := readers[reader](t.Context(), h.data)
				runtime.ReadMemStats(&after)
				if !isTyped(err) || !strings.Contains(err.Error(), h.want) {
					t.Fatalf("got %v, want %q", err, h.want)
				}
				if len(err.Error()) > 1000 {
					t.Errorf("a message of %d bytes", len(err.Error()))
				}
				// All bytes ever allocated, garbage included.
				limit := uint64(16<<20 + 8*len(h.data))
				if h.name == "memo flood" {
					limit = 128 << 20
				}
				if n := after.TotalAlloc - before.TotalAlloc; n > limit {
					t.Errorf("allocated %d bytes for a file of %d", n, len(h.data))
				}
			})
		}
	}
}

// The programs that take most memory within the limits.
func TestPickleMemoryIsBounded(t *testing.T) {
	for name, op := range map[string]string{"dicts": "}", "lists": "]", "tuples": ")", "ordered dicts": "ccollections\nOrderedDict\n)R", "nested tuples": "\x85"} {
		ops := max(1, strings.Count(op, "\n")/2*3) // GLOBAL, EMPTY_TUPLE, REDUCE
		repeat := min(maxPickleBytes/len(op), maxPickleOps/ops) - 10
		data := torchBytes([]byte("\x80\x02}" + strings.Repeat(op, repeat) + "K\x01."))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := readers["torch"](t.Context(), data)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 128<<20 {
			t.Errorf("%s: allocated %d MiB", name, n>>20)
		}
		if !isTyped(err) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %d MiB for a file of %d", name, (after.TotalAlloc-before.TotalAlloc)>>20, len(data)>>20)
	}
}

// A file truncated anywhere is refused, so that no range outside it is ever read.
func TestTruncatedFilesAreRefused(t *testing.T) {
	files := map[string][]byte{
		"safetensors": safetensorsBytes(`{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}`, 16),
		"torch":       torchBytes(stateDict(pickled{"w", "FloatStorage", "0", 4, 0, []int{4}, []int{1}}), counting(4)),
		"gguf":        ggufBytes(t),
		"config":      []byte(`{"hidden_size": 4096, "eos": [2, 3], "rope": {"factor": 1e4}}`),
		"index":       []byte(`{"metadata": {"total_size": 1}, "weight_map": {"w": "a.bin"}}`),
	}
	for reader, data := range files {
		parse := readers[reader]
		if err := parse(t.Context(), data); err != nil {
			t.Fatalf("%s: %v", reader, err)
		}
		end := len(data)
		if reader == "gguf" {
			end -= 16 // the last tensor's padding, 180 bytes up to 192, may be missing
		}
		for n := range end {
			if err := parse(t.Context(), data[:n:n]); !isTyped(err) {
				t.Errorf("%s cut to %d of %d bytes: %v", reader, n, len(data), err)
			}
		}
		for i := range data {
			for _, b := range []byte{0, 0xff, data[i] ^ 0x80, data[i] + 1} {
				changed := slices.Clone(data)
				changed[i] = b
				if err := parse(t.Context(), changed); err != nil && !isTyped(err) {
					t.Errorf("%s with %#02x at %d: %v", reader, b, i, err)
				}
			}
		}
	}
}

// Errors that only a whole directory can have.
func TestHostileDirectoriesAreRefused(t *testing.T) {
	st := safetensorsBytes(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)
	other := safetensorsBytes(`{"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)
	const index = "model.safetensors.index.json"
	tests := []struct {
		name  string
		files map[string][]byte
		want  string
	}{
		{"no weights", map[string][]byte{"config.json": []byte("{}")}, "no weights"},
		{"no model", map[string][]byte{"tokenizer.json": []byte("{}")}, "no weights"},
		{"no config", map[string][]byte{"model.safetensors": st}, "without a config.json"},
		{"empty weights", map[string][]byte{"config.json": []byte("{}"), "model.safetensors": nil}, "empty"},
		{"NaN in config", map[string][]byte{"config.json": []byte(`{"eps": NaN}`), "model.safetensors": st}, "config.json"},
		{"bad generation config", map[string][]byte{"config.json": []byte("{}"), "generation_config.json": []byte("{"), "model.safetensors": st}, "generation_config.json"},
		{"missing shard", map[string][]byte{"config.json": []byte("{}"), index: []byte(`{"weight_map":{"w":"a","v":"b"}}`), "a": st}, `shard "b" is missing`},
		{"tensor not in shard", map[string][]byte{"config.json": []byte("{}"), index: []byte(`{"weight_map":{"w":"a","u":"b"}}`), "a": st, "b": other}, `tensor "u" is not in "b"`},
		{"tensor in another shard", map[string][]byte{"config.json": []byte("{}"), index: []byte(`{"weight_map":{"w":"b","v":"a"}}`), "a": st, "b": other}, "is not in"},
		{"tensor twice", map[string][]byte{"config.json": []byte("{}"), index: []byte(`{"weight_map":{"x":"a","y":"b"}}`), "a": st, "b": st}, "is also in"},
		{"shard of another format", map[string][]byte{"config.json": []byte("{}"), "pytorch_model.bin": st}, "zip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := Open(t.Context(), dir)
			if !isTyped(err) || !strings.Contains(err.Error(), tt.want) || c != nil {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOddPathsAreRefused(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "index.json")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, maxIndexBytes+1); err != nil { // a sparse file, which takes no space on the disk
		t.Fatal(err)
	}
	if _, err := readIndex(t.Context(), big); !isTyped(err) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("big index: %v", err)
	}
	odd := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(odd, []byte("not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), odd); !isTyped(err) || !strings.Contains(err.Error(), "neither") {
		t.Errorf("text file: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "model.safetensors"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); !isTyped(err) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory for a file: %v", err)
	}
	var u *UnsupportedError
	if err := readers["torch"](t.Context(), legacyMagic); !errors.As(err, &u) {
		t.Errorf("legacy file: %v", err)
	}
}

// A tensor of an unknown type is listed, and the other tensors can be used.
func TestGGUFListsTensorsOfUnknownTypes(t *testing.T) {
	b := craftGGUF(3, 2, 0, "new", uint32(1), uint64(8), uint32(200), uint64(0), "q", uint32(1), uint64(256), uint32(12), uint64(32))
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	g, err := parseGGUF(t.Context(), "x.gguf", append(b, make([]byte, 32+144)...))
	if err != nil {
		t.Fatal(err)
	}
	if x := g.tensors[0]; x.TypeName() != "ggml type 200" || x.Data != nil || x.NumBytes() != 0 {
		t.Errorf("unknown: %s, %d bytes", x.TypeName(), len(x.Data))
	}
	if x := g.tensors[1]; x.TypeName() != "Q4_K" || len(x.Data) != 144 || !x.DType.Weight() {
		t.Errorf("known: %s, %d bytes", x.TypeName(), len(x.Data))
	}
}

func TestGGUFHonoursAlignment(t *testing.T) {
	const u32 = uint32(4)
	b := craftGGUF(2, 1, 1, "general.alignment", u32, uint32(256), "w", uint32(1), uint64(2), uint32(0), uint64(256))
	b = append(b, make([]byte, 512-len(b))...)
	b = append(b, counting(2)...)
	g, err := parseGGUF(t.Context(), "x.gguf", b)
	if err != nil {
		t.Fatal(err)
	}
	if got := row(g.tensors[0], 0, nil); !slices.Equal(got, []float32{0, 1}) {
		t.Errorf("got %v", got)
	}
	path := filepath.Join(t.TempDir(), "bad.gguf")
	if err := ggufwrite.Write(path, nil, []ggufwrite.Tensor{{Name: "w", Shape: []int{3}}}); err == nil {
		t.Error("a tensor without a type was written")
	}
}
