package checkpoint

import (
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
)

// mapped lists the mappings of the process, in which Guard looks up the address
// of a fault.
var mapped struct {
	sync.Mutex
	list []*mapping
}

func (m *mapping) register() {
	mapped.Lock()
	defer mapped.Unlock()
	mapped.list = append(mapped.list, m)
}

func (m *mapping) unregister() {
	mapped.Lock()
	defer mapped.Unlock()
	mapped.list = slices.DeleteFunc(mapped.list, func(other *mapping) bool { return other == m })
}

// Guard runs read, which reads tensors' Data or Rows, and returns its error. If
// a mapped file was truncated meanwhile, or its disk fails, reading a page would
// end the process; in Guard it is a *FormatError. Guard protects the calling
// goroutine only, so each goroutine that reads needs its own. Open and Fields
// are guarded.
func Guard(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if err = faultOf(r); err == nil {
				panic(r)
			}
		}
	}()
	return read()
}

// faultOf returns the error of a panic that reading a mapped file caused, or
// nil for any other panic.
func faultOf(r any) error {
	fault, ok := r.(interface {
		runtime.Error
		Addr() uintptr // documented at debug.SetPanicOnFault
	})
	if !ok {
		return nil
	}
	mapped.Lock()
	defer mapped.Unlock()
	for _, m := range mapped.list {
		if offset := fault.Addr() - m.address(); offset < uintptr(len(m.data)) {
			return m.faultAt(int64(offset))
		}
	}
	return nil
}

func (m *mapping) faultAt(offset int64) error {
	if info, err := os.Stat(m.file); err == nil && info.Size() < int64(len(m.data)) {
		return badFormat(m.file, offset, "the file shrank while it was read, from %d to %d bytes", len(m.data), info.Size())
	}
	return badFormat(m.file, offset, "the file can't be read here: it shrank and was replaced, or its disk fails")
}
