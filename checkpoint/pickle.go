package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"

	"pumice/internal/dtype"
)

// A pickle is a program. It is run here on a machine that has no functions but
// the handful below, and only after scanPickle has read all of it: the scan
// admits the opcodes that torch.save writes (protocol 2, and 3's bytes), and
// bounds everything that the machine would otherwise allocate for.
// Opcodes: CPython, Lib/pickletools.py.

const (
	maxPickleBytes = 16 << 20
	maxPickleOps   = 1 << 18 // about 40 a tensor
	maxPickleMarks = 64      // nested marks; torch.save nests 3
)

var (
	torchStorages = map[string]dtype.DType{
		"FloatStorage": dtype.F32, "HalfStorage": dtype.F16, "BFloat16Storage": dtype.BF16, "DoubleStorage": dtype.F64,
		"CharStorage": dtype.I8, "ShortStorage": dtype.I16, "IntStorage": dtype.I32, "LongStorage": dtype.I64,
		"ByteStorage": dtype.U8, "BoolStorage": dtype.Bool,
	}
	torchFunctions = map[string]types.Callable{
		"_rebuild_tensor":    rebuildTensor{},
		"_rebuild_tensor_v2": rebuildTensor{},
		"_rebuild_parameter": rebuildParameter{},
	}
)

// findGlobal returns what a pickle may refer to, nil for anything else.
func findGlobal(module, name string) any {
	switch module {
	case "collections":
		if name == "OrderedDict" {
			return &types.OrderedDictClass{}
		}
	case "torch":
		if d, ok := torchStorages[name]; ok {
			return d
		}
	case "torch._utils":
		if f, ok := torchFunctions[name]; ok {
			return f
		}
	}
	return nil
}

// torchStorage is what a persistent id stands for: numel elements of one type
// in one zip entry.
type torchStorage struct {
	dtype  dtype.DType
	numel  int
	offset int64 // of data in the file
	data   []byte
}

// torchTensor is a view of a storage, as the pickle describes it.
type torchTensor struct {
	storage        *torchStorage
	offset         int // in elements
	shape, strides []int
}

// rebuildTensor is torch._utils._rebuild_tensor_v2(storage, offset, size,
// stride, requires_grad, backward_hooks, metadata).
type rebuildTensor struct{}

func (rebuildTensor) Call(args ...any) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("_rebuild_tensor with %d arguments", len(args))
	}
	storage, ok1 := args[0].(*torchStorage)
	offset, ok2 := args[1].(int)
	shape, ok3 := intTuple(args[2])
	strides, ok4 := intTuple(args[3])
	if !ok1 || !ok2 || !ok3 || !ok4 || len(shape) != len(strides) {
		return nil, fmt.Errorf("_rebuild_tensor with unexpected arguments")
	}
	return &torchTensor{storage, offset, shape, strides}, nil
}

// rebuildParameter is torch._utils._rebuild_parameter(data, requires_grad,
// backward_hooks).
type rebuildParameter struct{}

func (rebuildParameter) Call(args ...any) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("_rebuild_parameter without arguments")
	}
	t, ok := args[0].(*torchTensor)
	if !ok {
		return nil, fmt.Errorf("_rebuild_parameter of something that is no tensor")
	}
	return t, nil
}

func intTuple(v any) ([]int, bool) {
	tuple, ok := v.(*types.Tuple)
	if !ok || tuple.Len() > maxDims {
		return nil, false
	}
	list := make([]int, tuple.Len())
	for i, e := range *tuple {
		if list[i], ok = e.(int); !ok {
			return nil, false
		}
	}
	return list, true
}

// unpickle runs the pickle p, which begins at byte base of the file, and
// returns the value that it leaves. storage resolves ("storage", type, key,
// location, numel).
func unpickle(file string, base int64, p []byte, storage func(d dtype.DType, key string, numel int) (*torchStorage, error)) (v any, err error) {
	if err := scanPickle(file, base, p); err != nil {
		return nil, err
	}
	// The machine panics on some malformed programs: an odd number of items for
	// a dict, a key that can't be hashed.
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, badFormat(file, base, "malformed pickle: %s", shorten(fmt.Sprint(r)))
		}
	}()
	m := pickle.NewUnpickler(bytes.NewReader(p))
	m.FindClass = func(module, name string) (any, error) {
		if g := findGlobal(module, name); g != nil {
			return g, nil
		}
		return nil, forbiddenGlobal(file, base, module, name)
	}
	var failed error
	m.PersistentLoad = func(id any) (any, error) {
		var s *torchStorage
		s, failed = persistentStorage(file, base, id, storage)
		return s, failed
	}
	v, err = m.Load()
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, badFormat(file, base, "malformed pickle: %s", shorten(err.Error()))
	}
	return v, nil
}

