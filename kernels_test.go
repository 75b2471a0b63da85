package pumice

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

func TestResetTuningForgetsMeasurementsNotRefusals(t *testing.T) {
	pd := gputest.Open(t).PhysicalDevice()
	timed := func(x *pipeline.Tuning) {
		x.Timings = append(x.Timings, pipeline.Measurement{Op: "matvec_q4_0", Path: kernels.Base, Tokens: 1, Nanoseconds: 1})
	}
	for _, c := range []struct {
		name    string
		write   func(file string, x *pipeline.Tuning) error
		refused int // kernels, after which the file is still there
	}{
		{"nothing", func(string, *pipeline.Tuning) error { return nil }, 0},
		{"measurements", func(file string, x *pipeline.Tuning) error { timed(x); return x.Write(file) }, 0},
		{"a wrong kernel", func(file string, x *pipeline.Tuning) error {
			timed(x)
			x.Refuse(pipeline.Refusal{Kernel: "matvec_q4_0"})
			return x.Write(file)
		}, 1},
		{"another driver", func(file string, x *pipeline.Tuning) error { x.Driver = "other"; return x.Write(file) }, 0},
		{"no JSON", func(file string, _ *pipeline.Tuning) error { return os.WriteFile(file, []byte("{"), 0o644) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			x, err := pipeline.NewTuning(pd)
			if err != nil {
				t.Fatal(err)
			}
			want := pipeline.TuningFile(dir, pd)
			if err := c.write(want, x); err != nil {
				t.Fatal(err)
			}
			d, err := OpenDevice(Options{CacheDir: dir, Device: pd.Name, Logger: zerolog.Nop()})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if file, err := d.ResetTuning(); err != nil || file != want {
				t.Fatalf("%s, %v", file, err)
			}
			if _, err := os.Stat(want); errors.Is(err, fs.ErrNotExist) != (c.refused == 0) {
				t.Errorf("%v", err)
			}
			if x, err = pipeline.ReadTuning(want, pd); err != nil || len(x.Timings) != 0 || len(x.Refused) != c.refused {
				t.Errorf("%+v, %v is left", x, err)
			}
		})
	}
}

// TestKernelsAreNotVerifiedUnseen: a kernel counts as verified once its comparison is on record, and not before.
func TestKernelsAreNotVerifiedUnseen(t *testing.T) {
	e, _ := metered(t, filepath.Join("testdata", "fixtures", "llama"), Options{Context: 64})
	generate(t, e.NewSession(), []int{1, 2, 3}, GenerateOptions{MaxTokens: 2, IgnoreEOS: true})
	k := e.Kernels()
	if len(k.Used) < 5 || !slices.Equal(k.Unverified, k.Used) || len(k.Refused) > 0 {
		t.Fatalf("%+v", k)
	}
	d := e.Devices()[0]
	for _, kernel := range k.Used[2:] {
		d.tuning.Pass(kernel)
	}
	d.tuning.Refuse(pipeline.Refusal{Kernel: "bad"})
	if k = e.Kernels(); !slices.Equal(k.Unverified, k.Used[:2]) || !slices.Equal(k.Refused, []string{"bad"}) {
		t.Errorf("%+v", k)
	}
}

func TestTuneSaysWhatItCouldNotKeep(t *testing.T) {
	pd := gputest.Open(t).PhysicalDevice()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDevice(Options{CacheDir: filepath.Join(file, "no folder"), Device: pd.Name, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, done := range []dtype.DType{dtype.Q4_0, dtype.F16} {
		d.tuning.MarkChecked(done)
	}
	result, err := d.Tune(t.Context(), TuneOptions{Types: []string{"q4_0"}, Budget: 1, OnCheck: func() { t.Error("checked again") }})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v, want an error about %s", err, file)
	}
	if result == nil || result.File != "" || result.Complete || len(result.Missing) == 0 {
		t.Errorf("%+v", result)
	}
}
