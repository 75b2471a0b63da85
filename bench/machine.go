package bench

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"pumice"
)

// A machine tells what else may change the time of a run: other processes, clocks and temperatures, from Linux's proc and sysfs.
// What a system does not tell is left out.
type machine struct {
	files fs.FS  // the root directory
	card  string // the device's directory in sysfs; "" of CPU drivers, and where it is not known
	apart bool   // another process runs the tests: others at work are no reason
}

// newMachine is the machine around a device.
func newMachine(files fs.FS, d pumice.DeviceInfo) *machine {
	m := &machine{files: files}
	if d.Type == "cpu" {
		return m
	}
	cards, _ := fs.Glob(files, "sys/class/drm/card*/device/vendor")
	for _, vendor := range cards {
		card := path.Dir(vendor)
		id := strings.TrimPrefix(m.text(vendor), "0x") + ":" + strings.TrimPrefix(m.text(card+"/device"), "0x")
		switch {
		case id != d.PCIID:
		case m.card != "": // two devices of a kind
			m.card = ""
			return m
		default:
			m.card = path.Dir(card)
		}
	}
	return m
}

// thisMachine is the one that the program runs on.
func thisMachine(d pumice.DeviceInfo) *machine { return newMachine(os.DirFS("/"), d) }

// ofOthers is the machine of tests that another process runs.
func (m machine) ofOthers() *machine {
	m.apart = true
	return &m
}

// A glance is the state of a machine, or of what happened between two states.
type glance struct {
	ticks, others, stolen float64            // processor time of all processors; of other processes; taken by the hypervisor
	throttled             float64            // times that a processor was slowed down because of its temperature
	clocks                map[string]float64 // MHz, at the end
	heat                  map[string]float64 // degrees Celsius, at the end
	clients               map[string]float64 // nanoseconds of the device by other processes' ids
}

// hot is the temperature in degrees Celsius from which on it is told.
const hot = 85

// look returns the state now, with counts since the machine's start.
func (m *machine) look() glance {
	g := glance{clocks: map[string]float64{}, heat: map[string]float64{}, clients: map[string]float64{}}
	line, _, _ := strings.Cut(m.text("proc/stat"), "\n") // cpu user nice system idle iowait irq softirq steal guest guest_nice
	for i, n := range numbers(strings.TrimPrefix(line, "cpu")) {
		if i > 7 { // guests are part of user
			break
		}
		g.ticks += n
		switch i {
		case 3, 4: // idle
		case 7:
			g.stolen = n
		default:
			g.others += n
		}
	}
	stat := m.text("proc/self/stat")
	if own := numbers(stat[strings.LastIndexByte(stat, ')')+1:]); len(own) > 11 { // after the state: utime and stime, as proc(5) has them
		g.others -= own[10] + own[11]
	}
	for name, files := range map[string][]string{
		"processors": {"sys/devices/system/cpu/cpu[0-9]/cpufreq/scaling_cur_freq"},
		"device":     {m.card + "/gt_act_freq_mhz", m.card + "/device/tile0/gt0/freq0/act_freq", m.card + "/device/hwmon/hwmon*/freq1_input"},
	} {
		unit := 1.0 // MHz
		for _, pattern := range files {
			switch path.Base(pattern) {
			case "scaling_cur_freq":
				unit = 1e-3
			case "freq1_input":
				unit = 1e-6
			}
			if list := m.values(pattern); len(list) > 0 {
				mean, _ := spread(list)
				g.clocks[name] = unit * mean
				break
			}
		}
	}
	for _, sensors := range []string{m.card + "/device/hwmon/hwmon*/temp*_input", "sys/class/thermal/thermal_zone*/temp"} {
		list, _ := fs.Glob(m.files, sensors)
		for _, file := range list {
			if list := m.values(file); len(list) == 1 {
				name := m.text(path.Dir(file) + "/type") // of a zone
				if name == "" {
					name = strings.TrimSpace(m.text(path.Dir(file)+"/name") + " " + m.text(strings.TrimSuffix(file, "_input")+"_label"))
				}
				g.heat[name] = max(g.heat[name], list[0]/1000)
			}
		}
	}
	for _, n := range m.values("sys/devices/system/cpu/cpu[0-9]/thermal_throttle/core_throttle_count") {
		g.throttled += n
	}
	if m.card != "" {
		m.findClients(g.clients)
	}
	return g
}

