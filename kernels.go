package pumice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/model"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/pipeline/verify"
	"pumice/vk"
)

// VerifyOptions configure Verify. The zero value checks every kernel in every case.
type VerifyOptions struct {
	Types   []string // of weights and KV caches, such as "q4_0": kernels that read one are checked; nil stands for all kernels
	Kernels []string // kernels to check, as shaders/variants.txt names them; nil stands for all
	Quick   bool     // check fewer shapes of matrix products and of attention
	Brief   bool     // check the few cases that a GPU's kernels are checked with when a model first needs them

	// Progress, if not nil, is called after each check, as often as there are cases.
	Progress func(done, total int)

	// Compiled, if not nil, is called for each kernel that a kernel path compiled, slowest first, when the path is done.
	// The paths are then checked one after another and not side by side.
	Compiled func(path string, k Compile)
}

// Verify compares the results of every kernel that the device can run with a float64 reference, and calls each with
// every result. A kernel that fails is not used again by this process, nor by later ones with the same CacheDir, until
// the driver or the kernels change. Wrong results are no error. No Engine may be on the device, and each must not use it.
func (d *Device) Verify(ctx context.Context, o VerifyOptions, each func(VerifyResult)) error {
	types, err := parseTypes(o.Types)
	if err != nil {
		return err
	}
	end, err := d.alone()
	if err != nil {
		return err
	}
	defer end()
	d.tuningMu.Lock()
	defer d.tuningMu.Unlock()
	fresh, err := pipeline.NewTuning(d.device.PhysicalDevice())
	if err != nil {
		return err
	}
	ran := map[string]bool{}
	for _, name := range o.Kernels {
		if !slices.Contains(d.manager.Variants(), name) {
			return fmt.Errorf("verify: this device runs no kernel named %q", name)
		}
	}
	options := verify.Options{Types: types, Kernels: o.Kernels, Quick: o.Quick, Brief: o.Brief, Progress: o.Progress}
	if o.Compiled != nil {
		options.Compiled = func(path kernels.Path, k Compile) { o.Compiled(string(path), k) }
	}
	err = verify.Kernels(ctx, d.manager, options, func(r VerifyResult) {
		ran[r.Kernel] = true
		verify.Note(fresh, r)
		each(r)
	})
	if err != nil {
		return err
	}
	// Quick, Brief and Kernels may leave out the case in which a kernel failed, so they lift no refusal.
	if !o.Quick && !o.Brief && o.Kernels == nil {
		d.tuning.Refused = slices.DeleteFunc(d.tuning.Refused, func(r Refusal) bool { return ran[r.Kernel] })
	}
	for _, r := range fresh.Refused {
		d.tuning.Refuse(r)
	}
	for _, kernel := range fresh.Passed {
		d.tuning.Pass(kernel)
	}
	checked := types
	if checked == nil {
		checked = kernels.WeightTypes()
	}
	if o.Kernels == nil {
		for _, t := range slices.Concat(checked, kernels.CacheTypes) {
			d.tuning.MarkChecked(t)
		}
	}
	d.save()
	return nil
}

// TuneOptions configure Tune.
type TuneOptions struct {
	Types   []string      // weight types to measure, the most important first; nil stands for all
	Budget  time.Duration // time after which no measurement is started
	OnCheck func()        // called before kernels are checked, which takes seconds; may be nil

	// OnMeasure is called after each measurement, with how many of those that were missing are made; must not be nil.
	OnMeasure func(m Measurement, done, total int)
}

// A TuneResult has the measurements of Tune and of earlier runs, and lists what is not measured yet.
type TuneResult struct {
	Device   string        `json:"device"`
	Driver   string        `json:"driver"`
	Shaders  string        `json:"shaders"` // hash of the kernels
	Checked  []string      `json:"checked"` // types whose kernels were compared with the float64 reference
	Refused  []Refusal     `json:"refused"` // kernels that failed
	Timings  []Measurement `json:"timings"`
	File     string        `json:"file"`     // path of the file with the measurements; "" without a CacheDir
	Complete bool          `json:"complete"` // Missing is empty
	Missing  []Product     `json:"missing"`  // products with a kernel not measured yet: rules choose theirs
}

