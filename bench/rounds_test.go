package bench

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/internal/gputest"
	"pumice/internal/vkfault"
)

// took is a run that seems to have taken so many milliseconds.
func took(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// Tests are warmed up until two runs agree, and then take turns.
func TestRoundsWarmUpAndTakeTurns(t *testing.T) {
	warming := [][]float64{{100, 50, 49}, {10, 10.2}} // of two tests, within 3 % at the end of each
	var order []string
	var rows []runs
	p := plan{reps: 2, limit: 0.05, machine: onMachine(newMachine(fstest.MapFS{}, pumice.DeviceInfo{Type: "cpu"}))}
	err := p.rounds(t.Context(), []string{"a", "b"}, func(_ context.Context, test, rep int) (time.Duration, error) {
		order = append(order, string("ab"[test])+string("w12"[rep]))
		if rep == 0 {
			next := warming[test][0]
			warming[test] = warming[test][1:]
			return took(next), nil
		}
		return took(10), nil
	}, func(_ int, r runs) { rows = append(rows, r) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("aw aw aw bw bw a1 b1 a2 b2", strings.Join(order, " ")); diff != "" {
		t.Error(diff)
	}
	for i, r := range rows {
		if !r.Warm || r.Warmups != 3-i || len(r.times) != 2 || r.Noisy || r.Spread != 0 || len(r.Reasons) != 0 {
			t.Errorf("row %d: %+v", i, r)
		}
	}
}

// A test that never settles is measured all the same, and says so.
func TestRoundsGiveUpWarming(t *testing.T) {
	n := 0
	p := plan{reps: 4, limit: 0.05, machine: onMachine(newMachine(fstest.MapFS{}, pumice.DeviceInfo{Type: "cpu"}))}
	err := p.rounds(t.Context(), []string{"a"}, func(context.Context, int, int) (time.Duration, error) {
		n++
		return took(float64(10 + 5*(n%2))), nil
	}, func(_ int, r runs) {
		if r.Warm || r.Warmups != maxWarmups || !r.Noisy || !strings.Contains(strings.Join(r.Reasons, "; "), "10 runs did not warm it up") {
			t.Errorf("%+v", r.Steadiness)
		}
	})
	if err != nil || n != maxWarmups+4 {
		t.Errorf("%d runs, %v", n, err)
	}
}

// What ends a measurement leaves the runs before; a lost device also leaves rows for what was not measured.
func TestRoundsEndEarly(t *testing.T) {
	for _, c := range []struct {
		err  error
		want []string // runs, and whether the row has an error
	}{
		{context.Canceled, []string{"a 2", "b 1"}},
		{pumice.ErrDeviceLost, []string{"a 2", "b 1 error", "c 1 error"}},
	} {
		var got []string
		p := plan{reps: 2, limit: 0.05, machine: onMachine(newMachine(fstest.MapFS{}, pumice.DeviceInfo{Type: "cpu"}))}
		err := p.rounds(t.Context(), []string{"a", "b", "c"}, func(_ context.Context, test, rep int) (time.Duration, error) {
			if test == 1 && rep == 2 {
				return 0, c.err
			}
			return took(10), nil
		}, func(test int, r runs) {
			row := string("abc"[test]) + " " + string("0123"[len(r.times)])
			if r.Error != "" {
				row += " error"
			}
			if test > 0 && !slices.Contains(r.Reasons, "ended after 1 of 2 runs") {
				t.Errorf("%v: reasons %q", c.err, r.Reasons)
			}
			got = append(got, row)
		})
		want := c.want
		if c.err == context.Canceled { // c has had its first round
			want = append(want, "c 1")
		}
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, c.err) {
			t.Errorf("%v: %v\n%s", c.err, err, diff)
		}
	}
}

func TestSpreadIsThatOfTheMiddleHalf(t *testing.T) {
	// Quartiles 20 and 40 around the median 30; a run that is far off does not count.
	if got, want := middle([]time.Duration{took(30), took(20), took(4000), took(40), took(10)}), 20.0/30; math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, want %v", got, want)
	}
	if got := middle([]time.Duration{took(3)}); got != 0 {
		t.Errorf("%v of one run", got)
	}
}

// TestReasons has a machine whose files change between two runs; the slow one is told of.
func TestReasons(t *testing.T) {
	card := "sys/class/drm/card1/device/"
	files := fstest.MapFS{}
	set := func(name, text string) { files[name] = &fstest.MapFile{Data: []byte(text)} }
	set(card+"vendor", "0x1002\n")
	set(card+"device", "0x744c\n")
	set(card+"uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n")
	set(card+"hwmon/hwmon3/name", "amdgpu\n")
	set(card+"hwmon/hwmon3/temp1_label", "edge\n")
	set("sys/class/drm/card0/device/vendor", "0x8086\n")
	set("sys/class/drm/card0/device/device", "0x0001\n")
	machineAt := func(user, own, steal, mhz, degrees string, client string) {
		set("proc/stat", "cpu  "+user+" 0 0 1000 0 0 0 "+steal+" 7 0\ncpu0 1 2 3\n")
		set("proc/self/stat", "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 "+own+" 0 0 0\n")
		set(card+"hwmon/hwmon3/freq1_input", mhz+"000000\n")
		set(card+"hwmon/hwmon3/temp1_input", degrees+"000\n")
		set("proc/77/fdinfo/5", "pos: 0\ndrm-pdev:\t0000:03:00.0\ndrm-client-id: 9\ndrm-engine-compute: "+client+" ns\n")
		set("proc/77/fdinfo/6", string(files["proc/77/fdinfo/5"].Data))
		set("proc/42/fdinfo/6", "drm-pdev:\t0000:03:00.0\ndrm-client-id: 1\ndrm-engine-compute: 1000000000 ns\n")
	}
	machineAt("0", "0", "0", "2400", "50", "0")
	m := newMachine(files, pumice.DeviceInfo{Type: "discrete", PCIID: "1002:744c"})
	before := m.look()
	machineAt("100", "98", "0", "2400", "60", "0") // of which 2 are of others
	fast := m.since(before)
	before = m.look()
	machineAt("300", "198", "50", "1200", "91", "600000000") // 100 of others in 200, and 50 of the hypervisor
	slow := m.since(before)
	want := []string{
		"other processes took 40 % of the processors in the slowest run",
		"the hypervisor took 20 % of the processors in the slowest run",
		"the clock of the device was 1200 MHz in the slowest run and 2400 MHz in the fastest",
		"amdgpu edge: 91 degrees Celsius in the slowest run, 60 in the fastest",
		"other processes at work on the device in the slowest run: 1",
	}
	if diff := cmp.Diff(want, m.reasons([]time.Duration{time.Second, 2 * time.Second}, []glance{fast, slow})); diff != "" {
		t.Error(diff)
	}
	m.apart = true // a peer runs the tests
	if diff := cmp.Diff(want[1:4], m.reasons([]time.Duration{time.Second, 2 * time.Second}, []glance{fast, slow})); diff != "" {
		t.Error(diff)
	}
	m.apart = false
	if got := m.reasons([]time.Duration{time.Second, time.Second}, []glance{fast, fast}); got != nil {
		t.Errorf("of a quiet machine: %q", got)
	}
	none := newMachine(fstest.MapFS{}, pumice.DeviceInfo{Type: "discrete", PCIID: "1002:744c"})
	if got := none.reasons([]time.Duration{time.Second, 2 * time.Second}, []glance{none.since(none.look()), none.since(none.look())}); got != nil {
		t.Errorf("of a system that tells nothing: %q", got)
	}
}

// TestLostDeviceIsARow loses the device in the middle of a measurement.
func TestLostDeviceIsARow(t *testing.T) {
	after := os.Getenv(vkfault.After)
	if after == "" {
		env := vkfault.Env(t)
		again := gputest.Again("-test.run=^TestLostDeviceIsARow$")
		again.Env = append(env, vkfault.Variable+"=vkWaitForFences:1:-4", vkfault.After+"="+filepath.Join(t.TempDir(), "lost"))
		if out, err := again.CombinedOutput(); err != nil || strings.Contains(string(out), vkfault.Mark) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	e, err := pumice.Open(t.Context(), "../testdata/fixtures/llama", pumice.Options{Context: 64, Device: os.Getenv("PUMICE_DEVICE")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var rows []Result
	o := Options{Prompt: []int{8}, Gen: []int{4}, Reps: 3, Progress: func(p Progress) {
		if p.Test == "tg4" && p.Run == 1 {
			if err := os.WriteFile(after, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}}
	if err := Run(t.Context(), e, o, func(r Result) { rows = append(rows, r) }); !errors.Is(err, pumice.ErrDeviceLost) {
		t.Errorf("%v, want that the device is lost", err)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows, want 2", len(rows))
	}
	for _, r := range rows {
		if len(r.SampleTS) != 1 || r.MedianTS <= 0 || !strings.Contains(r.Error, "lost") || !strings.Contains(TableFoot(rows), r.Error) {
			t.Errorf("%s: %d runs, error %q", r.Test().Name(), len(r.SampleTS), r.Error)
		}
	}
}
