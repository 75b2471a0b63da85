package checkpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"pumice/internal/dtype"
)

// A pickle is a program for a stack machine. The machine here knows the opcodes
// that torch.save writes (protocol 2, and 3's bytes) and the few globals
// below. It can make only None, booleans, numbers, strings, bytes, tuples,
// lists, dicts and tensors. Opcodes: CPython, Lib/pickletools.py.
//
// Each opcode makes at most one value, and values refer to other values but never
// copy them, so memory is bounded by the number of opcodes and the bytes of
// the program. No code recurses into a value, so nesting needs no stack. Errors
// name the kind of a value, never the value.

const (
	maxPickleBytes = 16 << 20
	maxPickleOps   = 1 << 18 // a tensor takes about 40
	maxPickleStack = 1 << 16 // values; picklers write dicts in batches of 1000 items
	maxPickleMarks = 64      // nested marks; torch.save nests 3
)

var torchStorages = map[string]dtype.DType{
	"FloatStorage": dtype.F32, "HalfStorage": dtype.F16, "BFloat16Storage": dtype.BF16, "DoubleStorage": dtype.F64,
	"CharStorage": dtype.I8, "ShortStorage": dtype.I16, "IntStorage": dtype.I32, "LongStorage": dtype.I64,
	"ByteStorage": dtype.U8, "BoolStorage": dtype.Bool,
}

// pickleFunction is a global that the opcode REDUCE can call.
type pickleFunction func(args pickleTuple) (any, error)

var torchFunctions = map[string]pickleFunction{
	"_rebuild_tensor":    rebuildTensor,
	"_rebuild_tensor_v2": rebuildTensor,
	"_rebuild_parameter": rebuildParameter,
}

