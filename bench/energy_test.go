package bench

import (
	"math"
	"testing"
	"testing/fstest"
	"time"

	"pumice"
)

func mapFile(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }

// A tree has a card with files of hwmon, and counters of a processor with two packages and a part of one.
func tree(hwmon map[string]string) fstest.MapFS {
	files := fstest.MapFS{
		"sys/class/drm/card0/device/vendor":                   mapFile("0x1002"),
		"sys/class/drm/card0/device/device":                   mapFile("0x744c"),
		"sys/class/powercap/intel-rapl:0/name":                mapFile("package-0"),
		"sys/class/powercap/intel-rapl:0/energy_uj":           mapFile("1000000"),
		"sys/class/powercap/intel-rapl:0/max_energy_range_uj": mapFile("262143000000"),
		"sys/class/powercap/intel-rapl:0:0/name":              mapFile("core"),
		"sys/class/powercap/intel-rapl:0:0/energy_uj":         mapFile("500000"),
		"sys/class/powercap/intel-rapl:1/name":                mapFile("package-1"),
		"sys/class/powercap/intel-rapl:1/energy_uj":           mapFile("2000000"),
		"sys/class/powercap/intel-rapl:1/max_energy_range_uj": mapFile("262143000000"),
		"sys/class/powercap/intel-rapl-mmio:0/energy_uj":      mapFile("7"),
		"sys/class/drm/card0/device/hwmon/hwmon3/name":        mapFile("amdgpu"),
		"sys/class/drm/card0/device/hwmon/hwmon3/temp1_input": mapFile("40000"),
	}
	for name, text := range hwmon {
		files["sys/class/drm/card0/device/hwmon/hwmon3/"+name] = mapFile(text)
	}
	return files
}

func TestMeterReadsWhatTheSystemTells(t *testing.T) {
	gpu, cpu := pumice.DeviceInfo{Type: "discrete", PCIID: "1002:744c"}, pumice.DeviceInfo{Type: "cpu"}
	near := func(name string, got float64, ok bool, want, within float64) {
		t.Helper()
		if !ok || math.Abs(got-want) > within {
			t.Errorf("%s: %g joules, known %t; want %g", name, got, ok, want)
		}
	}
	files := tree(map[string]string{"energy1_input": "5000000", "power1_average": "30000000"})
	x := newMachine(files, gpu).newMeter(gpu, nil)
	if x == nil || x.source != "amdgpu energy1_input" {
		t.Fatalf("%+v", x)
	}
	end := x.begin()
	files["sys/class/drm/card0/device/hwmon/hwmon3/energy1_input"] = mapFile("7500000")
	got, ok := end()
	near("a counter", got, ok, 2.5, 1e-9)

	files = tree(map[string]string{"power1_average": "30000000"})
	x = newMachine(files, gpu).newMeter(gpu, nil)
	if x == nil || x.source != "amdgpu power1_average" {
		t.Fatalf("%+v", x)
	}
	start := time.Now()
	end = x.begin()
	time.Sleep(3 * powerEvery)
	got, ok = end()
	near("30 watts", got, ok, 30*time.Since(start).Seconds(), 1)
	end = x.begin()
	delete(files, "sys/class/drm/card0/device/hwmon/hwmon3/power1_average")
	if got, ok := end(); ok {
		t.Errorf("a reading that failed gives %g joules", got)
	}

	files = tree(nil)
	told := &Power{Source: "a program", Watts: func() (float64, bool) { return 20, true }}
	x = newMachine(files, gpu).newMeter(gpu, func(pumice.DeviceInfo) *Power { return told })
	start = time.Now()
	end = x.begin()
	time.Sleep(3 * powerEvery)
	got, ok = end()
	near("20 watts of "+x.source, got, ok, 20*time.Since(start).Seconds(), 1)
	if x := newMachine(files, gpu).newMeter(gpu, nil); x != nil {
		t.Errorf("a card that tells nothing has %+v", x)
	}
	x = newMachine(files, cpu).newMeter(cpu, nil)
	if x == nil || x.source != "powercap" {
		t.Fatalf("%+v", x)
	}
	end = x.begin()
	files["sys/class/powercap/intel-rapl:0/energy_uj"] = mapFile("1500000")
	files["sys/class/powercap/intel-rapl:0:0/energy_uj"] = mapFile("900000") // is in the package's
	files["sys/class/powercap/intel-rapl:1/energy_uj"] = mapFile("2250000")
	got, ok = end()
	near("two packages", got, ok, 0.75, 1e-9)
	end = x.begin()
	files["sys/class/powercap/intel-rapl:1/energy_uj"] = mapFile("250000") // has started again: 2 joules lower by 262143
	got, ok = end()
	near("a counter that started again", got, ok, 262143-2, 1e-6)

	files["sys/class/powercap/intel-rapl:0/energy_uj"] = &fstest.MapFile{Data: nil} // as one that only a superuser reads
	if x := newMachine(files, cpu).newMeter(cpu, nil); x != nil {
		t.Errorf("counters that can't be read: %+v", x)
	}
	var none *meter
	if got, ok := none.begin()(); ok {
		t.Errorf("no meter gives %g joules", got)
	}
	none.end()
}

// TestEnergyOfTokens: it is the median of the runs, and not known if one of them was not metered.
func TestEnergyOfTokens(t *testing.T) {
	r := row(Test{Gen: 8}, 10)
	samples := []sample{{joules: 1, metered: true}, {joules: 4, metered: true}, {joules: 2, metered: true}}
	r.summarise(runs{}, samples)
	if r.JoulesPerToken == nil || *r.JoulesPerToken != 2 || r.energyCell() != "2" {
		t.Errorf("%v %s", r.JoulesPerToken, r.energyCell())
	}
	r = row(Test{Gen: 8}, 10)
	r.summarise(runs{}, append(samples, sample{}))
	if r.JoulesPerToken != nil || r.energyCell() != "-" {
		t.Errorf("%g without a reading", *r.JoulesPerToken)
	}
}