// Tune measures the kernels of matrix products for weights of o.Types, wherever the device can run more than one, until
// o.Budget is spent. It checks the kernels first if that was not done before. It continues where the last run with the
// same CacheDir ended, and saves the measurements there, after an error too. From then on, a product whose kernels are
// all measured uses the fastest one, and on a GPU the fastest way of sharing it among workgroups; rules choose those of other
// products. No Engine may be on the device, and functions of o must not use it.
func (d *Device) Tune(ctx context.Context, o TuneOptions) (*TuneResult, error) {
	list, err := parseTypes(o.Types)
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = verify.TuneTypes()
	}
	end, err := d.alone()
	if err != nil {
		return nil, err
	}
	defer end()
	d.tuningMu.Lock()
	defer d.tuningMu.Unlock()
	deadline := time.Now().Add(o.Budget)
	if first := list[:min(len(list), 4)]; !d.checked(first, dtype.F16) {
		if o.OnCheck != nil {
			o.OnCheck()
		}
		if err := d.check(ctx, first, dtype.F16); err != nil {
			return nil, err
		}
	}
	options := verify.TuneOptions{Types: list, Budget: time.Until(deadline)}
	missing, err := verify.Tune(ctx, d.manager, d.tuning, options, o.OnMeasure)
	t := d.tuning.Clone()
	result := &TuneResult{
		Device: t.Device, Driver: t.Driver, Shaders: t.Shaders, Checked: t.Checked, Refused: t.Refused, Timings: t.Timings,
		Complete: len(missing) == 0, Missing: missing,
	}
	if d.file != "" {
		if failed := d.tuning.Write(d.file); failed != nil {
			return result, errors.Join(err, fmt.Errorf("pumice: the measurements are not kept: %w", failed))
		}
		result.File = d.file
	}
	return result, err
}

// ResetTuning deletes the measurements in CacheDir, so that rules choose the kernels again, and returns the name of the
// file that held them. Kernels that compute wrong results stay refused, and Engines that are open keep their kernels.
func (d *Device) ResetTuning() (file string, err error) {
	if d.file == "" {
		return "", errors.New("pumice: without a CacheDir there are no measurements to forget")
	}
	d.tuningMu.Lock()
	defer d.tuningMu.Unlock()
	d.tuning.Timings = nil
	if len(d.tuning.Refused) > 0 {
		return d.file, d.tuning.Write(d.file)
	}
	if err := os.Remove(d.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.file, err
	}
	return d.file, nil
}

