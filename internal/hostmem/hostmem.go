// Package hostmem determines how much memory this process can still allocate on Linux: from the machine's free memory,
// its control groups and its resource limits. A container's limit is that of a control group, and the kernel kills a
// process that exceeds it.
package hostmem

import (
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Room is how much memory a process can still allocate under one limit.
type Room struct {
	Bytes int64
	Limit string // name of the limit, such as "memory.max of cgroup /user.slice"; "" for the machine's free memory
}

// Available returns the least room that any limit leaves, or false if the system does not report it.
func Available() (Room, bool) { return Beside(0) }

// Total is the machine's memory, or false if the system does not report it.
func Total() (int64, bool) { return system{os.DirFS("/")}.value("proc/meminfo", "MemTotal:") }

// Beside is Available in a process that has allocated so many bytes outside Go's memory, as the buffers of a CPU driver. The
// system counts as free what of them was not written yet, such as the empty part of a KV cache; Beside does not.
func Beside(allocated int64) (Room, bool) {
	var goes int64
	if allocated > 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		goes = int64(m.Sys - m.HeapReleased)
	}
	return available(os.DirFS("/"), allocated, goes)
}

// available reads the files of a root directory. Of the process's memory, so many bytes are allocated by a driver and so many
// are Go's.
func available(root fs.FS, allocated, goes int64) (Room, bool) {
	s := system{root}
	free, ok := s.value("proc/meminfo", "MemAvailable:")
	if !ok {
		return Room{}, false
	}
	unwritten := s.unwritten(allocated, goes)
	least := Room{Bytes: max(0, free-unwritten)}
	for _, r := range s.controlGroups() {
		r.Bytes -= unwritten
		least = least.or(r)
	}
	for _, r := range s.resourceLimits() { // which count what is allocated, written or not
		least = least.or(r)
	}
	return least, true
}

// or returns the lesser one.
func (r Room) or(other Room) Room {
	if other.Bytes = max(0, other.Bytes); other.Bytes < r.Bytes {
		return other
	}
	return r
}

// unwritten is what at least of the allocated memory has no page yet. It is too little by what other libraries have.
func (s system) unwritten(allocated, goes int64) int64 {
	var written int64
	for _, key := range []string{"RssAnon:", "RssShmem:", "VmSwap:"} {
		n, ok := s.value("proc/self/status", key)
		if !ok {
			return 0
		}
		written += n
	}
	return max(0, allocated-max(0, written-goes))
}

// system is a root directory that has proc and sys.
type system struct{ fs.FS }

// read returns a file's content, or "" if it can't be read.
func (s system) read(name string) string {
	b, err := fs.ReadFile(s, name)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// value returns the number of bytes after a key in a file of lines; a kB has 1024 bytes.
func (s system) value(file, key string) (int64, bool) {
	for line := range strings.Lines(s.read(file)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != key {
			continue
		}
		n, ok := number(f[1])
		if len(f) > 2 && f[2] == "kB" {
			n = min(n, math.MaxInt64>>10) << 10
		}
		return n, ok
	}
	return 0, false
}

func number(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// resourceLimits returns the rooms under RLIMIT_AS and RLIMIT_DATA (ulimit -v and -d).
func (s system) resourceLimits() []Room {
	var rooms []Room
	for line := range strings.Lines(s.read("proc/self/limits")) {
		for _, l := range []struct{ name, used, shown string }{
			{"Max address space", "VmSize:", "the limit of address space (ulimit -v)"},
			{"Max data size", "VmData:", "the limit of data (ulimit -d)"},
		} {
			rest, found := strings.CutPrefix(line, l.name)
			if f := strings.Fields(rest); found && len(f) > 0 {
				if limit, ok := number(f[0]); ok { // otherwise it is "unlimited"
					used, _ := s.value("proc/self/status", l.used)
					rooms = append(rooms, Room{limit - used, l.shown})
				}
			}
		}
	}
	return rooms
}

// hierarchy has the file names of one version of control groups.
type hierarchy struct {
	limits         []string
	usage          string
	inactive, file string // keys in memory.stat of file pages, which the kernel frees before it kills a process
}

var (
	version1 = hierarchy{[]string{"memory.limit_in_bytes"}, "memory.usage_in_bytes", "total_inactive_file", "total_active_file"}
	version2 = hierarchy{[]string{"memory.max", "memory.high"}, "memory.current", "inactive_file", "active_file"}
)

// controlGroups returns the rooms in the process's control groups and those above them, up to the mount point of the
// hierarchy.
func (s system) controlGroups() []Room {
	var rooms []Room
	for line := range strings.Lines(s.read("proc/self/cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(f) < 3 {
			continue
		}
		kind, h := "cgroup", version1
		switch {
		case f[0] == "0" && f[1] == "":
			kind, h = "cgroup2", version2
		case !slices.Contains(strings.Split(f[1], ","), "memory"):
			continue
		}
		for _, m := range s.mounts(kind) {
			rooms = append(rooms, s.walk(m, f[2], h)...)
		}
	}
	return rooms
}

// mount is a mount point of control groups, and the group that is visible there: in a container that may not be the
// root.
type mount struct{ group, at string }

// mounts lists the mounts of a type; for the first version, only those with the memory controller.
func (s system) mounts(kind string) []mount {
	var list []mount
	for line := range strings.Lines(s.read("proc/self/mountinfo")) {
		before, after, found := strings.Cut(line, " - ") // proc(5): ID parent major:minor root mountpoint options... - type source superoptions
		f, t := strings.Fields(before), strings.Fields(after)
		if !found || len(f) < 5 || len(t) < 3 || t[0] != kind || kind == "cgroup" && !slices.Contains(strings.Split(t[2], ","), "memory") {
			continue
		}
		list = append(list, mount{unescape(f[3]), unescape(f[4])})
	}
	return list
}

// unescape decodes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// walk returns the rooms of a group and those above it, up to the mount. A group outside the mount is replaced by the
// mount's group.
func (s system) walk(m mount, group string, h hierarchy) []Room {
	below, inside := strings.CutPrefix(path.Clean("/"+group), strings.TrimSuffix(path.Clean("/"+m.group), "/"))
	if !inside || below != "" && below[0] != '/' {
		below = ""
	}
	var rooms []Room
	for at := path.Clean("/" + below); ; at = path.Dir(at) {
		dir := strings.TrimPrefix(path.Join(m.at, at), "/")
		for _, name := range h.limits {
			limit, ok := number(s.read(path.Join(dir, name)))
			if !ok { // no such file, or "max"
				continue
			}
			used, _ := number(s.read(path.Join(dir, h.usage)))
			for _, key := range []string{h.inactive, h.file} {
				n, _ := s.value(path.Join(dir, "memory.stat"), key)
				used -= n
			}
			rooms = append(rooms, Room{limit - max(0, used), fmt.Sprintf("%s of cgroup %s", name, at)})
		}
		if at == "/" {
			return rooms
		}
	}
}
