package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"pumice"
)

// A meter tells how much energy a device takes, where the system tells it to this user: by a counter of energy, or by readings
// of its power many times a second.
type meter struct {
	source string
	energy func() (joules float64, ok bool) // since any time; nil: there is no counter
	wraps  float64                          // of energy in joules, after which it starts again; 0: none
	power  func() (watts float64, ok bool)  // now; nil: there is no reading
	close  func()                           // may be nil
}

// powerEvery is how often a power is read.
const powerEvery = 20 * time.Millisecond

// A Power is what tells the power of a device.
type Power struct {
	Source string
	Watts  func() (watts float64, ok bool) // now
	Close  func()                          // may be nil
}

// Energy is how much energy the device took in the tests of a row.
type Energy struct {
	JoulesPerToken *float64 `json:"joules_per_token"` // of the device for each token that is evaluated, the median of the runs; null: the system does not tell
	EnergySource   string   `json:"energy_source"`    // what told it
}

// cell is the energy of a token in joules.
func (e Energy) cell() string {
	if e.JoulesPerToken == nil {
		return "-"
	}
	return fmt.Sprintf("%.3g", *e.JoulesPerToken)
}

func (e Energy) check() error {
	if e.JoulesPerToken != nil && !sensible(*e.JoulesPerToken) {
		return errors.New("joules_per_token below 0, or above 1e20")
	}
	return nil
}

// A reading is the energy of a run, for each of its tokens.
type reading struct {
	joules float64
	known  bool
}

// energyOf is that of runs. It is not known if that of one of them is not.
func (x *meter) energyOf(runs []reading) (e Energy) {
	if x != nil {
		e.EnergySource = x.source
	}
	var joules []float64
	for _, r := range runs {
		if !r.known {
			return e
		}
		joules = append(joules, r.joules)
	}
	if len(joules) > 0 {
		m := median(joules)
		e.JoulesPerToken = &m
	}
	return e
}

// meterOf is the meter of an engine's device, nil of one on several devices: the others' energy would be missing.
func (m *machine) meterOf(e *pumice.Engine, power func(pumice.DeviceInfo) *Power) *meter {
	if len(e.Devices()) > 1 {
		return nil
	}
	return m.newMeter(e.Devices()[0].Info(), power)
}

// newMeter finds what tells the energy of a device: the counter of Linux's hwmon (i915, xe), its power there (amdgpu), what
// power does, which may be nil, or, of devices that are part of the processor or run on it, the counters of powercap, which
// most systems let only a superuser read. nil: nothing does.
func (m *machine) newMeter(d pumice.DeviceInfo, power func(pumice.DeviceInfo) *Power) *meter {
	micro := func(file string) func() (float64, bool) {
		return func() (float64, bool) {
			list := numbers(m.text(file))
			if len(list) != 1 {
				return 0, false
			}
			return list[0] / 1e6, true
		}
	}
	if m.card != "" {
		for _, name := range []string{"energy1_input", "power1_average", "power1_input"} {
			files, _ := fs.Glob(m.files, m.card+"/device/hwmon/hwmon*/"+name)
			for _, file := range files {
				read := micro(file)
				if _, ok := read(); !ok {
					continue
				}
				x := &meter{source: m.text(path.Dir(file)+"/name") + " " + name}
				if strings.HasPrefix(name, "energy") {
					x.energy = read
				} else {
					x.power = read
				}
				return x
			}
		}
	}
	if power != nil {
		if p := power(d); p != nil {
			return &meter{source: p.Source, power: p.Watts, close: p.Close}
		}
	}
	if d.Type != "cpu" && d.Type != "integrated" {
		return nil
	}
	packages, _ := fs.Glob(m.files, "sys/class/powercap/intel-rapl:[0-9]*/energy_uj")
	var reads []func() (float64, bool)
	x := &meter{source: "powercap"}
	for _, file := range packages {
		dir := path.Dir(file)
		if strings.Count(path.Base(dir), ":") > 1 || !strings.HasPrefix(m.text(dir+"/name"), "package") { // a part of one
			continue
		}
		reads = append(reads, micro(file))
		most, _ := micro(dir + "/max_energy_range_uj")()
		if x.wraps > 0 && x.wraps != most {
			return nil // no way to tell which of them has started again
		}
		x.wraps = most
	}
	if len(reads) == 0 {
		return nil
	}
	x.energy = func() (sum float64, ok bool) {
		for _, read := range reads {
			joules, ok := read()
			if !ok {
				return 0, false
			}
			sum += joules
		}
		return sum, true
	}
	if _, ok := x.energy(); !ok {
		return nil
	}
	return x
}

// of starts the measurement of a run, and what it returns ends it, with how many tokens it has evaluated.
func (x *meter) of() (end func(tokens int) reading) {
	stop := x.begin()
	return func(tokens int) reading {
		joules, ok := stop()
		return reading{joules / float64(max(tokens, 1)), ok}
	}
}

// begin starts a measurement, and what it returns ends it. The result is not known if a reading failed.
func (x *meter) begin() (end func() (joules float64, ok bool)) {
	if x == nil {
		return func() (float64, bool) { return 0, false }
	}
	if x.energy != nil {
		before, ok := x.energy()
		return func() (float64, bool) {
			after, ok2 := x.energy()
			if after < before {
				after += x.wraps
			}
			return after - before, ok && ok2 && after >= before
		}
	}
	start := time.Now()
	sum, n, all := 0.0, 0, true
	read := func() {
		watts, ok := x.power()
		sum, n, all = sum+watts, n+1, all && ok
	}
	read()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(powerEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				read()
			}
		}
	}()
	return func() (float64, bool) {
		close(stop)
		<-stopped
		took := time.Since(start).Seconds()
		read()
		return sum / float64(n) * took, all
	}
}

func (x *meter) end() {
	if x != nil && x.close != nil {
		x.close()
	}
}