// findGlobal returns a global that a pickle may use, or nil for any other.
func findGlobal(module, name string) any {
	switch module {
	case "collections":
		if name == "OrderedDict" {
			return pickleFunction(newOrderedDict)
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

type (
	pickleTuple []any

	// pickleList is a list. No checkpoint needs its elements, so they are dropped.
	pickleList struct{}

	// pickleDict is a dict or an OrderedDict in the order of the pickle.
	pickleDict struct{ items []pickleItem }

	pickleItem struct{ key, value any }
)

// torchStorage is the value of a persistent id: numel elements of one type
// in one zip entry.
type torchStorage struct {
	dtype  dtype.DType
	numel  int
	offset int64 // offset of data in the file
	data   []byte
}

// torchTensor is a view of a storage, as the pickle describes it.
type torchTensor struct {
	storage        *torchStorage
	offset         int // in elements
	shape, strides []int
}

func newOrderedDict(args pickleTuple) (any, error) {
	if len(args) > 0 {
		return nil, fmt.Errorf("OrderedDict with %d arguments", len(args))
	}
	return &pickleDict{}, nil
}

// rebuildTensor implements torch._utils._rebuild_tensor_v2(storage, offset, size,
// stride, requires_grad, backward_hooks, metadata).
func rebuildTensor(args pickleTuple) (any, error) {
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

// rebuildParameter implements torch._utils._rebuild_parameter(data, requires_grad,
// backward_hooks).
func rebuildParameter(args pickleTuple) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("_rebuild_parameter without arguments")
	}
	t, ok := args[0].(*torchTensor)
	if !ok {
		return nil, fmt.Errorf("_rebuild_parameter of %s", pickleKind(args[0]))
	}
	return t, nil
}

func intTuple(v any) ([]int, bool) {
	tuple, ok := v.(pickleTuple)
	if !ok || len(tuple) > maxDims {
		return nil, false
	}
	list := make([]int, len(tuple))
	for i, e := range tuple {
		if list[i], ok = e.(int); !ok {
			return nil, false
		}
	}
	return list, true
}

// pickleKind names the type of a value.
func pickleKind(v any) string {
	switch v.(type) {
	case nil:
		return "None"
	case bool:
		return "a boolean"
	case int:
		return "an integer"
	case float64:
		return "a float"
	case string:
		return "a string"
	case []byte:
		return "bytes"
	case pickleTuple:
		return "a tuple"
	case pickleList:
		return "a list"
	case *pickleDict:
		return "a dict"
	case dtype.DType:
		return "a storage's class"
	case pickleFunction:
		return "a function"
	case *torchStorage:
		return "a storage"
	case *torchTensor:
		return "a tensor"
	}
	return fmt.Sprintf("%T", v)
}

// findStorage resolves the persistent id ("storage", type, key, location, numel).
type findStorage func(d dtype.DType, key string, numel int) (*torchStorage, error)

// unpickler is the stack machine. The first error sticks; later values are nil.
type unpickler struct {
	file    string
	base    int64 // offset of the program in the file
	program []byte
	storage findStorage

	pos   int // position in the program
	start int // position of the current opcode
	stack []any
	marks []int // heights of the stack
	memo  map[uint32]any
	err   error
}

// unpickle runs a program, which begins at byte base of the file, and returns
// its result.
func unpickle(ctx context.Context, file string, base int64, program []byte, storage findStorage) (any, error) {
	if len(program) > maxPickleBytes {
		return nil, badFormat(file, base, "a pickle of %d bytes, at most %d are read", len(program), maxPickleBytes)
	}
	u := &unpickler{file: file, base: base, program: program, storage: storage, memo: map[uint32]any{}}
	for ops := 0; u.err == nil; ops++ {
		u.start = u.pos
		if ops%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		switch {
		case ops == maxPickleOps:
			u.fail("the pickle has more than %d opcodes", maxPickleOps)
		case u.pos == len(program):
			u.fail("the pickle is cut off")
		case program[u.pos] == '.': // STOP
			if rest := len(program) - u.pos - 1; rest > 0 {
				return nil, badFormat(file, base+int64(u.pos+1), "%d bytes follow the end of the pickle", rest)
			}
			return u.pop(), u.err
		default:
			u.pos++
			u.run(program[u.start])
		}
	}
	return nil, u.err
}

func (u *unpickler) fail(format string, args ...any) {
	if u.err == nil {
		u.err = badFormat(u.file, u.base+int64(u.start), format, args...)
	}
}

// malformed records an error in a program that no pickler writes.
func (u *unpickler) malformed(format string, args ...any) {
	u.fail("malformed pickle: opcode %#02x: %s", u.program[u.start], fmt.Sprintf(format, args...))
}

// run executes one opcode.
func (u *unpickler) run(op byte) {
	switch op {
	case '\x80': // PROTO
		if v := u.uint(1); u.err == nil && v != 2 && v != 3 {
			u.err = &UnsupportedError{u.file, fmt.Sprintf("a pickle of protocol %d", v)}
		}
	case 'N': // NONE
		u.push(nil)
	case '\x88', '\x89': // NEWTRUE, NEWFALSE
		u.push(op == '\x88')
	case 'K': // BININT1
		u.push(int(u.uint(1)))
	case 'M': // BININT2
		u.push(int(u.uint(2)))
	case 'J': // BININT
		u.push(int(int32(u.uint(4))))
	case '\x8a': // LONG1
		u.push(u.long(int(u.uint(1))))
	case 'G': // BINFLOAT
		if b := u.take(8); b != nil {
			u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
		}
	case 'U': // SHORT_BINSTRING
		u.push(string(u.take(u.uint(1))))
	case 'T', 'X': // BINSTRING, BINUNICODE
		u.push(string(u.take(u.uint(4))))
	case 'C': // SHORT_BINBYTES
		u.push(u.take(u.uint(1)))
	case 'B': // BINBYTES
		u.push(u.take(u.uint(4)))
	case '(': // MARK
		if u.marks = append(u.marks, len(u.stack)); len(u.marks) > maxPickleMarks {
			u.fail("the pickle nests more than %d levels", maxPickleMarks)
		}
	case ')': // EMPTY_TUPLE
		u.push(pickleTuple{})
	case '\x85', '\x86', '\x87': // TUPLE1 to TUPLE3
		u.push(pickleTuple(slices.Clone(u.popN(int(op - '\x84')))))
	case 't': // TUPLE
		u.push(pickleTuple(slices.Clone(u.popMark())))
	case ']': // EMPTY_LIST
		u.push(pickleList{})
	case 'a', 'e': // APPEND, APPENDS
		if op == 'a' {
			u.pop()
		} else {
			u.popMark()
		}
		if _, ok := u.top().(pickleList); !ok {
			u.malformed("an element is added to %s", pickleKind(u.top()))
		}
	case '}': // EMPTY_DICT
		u.push(&pickleDict{})
	case 's': // SETITEM
		u.setItems(u.popN(2))
	case 'u': // SETITEMS
		u.setItems(u.popMark())
	case 'c': // GLOBAL
		module, name := u.line(), u.line()
		g := findGlobal(module, name)
		if g == nil && u.err == nil {
			u.err = forbiddenGlobal(u.file, u.base+int64(u.start), module, name)
		}
		u.push(g)
	case 'R': // REDUCE
		u.reduce()
	case 'b': // BUILD sets attributes of an OrderedDict, which no checkpoint needs
		state := u.pop()
		_, ok1 := state.(*pickleDict)
		_, ok2 := u.top().(*pickleDict)
		if !ok1 || !ok2 {
			u.malformed("%s is given %s for attributes", pickleKind(u.top()), pickleKind(state))
		}
	case 'Q': // BINPERSID
		u.persistent(u.pop())
	case 'q': // BINPUT
		u.memo[u.uint(1)] = u.top()
	case 'r': // LONG_BINPUT
		u.memo[u.uint(4)] = u.top()
	case 'h': // BINGET
		u.get(u.uint(1))
	case 'j': // LONG_BINGET
		u.get(u.uint(4))
	default:
		if op >= 0x8c && op <= 0x98 {
			u.err = &UnsupportedError{u.file, fmt.Sprintf("a pickle of protocol 4 or 5 (opcode %#02x)", op)}
			return
		}
		u.fail("pickle opcode %#02x, which torch.save never writes", op)
	}
}

// take returns the next n bytes of the program, or nil if there are fewer.
func (u *unpickler) take(n uint32) []byte {
	if u.err == nil && uint64(n) > uint64(len(u.program)-u.pos) {
		u.fail("the pickle is cut off in opcode %#02x", u.program[u.start])
	}
	if u.err != nil {
		return nil
	}
	b := u.program[u.pos:][:n:n]
	u.pos += int(n)
	return b
}

// uint reads a little-endian integer of n bytes.
func (u *unpickler) uint(n uint32) uint32 {
	var b [4]byte
	copy(b[:], u.take(n))
	return binary.LittleEndian.Uint32(b[:])
}

// long reads a little-endian signed integer of n bytes.
func (u *unpickler) long(n int) int {
	if u.err == nil && (n < 1 || n > 8) {
		u.fail("a pickled integer of %d bytes", n)
	}
	b := u.take(uint32(n))
	if u.err != nil {
		return 0
	}
	v := int64(int8(b[n-1])) // the sign
	for i := n - 2; i >= 0; i-- {
		v = v<<8 | int64(b[i])
	}
	if int64(int(v)) != v {
		u.fail("the pickled integer %d", v)
	}
	return int(v)
}

// line reads up to the end of a line.
func (u *unpickler) line() string {
	n := bytes.IndexByte(u.program[u.pos:], '\n')
	if n < 0 {
		n = len(u.program) - u.pos // so that take finds too few bytes and fails
	}
	line := u.take(uint32(n + 1))
	if line == nil {
		return ""
	}
	return string(line[:n])
}

func (u *unpickler) push(v any) {
	if u.stack = append(u.stack, v); len(u.stack) > maxPickleStack {
		u.fail("the pickle has more than %d values on its stack", maxPickleStack)
	}
}

// popN pops n values from above the last mark. They are valid until the next
// push.
func (u *unpickler) popN(n int) []any {
	floor := 0
	if len(u.marks) > 0 {
		floor = u.marks[len(u.marks)-1]
	}
	if len(u.stack)-floor < n {
		u.malformed("%d values needed, %d are on the stack", n, len(u.stack)-floor)
	}
	if u.err != nil {
		return make([]any, n)
	}
	values := u.stack[len(u.stack)-n:]
	u.stack = u.stack[:len(u.stack)-n]
	return values
}

func (u *unpickler) pop() any { return u.popN(1)[0] }

// top returns the value on top of the stack.
func (u *unpickler) top() any {
	v := u.pop()
	u.push(v)
	return v
}

// popMark pops the values above the last mark, and the mark.
func (u *unpickler) popMark() []any {
	if len(u.marks) == 0 {
		u.fail("pickle opcode %#02x without a mark", u.program[u.start])
		return nil
	}
	values := u.popN(len(u.stack) - u.marks[len(u.marks)-1])
	u.marks = u.marks[:len(u.marks)-1]
	return values
}

// setItems adds items, alternately keys and values, to the dict on top of the stack.
func (u *unpickler) setItems(items []any) {
	d, ok := u.top().(*pickleDict)
	switch {
	case u.err != nil:
	case !ok:
		u.malformed("an item is set in %s", pickleKind(u.top()))
	case len(items)%2 != 0:
		u.malformed("%d keys and values", len(items))
	default:
		for i := 0; i < len(items); i += 2 {
			switch key := items[i].(type) {
			case string, int:
				d.items = append(d.items, pickleItem{key, items[i+1]})
			default:
				u.malformed("a dict's key is %s", pickleKind(key))
				return
			}
		}
	}
}

// reduce calls a function with a tuple of arguments.
func (u *unpickler) reduce() {
	args, ok1 := u.pop().(pickleTuple)
	callee := u.pop()
	f, ok2 := callee.(pickleFunction)
	switch {
	case u.err != nil:
	case !ok1:
		u.malformed("the arguments are not a tuple")
	case !ok2:
		u.malformed("%s is called", pickleKind(callee))
	default:
		v, err := f(args)
		if err != nil {
			u.malformed("%v", err)
		}
		u.push(v)
	}
}

// get pushes a value from the memo.
func (u *unpickler) get(key uint32) {
	v, ok := u.memo[key]
	if !ok {
		u.malformed("nothing in the memo under %d", key)
	}
	u.push(v)
}

// persistent pushes the storage of a persistent id.
func (u *unpickler) persistent(id any) {
	tuple, ok := id.(pickleTuple)
	if !ok || len(tuple) != 5 || tuple[0] != "storage" {
		u.fail("a persistent id that is not a storage")
		return
	}
	d, ok1 := tuple[1].(dtype.DType)
	key, ok2 := tuple[2].(string)
	numel, ok3 := tuple[4].(int)
	if !ok1 || !ok2 || !ok3 {
		u.fail("a storage with unexpected type, key or size")
		return
	}
	s, err := u.storage(d, key, numel)
	if err != nil {
		u.err = err
		return
	}
	u.push(s)
}

func forbiddenGlobal(file string, offset int64, module, name string) error {
	global := shorten(shorten(module) + "." + shorten(name))
	if module == "torch" || strings.HasPrefix(module, "torch.") {
		return &UnsupportedError{file, "a pickle with the global " + quote(global)}
	}
	return badFormat(file, offset, "the pickle uses the global %q, which no checkpoint needs", global)
}
