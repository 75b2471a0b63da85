package checkpoint

import (
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
)

// mapped are the mappings of the process, which Guard looks a fault's address
// up in.
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

// Guard runs read, which reads tensors' Data or Rows, and returns its error. A
// page of a mapped file that is gone because somebody cut the file short, or
// that the disk does not give, would end the process; in Guard it is a
// *FormatError. That holds for the calling goroutine alone, so each one that
// reads needs its own. Opening and Fields have theirs.
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

// faultOf returns the error of a panic that reading a mapped file caused, nil
// for any other.
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
	return badFormat(m.file, offset, "the file cannot be read here: it shrank and was replaced, or its disk fails")
}
