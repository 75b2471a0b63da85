package hostmem

import (
	"runtime"
	"testing"
	"testing/fstest"
)

const mib = 1 << 20

func TestAvailableIsTheLeastRoom(t *testing.T) {
	t.Parallel()
	const (
		v1 = "30 20 0:9 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n31 20 0:8 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
		v2 = "32 20 0:10 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
	)
	for _, c := range []struct {
		name  string
		files map[string]string // in addition to meminfo, with 1000 MiB
		want  Room
	}{
		{"the machine", nil, Room{1000 * mib, ""}},
		{"unlimited", map[string]string{
			"proc/self/limits": "Limit  Soft Limit  Hard Limit  Units\nMax data size  unlimited  unlimited  bytes\nMax address space  unlimited  unlimited  bytes\n",
			"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": v2, "sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "5\n",
		}, Room{1000 * mib, ""}},
		{"version 2, less the used memory without file pages", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2, "sys/fs/cgroup/a/b/memory.max": "157286400\n", "sys/fs/cgroup/a/b/memory.high": "max\n",
			"sys/fs/cgroup/a/b/memory.current": "52428800\n", "sys/fs/cgroup/a/b/memory.stat": "anon 1\ninactive_file 10485760\nactive_file 10485760\n",
		}, Room{120 * mib, "memory.max of cgroup /a/b"}},
		{"version 2, a group above has less", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2, "sys/fs/cgroup/a/b/memory.max": "157286400\n",
			"sys/fs/cgroup/a/memory.high": "104857600\n", "sys/fs/cgroup/a/memory.current": "0\n",
		}, Room{100 * mib, "memory.high of cgroup /a"}},
		{"version 1 beside version 2", map[string]string{
			"proc/self/cgroup": "4:cpu:/c\n3:hugetlb,memory:/a\n0::/\n", "proc/self/mountinfo": v1 + v2, "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "209715200\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "104857600\n",
			"sys/fs/cgroup/memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 52428800\n",
		}, Room{150 * mib, "memory.limit_in_bytes of cgroup /a"}},
		{"a container's mount shows its group as the root", map[string]string{
			"proc/self/cgroup": "3:memory:/docker/id\n", "proc/self/mountinfo": "30 20 0:9 /docker/id /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "104857600\n",
		}, Room{100 * mib, "memory.limit_in_bytes of cgroup /"}},
		{"a group of another container", map[string]string{
			"proc/self/cgroup": "0::/../other\n", "proc/self/mountinfo": "32 20 0:10 /docker/identity /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "sys/fs/cgroup/memory.max": "104857600\n",
		}, Room{100 * mib, "memory.max of cgroup /"}},
		{"used up", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2, "sys/fs/cgroup/memory.max": "1\n", "sys/fs/cgroup/memory.current": "100\n",
		}, Room{0, "memory.max of cgroup /"}},
		{"address space", map[string]string{
			"proc/self/limits": "Max address space         1048576000           unlimited            bytes\n", "proc/self/status": "VmSize:\t 512000 kB\n",
		}, Room{500 * mib, "the limit of address space (ulimit -v)"}},
		{"data", map[string]string{
			"proc/self/limits": "Max data size  524288000  unlimited  bytes\nMax address space  1048576000  unlimited  bytes\n", "proc/self/status": "VmSize:\t 512000 kB\nVmData:\t 102400 kB\n",
		}, Room{400 * mib, "the limit of data (ulimit -d)"}},
		{"nonsense", map[string]string{
			"proc/self/cgroup": "x\n1:memory\n0::\n\n", "proc/self/mountinfo": "x - cgroup2\n1 2 3 4 5 - cgroup2 a b\n", "proc/self/limits": "Max data size\n",
			"sys/fs/cgroup/memory.max": "-7\n",
		}, Room{1000 * mib, ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 4096000 kB\nMemAvailable: 1024000 kB\n")}}
			for name, text := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got, ok := available(root, 0, 0); !ok || got != c.want {
				t.Errorf("%+v, %t; want %+v", got, ok, c.want)
			}
		})
	}
	if got, ok := available(fstest.MapFS{}, 0, 0); ok {
		t.Errorf("nothing known, but %+v", got)
	}
}

// TestUnwrittenMemoryIsNotAvailable: of 500 MiB that a driver has allocated, 500 - (240 - 40) have no page yet.
func TestUnwrittenMemoryIsNotAvailable(t *testing.T) {
	t.Parallel()
	const status = "VmSize:\t 716800 kB\nVmSwap:\t 20480 kB\nRssAnon:\t 204800 kB\nRssShmem:\t 20480 kB\n"
	const group = "32 20 0:10 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
	for _, c := range []struct {
		name, file, text string
		allocated        int64
		want             Room
	}{
		{"the machine", "proc/self/status", status, 500 * mib, Room{700 * mib, ""}},
		{"all is written", "proc/self/status", status, 100 * mib, Room{1000 * mib, ""}},
		{"more than there is", "proc/self/status", status, 5000 * mib, Room{0, ""}},
		{"an old system", "proc/self/status", "VmSize:\t 716800 kB\n", 500 * mib, Room{1000 * mib, ""}},
		{"a group", "sys/fs/cgroup/a/memory.max", "524288000\n", 500 * mib, Room{200 * mib, "memory.max of cgroup /a"}},
		{"address space", "proc/self/limits", "Max address space  1048576000  unlimited  bytes\n", 500 * mib,
			Room{300 * mib, "the limit of address space (ulimit -v)"}},
	} {
		root := fstest.MapFS{
			"proc/meminfo":        {Data: []byte("MemAvailable: 1024000 kB\n")},
			"proc/self/status":    {Data: []byte(status)},
			"proc/self/cgroup":    {Data: []byte("0::/a\n")},
			"proc/self/mountinfo": {Data: []byte(group)},
		}
		root[c.file] = &fstest.MapFile{Data: []byte(c.text)}
		if got, ok := available(root, c.allocated, 40*mib); !ok || got != c.want {
			t.Errorf("%s: %+v, %t; want %+v", c.name, got, ok, c.want)
		}
	}
}

func TestThisMachineHasRoom(t *testing.T) {
	t.Parallel()
	if room, ok := Available(); ok != (runtime.GOOS == "linux") || ok && room.Bytes <= 0 {
		t.Errorf("%+v, %t", room, ok)
	} else {
		t.Logf("%+v", room)
	}
}

func TestTotalHoldsWhatIsAvailable(t *testing.T) {
	total, ok := Total()
	room, known := Available()
	if ok != known || ok && total < room.Bytes {
		t.Errorf("%d (%t), of which %d (%t) are available", total, ok, room.Bytes, known)
	}
}