// findClients adds the processes that have the device open, and what they used of it: the keys that drivers write are those of
// the kernel's Documentation/gpu/drm-usage-stats.rst. Only a superuser sees those of other users.
func (m *machine) findClients(clients map[string]float64) {
	uevent := m.text(m.card + "/device/uevent")
	_, slot, _ := strings.Cut(uevent, "PCI_SLOT_NAME=")
	slot, _, _ = strings.Cut(slot, "\n")
	if slot == "" {
		return
	}
	self := strings.Fields(m.text("proc/self/stat") + " 0")[0]
	files, _ := fs.Glob(m.files, "proc/[0-9]*/fdinfo/*")
	seen := map[string]bool{} // descriptors of one client repeat its counts
	for _, file := range files {
		pid := strings.Split(file, "/")[1]
		text := m.text(file)
		if pid == self || !strings.Contains(text, slot) {
			continue
		}
		used, client := 0.0, pid
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(line, ":")
			switch {
			case key == "drm-client-id":
				client += " " + strings.TrimSpace(value)
			case strings.HasPrefix(key, "drm-engine-") && !strings.HasPrefix(key, "drm-engine-capacity-"):
				if n := numbers(strings.TrimSuffix(strings.TrimSpace(value), " ns")); len(n) == 1 {
					used += n[0]
				}
			}
		}
		if !seen[client] {
			seen[client] = true
			clients[pid] += used
		}
	}
}

// since is what happened since an earlier glance.
func (m *machine) since(before glance) glance {
	g := m.look()
	g.ticks -= before.ticks
	g.others -= before.others
	g.stolen -= before.stolen
	g.throttled -= before.throttled
	for pid := range g.clients {
		g.clients[pid] -= before.clients[pid] // 0 if it came in between
	}
	return g
}

// reasons are what differs between the slowest and the fastest run, or is out of the ordinary.
func (m *machine) reasons(times []time.Duration, seen []glance) (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	slow, fast := seen[slowest(times)], seen[fastest(times)]
	when := "in the slowest run"
	if slow.ticks < 50 { // too short for ticks of a hundredth of a second
		var sum glance
		for _, g := range seen {
			sum.ticks, sum.others, sum.stolen = sum.ticks+g.ticks, sum.others+g.others, sum.stolen+g.stolen
		}
		slow.ticks, slow.others, slow.stolen = sum.ticks, sum.others, sum.stolen
		when = "during its runs"
	}
	if slow.ticks > 0 {
		if share := slow.others / slow.ticks; share > 0.05 && !m.apart {
			say("other processes took %.0f %% of the processors %s", 100*share, when)
		}
		if share := slow.stolen / slow.ticks; share > 0.02 {
			say("the hypervisor took %.0f %% of the processors %s", 100*share, when)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(slow.clocks)) {
		if s, f := slow.clocks[name], fast.clocks[name]; s < 0.95*f {
			say("the clock of the %s was %.0f MHz in the slowest run and %.0f MHz in the fastest", name, s, f)
		}
	}
	if slow.throttled > 0 {
		say("processors were slowed down %.0f times because of their temperature in the slowest run", slow.throttled)
	}
	for _, name := range slices.Sorted(maps.Keys(slow.heat)) {
		if slow.heat[name] >= hot {
			say("%s: %.0f degrees Celsius in the slowest run, %.0f in the fastest", name, slow.heat[name], fast.heat[name])
		}
	}
	busy := 0
	for _, used := range slow.clients {
		if used > 0.02*float64(times[slowest(times)]) {
			busy++
		}
	}
	if busy > 0 && !m.apart {
		say("other processes at work on the device in the slowest run: %d", busy)
	}
	return list
}

// text is a small file without the white space at its ends, "" if it can't be read.
func (m *machine) text(name string) string {
	b, err := fs.ReadFile(m.files, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// values are the numbers in the files that match a pattern.
func (m *machine) values(pattern string) (list []float64) {
	files, _ := fs.Glob(m.files, pattern)
	for _, file := range files {
		if n := numbers(m.text(file)); len(n) == 1 {
			list = append(list, n[0])
		}
	}
	return list
}

// numbers are those among a text's words.
func numbers(text string) (list []float64) {
	for _, word := range strings.Fields(text) {
		if n, err := strconv.ParseFloat(word, 64); err == nil {
			list = append(list, n)
		}
	}
	return list
}
