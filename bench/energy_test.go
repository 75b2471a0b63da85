package bench

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pumice"
	"pumice/internal/gputest"
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
	samples := []sample{{energy: reading{1, true}}, {energy: reading{4, true}}, {energy: reading{2, true}}}
	x := &meter{source: "a counter"}
	r.Energy = x.energyOf(energies(samples))
	if r.JoulesPerToken == nil || *r.JoulesPerToken != 2 || r.EnergySource != "a counter" || r.Energy.cell() != "2" {
		t.Errorf("%v %s %s", r.JoulesPerToken, r.EnergySource, r.Energy.cell())
	}
	r.Energy = x.energyOf(energies(append(samples, sample{})))
	if r.JoulesPerToken != nil || r.Energy.cell() != "-" {
		t.Errorf("%g without a reading", *r.JoulesPerToken)
	}
}

// TestEnergyOfSeveralAtOnce: rows of parallel sequences and of requests have the energy of each token of prompts and answers.
func TestEnergyOfSeveralAtOnce(t *testing.T) {
	gputest.Open(t) // skips without a device
	e := opened(t, pumice.Options{Context: 16})
	closed := 0
	power := func(pumice.DeviceInfo) *Power {
		return &Power{Source: "20 watts", Watts: func() (float64, bool) { return 20, true }, Close: func() { closed++ }}
	}
	// The energy is that of the time that was measured and of what is around it.
	least := func(name string, got Energy, seconds float64, tokens int) {
		t.Helper()
		want := 20 * seconds / float64(tokens)
		if got.JoulesPerToken == nil || got.EnergySource != "20 watts" || *got.JoulesPerToken < want || *got.JoulesPerToken > 4*want {
			t.Errorf("%s: %s J, want %g or a little more", name, got.cell(), want)
		}
	}
	o := ParallelOptions{Prompt: []int{8}, Gen: []int{4}, Sequences: []int{2}, Reps: 1, Power: power}
	if err := RunParallel(t.Context(), e, o, func(r ParallelResult) {
		least(r.Name(), r.Energy, r.Time, 24)
		if !strings.Contains(ParallelRow(r), fmt.Sprintf("| %7s |", r.Energy.cell())) {
			t.Error(ParallelRow(r))
		}
	}); err != nil {
		t.Error(err)
	}
	late := func(ctx context.Context, prompt []int, n int, each func()) (int, error) {
		time.Sleep(10 * time.Millisecond)
		return inEngine(e)(ctx, prompt, n, each)
	}
	l := LoadOptions{Prompt: 8, Gen: 4, Load: []int{2}, Reps: 2, Asker: late, Power: power}
	if err := RunLoad(t.Context(), e, l, func(r LoadResult) {
		least(r.Name(), r.Energy, r.Duration/2, r.InputTokens+r.OutputTokens) // half: the parts differ, and the median may be a short one
	}); err != nil {
		t.Error(err)
	}
	if closed != 2 {
		t.Errorf("%d of 2 meters were closed", closed)
	}
}