func persistentStorage(file string, base int64, id any, storage func(dtype.DType, string, int) (*torchStorage, error)) (*torchStorage, error) {
	tuple, ok := id.(*types.Tuple)
	if !ok || tuple.Len() != 5 || tuple.Get(0) != "storage" {
		return nil, badFormat(file, base, "a persistent id that is no storage")
	}
	d, ok1 := tuple.Get(1).(dtype.DType)
	key, ok2 := tuple.Get(2).(string)
	numel, ok3 := tuple.Get(4).(int)
	if !ok1 || !ok2 || !ok3 {
		return nil, badFormat(file, base, "a storage with unexpected type, key or size")
	}
	return storage(d, key, numel)
}

func forbiddenGlobal(file string, offset int64, module, name string) error {
	global := shorten(module + "." + name)
	if module == "torch" || strings.HasPrefix(module, "torch.") {
		return &UnsupportedError{file, "a pickle with the global " + quote(global)}
	}
	return badFormat(file, offset, "the pickle asks for the global %q, which no checkpoint needs", global)
}

// scanPickle checks a pickle from its first opcode to STOP without running it.
func scanPickle(file string, base int64, p []byte) error {
	if len(p) > maxPickleBytes {
		return badFormat(file, base, "a pickle of %d bytes, at most %d are read", len(p), maxPickleBytes)
	}
	marks := 0
	pos := 0
	for ops := 0; ; ops++ {
		start := pos
		fail := func(format string, args ...any) error {
			return badFormat(file, base+int64(start), format, args...)
		}
		if pos >= len(p) {
			return fail("the pickle is cut off")
		}
		if ops == maxPickleOps {
			return fail("the pickle has more than %d opcodes", maxPickleOps)
		}
		op := p[pos]
		arg := p[pos+1:]
		n, ok := pickleArg(op, arg)
		if !ok {
			return fail("the pickle is cut off in opcode %#02x", op)
		}
		if n < 0 {
			if op >= 0x8c && op <= 0x98 {
				return &UnsupportedError{file, fmt.Sprintf("a pickle of protocol 4 or 5 (opcode %#02x)", op)}
			}
			return fail("pickle opcode %#02x, which torch.save never writes", op)
		}
		pos += 1 + n
		switch op {
		case '.':
			if pos != len(p) {
				return badFormat(file, base+int64(pos), "%d bytes follow the end of the pickle", len(p)-pos)
			}
			return nil
		case '\x80': // PROTO
			if arg[0] != 2 && arg[0] != 3 {
				return &UnsupportedError{file, fmt.Sprintf("a pickle of protocol %d", arg[0])}
			}
		case '\x8a': // LONG1
			if arg[0] == 0 || arg[0] > 8 {
				return fail("a pickled integer of %d bytes", arg[0])
			}
		case '(': // MARK
			if marks++; marks > maxPickleMarks {
				return fail("the pickle nests more than %d levels", maxPickleMarks)
			}
		case 't', 'u', 'e': // TUPLE, SETITEMS, APPENDS take what lies above the mark
			if marks--; marks < 0 {
				return fail("pickle opcode %#02x without a mark", op)
			}
		case 'c': // GLOBAL
			module, rest, _ := bytes.Cut(arg[:n-1], []byte{'\n'})
			if findGlobal(string(module), string(rest)) == nil {
				return forbiddenGlobal(file, base+int64(start), string(module), string(rest))
			}
		}
	}
}

// pickleArg returns how many of the bytes in arg belong to the opcode, -1 for
// an opcode that is not admitted, and whether arg is long enough.
func pickleArg(op byte, arg []byte) (int, bool) {
	n := 0
	switch op {
	case '(', '.', ')', '}', ']', 't', 's', 'u', 'a', 'e', 'R', 'Q', 'b', 'N', '\x85', '\x86', '\x87', '\x88', '\x89':
	case 'K', 'h', 'q', '\x80': // BININT1, BINGET, BINPUT, PROTO
		n = 1
	case 'M': // BININT2
		n = 2
	case 'J', 'j', 'r': // BININT, LONG_BINGET, LONG_BINPUT
		n = 4
	case 'G': // BINFLOAT
		n = 8
	case 'U', 'C', '\x8a': // SHORT_BINSTRING, SHORT_BINBYTES, LONG1: a length and as many bytes
		if len(arg) < 1 {
			return 0, false
		}
		n = 1 + int(arg[0])
	case 'X', 'T', 'B': // BINUNICODE, BINSTRING, BINBYTES: the same with four bytes of length
		if len(arg) < 4 {
			return 0, false
		}
		size := binary.LittleEndian.Uint32(arg)
		if uint64(size) > uint64(len(arg)-4) {
			return 0, false
		}
		n = 4 + int(size)
	case 'c': // GLOBAL: two lines
		for range 2 {
			end := bytes.IndexByte(arg[n:], '\n')
			if end < 0 {
				return 0, false
			}
			n += end + 1
		}
	default:
		return -1, true
	}
	return n, n <= len(arg)
}
