package shaders

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An Interface is what a kernel is given, as its GLSL declares it.
type Interface struct {
	PushBytes int        // size of the push constants, without device addresses
	Bindings  []Binding  // of set 0 in their order, then the device addresses in the order of the push constants
	Constants []Constant // specialization constants, by ID
}

// A Binding is a buffer that a kernel reads or writes. What is done at an address is not known.
type Binding struct {
	Kind          Kind
	Reads, Writes bool
}

// A Kind is how a kernel reaches a buffer.
type Kind int

const (
	Buffer  Kind = iota // a storage buffer
	Texel               // a uniform texel buffer
	Address             // a device address behind the push constants
)

var kinds = []string{"buffer", "texel", "address"}

func (k Kind) String() string { return kinds[k] }

// A Constant is a specialization constant. One that GLSL gives no name, since only local_size_x_id says it, is
// local_size_x.
type Constant struct {
	ID      int
	Name    string
	Default uint32 // the bits; of a bool 0 or 1
}

// String is the constant as the manifest has it: 3:NAME=64.
func (c Constant) String() string { return fmt.Sprintf("%d:%s=%d", c.ID, c.Name, c.Default) }

// String is the binding as the manifest has it: buffer:r, buffer:w, buffer:rw, texel:r or address.
func (b Binding) String() string {
	s := b.Kind.String()
	if b.Reads || b.Writes {
		s += ":"
	}
	if b.Reads {
		s += "r"
	}
	if b.Writes {
		s += "w"
	}
	return s
}

// String is the interface as the manifest has it:
//
//	push=24 bind=buffer:r,buffer:rw spec=0:WORKGROUP=64,1:HAS_BIAS=0
//
// Where there are no bindings or no constants, that part is left out.
func (f Interface) String() string {
	s := fmt.Sprintf("push=%d", f.PushBytes)
	s += list(" bind=", f.Bindings)
	return s + list(" spec=", f.Constants)
}

func list[T fmt.Stringer](name string, items []T) string {
	var s []string
	for _, x := range items {
		s = append(s, x.String())
	}
	if s == nil {
		return ""
	}
	return name + strings.Join(s, ",")
}

// parseInterface reads what Interface.String writes, cut at the spaces.
func parseInterface(fields []string) (Interface, error) {
	var f Interface
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		for _, item := range strings.Split(value, ",") {
			var err error
			switch key {
			case "push":
				f.PushBytes, err = strconv.Atoi(item)
			case "bind":
				kind, access, _ := strings.Cut(item, ":")
				b := Binding{Kind(slices.Index(kinds, kind)), strings.Contains(access, "r"), strings.Contains(access, "w")}
				if b.Kind < 0 || b.String() != item {
					err = fmt.Errorf("no binding is %q", item)
				}
				f.Bindings = append(f.Bindings, b)
			case "spec":
				var c Constant
				id, rest, _ := strings.Cut(item, ":")
				name, value, _ := strings.Cut(rest, "=")
				if c.ID, err = strconv.Atoi(id); err != nil {
					break
				}
				var bits uint64
				bits, err = strconv.ParseUint(value, 10, 32)
				c.Name, c.Default = name, uint32(bits)
				f.Constants = append(f.Constants, c)
			default:
				err = fmt.Errorf("unknown part %q", field)
			}
			if err != nil {
				return f, err
			}
		}
	}
	return f, nil
}