// parseTypes parses names of weight types and drops repetitions. Without names it returns nil.
func parseTypes(names []string) ([]dtype.DType, error) {
	var list []dtype.DType
	for _, name := range names {
		t, err := parseType("types", name, kernels.WeightTypes(), "")
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list, nil
}

// checked reports whether the kernels for these types have been compared with the float64 reference. The caller has tuningMu.
func (d *Device) checked(types []dtype.DType, cache dtype.DType) bool {
	unchecked := func(t dtype.DType) bool { return !d.tuning.IsChecked(t) }
	return d.tuning.IsChecked(cache) && !slices.ContainsFunc(types, unchecked)
}

// check compares the kernels for these types with the float64 reference, unless that was done before. The caller has tuningMu.
func (d *Device) check(ctx context.Context, types []dtype.DType, cache dtype.DType) error {
	if d.checked(types, cache) {
		return nil
	}
	unchecked := slices.DeleteFunc(slices.Clone(types), d.tuning.IsChecked)
	start, before := time.Now(), len(d.tuning.Refused)
	if err := verify.Check(ctx, d.manager, d.tuning, unchecked, cache); err != nil {
		return fmt.Errorf("pumice: checking the kernels on %s: %w", d.info.Name, err)
	}
	d.log.Info().Dur("took", time.Since(start)).
		Msg("kernels checked, once for each device, driver and weight type")
	for _, r := range d.tuning.Refused[before:] {
		d.log.Warn().Str("kernel", r.Kernel).Str("case", r.Case).Float64("max_rel", r.MaxRel).
			Msg("kernel computes wrong results on this device and is not used")
	}
	d.save()
	return nil
}

// KernelsInfo says which kernels a model runs, by their names in shaders/variants.txt, and which of them were compared with the
// float64 reference on this device and driver, with right results in every case: when the first model with such weights was
// loaded on a GPU, or by Device.Verify. Kernels with wrong results are not run.
type KernelsInfo struct {
	Used       []string `json:"used"`       // so far: longer texts may need others
	Unverified []string `json:"unverified"` // of these, those that were not compared
	Refused    []string `json:"refused"`    // of all the device's kernels, those with wrong results
}

// Kernels describes the kernels of the Engine, on all its devices.
func (e *Engine) Kernels() KernelsInfo {
	k := KernelsInfo{Used: []string{}, Unverified: []string{}, Refused: []string{}}
	for i, d := range e.devices {
		used := e.managers[i].Used()
		k.Used = append(k.Used, used...)
		d.tuningMu.Lock()
		k.Unverified = append(k.Unverified, slices.DeleteFunc(used, d.tuning.HasPassed)...)
		for _, r := range d.tuning.Refused {
			k.Refused = append(k.Refused, r.Kernel)
		}
		d.tuningMu.Unlock()
	}
	for _, list := range []*[]string{&k.Used, &k.Unverified, &k.Refused} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return k
}

// Kernels lists the kernels that the model would run on the device with these options, each with every set of specialization
// constants once. With stats it compiles them and has what the driver tells of each, or the error ErrNoStats with the list. No
// weights are loaded.
func (m *Model) Kernels(ctx context.Context, d *Device, o Options, stats bool) ([]KernelStats, error) {
	s, err := o.settings()
	if err != nil {
		return nil, err
	}
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.free()
	if err := d.use(); err != nil {
		return nil, err
	}
	defer d.free()
	manager, err := d.newManager(o, s.path)
	if err != nil {
		return nil, err
	}
	defer manager.Close()
	uses, err := model.Kernels(manager, m.checkpoint, o.model(s))
	if err != nil {
		return nil, err
	}
	list := []KernelStats{}
	var none error
	for _, u := range uses {
		if err := ctx.Err(); err != nil {
			return list, err
		}
		k := u.Describe()
		if stats && none == nil {
			if k, _, err = u.Compile(d.device); errors.Is(err, ErrNoStats) {
				none = fmt.Errorf("%s, driver %s: %w", d.info.Name, d.info.Driver, err)
			} else if err != nil {
				return list, err
			}
		}
		list = append(list, k)
	}
	return list, none
}

// Unverified returns those of some kernels that were not yet compared with the float64 reference with right results in every
// case, by this process or by earlier ones with the same CacheDir, device, driver and kernels.
func (d *Device) Unverified(kernels []string) []string {
	d.tuningMu.Lock()
	defer d.tuningMu.Unlock()
	return slices.DeleteFunc(slices.Clone(kernels), d.tuning.HasPassed)
}

// checkFor checks the kernels that a checkpoint needs. It skips CPU drivers, because the project's own tests run on
// them.
func (d *Device) checkFor(ctx context.Context, c *checkpoint.Checkpoint, s settings) error {
	if d.device.PhysicalDevice().Type == vk.CPU {
		return nil
	}
	readable := kernels.WeightTypes()
	var types []dtype.DType
	for _, name := range c.Names() {
		if t, ok := c.Tensor(name); ok && slices.Contains(readable, t.DType) && !slices.Contains(types, t.DType) {
			types = append(types, t.DType)
		}
	}
	if s.weights != dtype.Invalid {
		types = []dtype.DType{s.weights}
	}
	cache := s.cache
	if cache == dtype.Invalid {
		cache = dtype.F16
	}
	d.tuningMu.Lock()
	defer d.tuningMu.Unlock()
	return d.check(ctx, types, cache)
}

// newManager returns a manager for a model, which chooses kernels by what is known of them now.
func (d *Device) newManager(o Options, path kernels.Path) (*pipeline.Manager, error) {
	d.tuningMu.Lock()
	t := d.tuning.Clone()
	d.tuningMu.Unlock()
	m, err := pipeline.NewManager(d.device, pipeline.Options{Logger: o.Logger, Path: path, Profile: o.Profile, Tuning: t})
	return m, pathError(err)
}

// save writes the tuning to its file. A failure is only logged, because the program can go on without the file.
func (d *Device) save() {
	if d.file == "" {
		return
	}
	if err := d.tuning.Write(d.file); err != nil {
		d.log.Warn().Err(err).Str("file", d.file).Msg("the results of checking the kernels could not be saved")
	}
}
