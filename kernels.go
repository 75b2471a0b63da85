package pumice

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/pipeline/verify"
	"pumice/vk"
)

// Kernels checks and measures the compute kernels on one device. With Options.CacheDir it keeps which kernels compute
// wrong results and which ones are fastest, and later Engines use that. The caller closes it.
type Kernels struct {
	instance *vk.Instance
	device   *vk.Device
	manager  *pipeline.Manager
	tuning   *pipeline.Tuning
	file     string // path of the file that keeps the tuning; "" if none does
	info     Device
	log      zerolog.Logger
}

// OpenKernels opens the device that Options.Device selects, without a model.
func OpenKernels(o Options) (*Kernels, error) {
	s, err := o.settings()
	if err != nil {
		return nil, err
	}
	return openKernels(o, s)
}

func openKernels(o Options, s settings) (_ *Kernels, err error) {
	k := &Kernels{log: o.Logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	if k.instance, k.device, err = openDevice(o); err != nil {
		return nil, err
	}
	pd := k.device.PhysicalDevice()
	k.info = describe(pd)
	if o.CacheDir == "" {
		k.tuning, err = pipeline.NewTuning(pd)
	} else {
		k.file = pipeline.TuningFile(o.CacheDir, pd)
		k.tuning, err = pipeline.ReadTuning(k.file, pd)
		if k.tuning != nil && err != nil {
			k.log.Warn().Err(err).Msg("the tuning record can't be read and is not used")
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	k.manager, err = pipeline.NewManager(k.device, pipeline.Options{
		Logger: o.Logger, Path: s.path, Profile: o.Profile, Tuning: k.tuning,
	})
	if err != nil {
		return nil, err
	}
	k.info.KernelPaths = pathNames(k.manager.Chosen())
	if memory, err := k.device.Memory(); err == nil {
		k.info.MemoryTotal, k.info.MemoryFree = memory.TotalBytes, memory.FreeBytes
	}
	return k, nil
}

// openDevice opens the device that the options select. It logs a warning if that is a CPU driver by default.
func openDevice(o Options) (*vk.Instance, *vk.Device, error) {
	in, err := vk.NewInstance(vk.InstanceOptions{Validation: o.Validation, Logger: o.Logger})
	if err != nil {
		return nil, nil, fmt.Errorf("pumice: %w", err)
	}
	dev, err := selectDevice(in, o)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("pumice: %w", err), in.Close())
	}
	return in, dev, nil
}

func selectDevice(in *vk.Instance, o Options) (*vk.Device, error) {
	devices, err := in.Devices()
	if err != nil {
		return nil, err
	}
	pd, err := vk.Select(devices, o.Device)
	if err != nil {
		return nil, err
	}
	if pd.Type == vk.CPU && o.Device == "" {
		o.Logger.Warn().Str("device", pd.Name).Msg("no GPU was found: a CPU driver is used, which is slow")
	}
	o.Logger.Debug().Int("index", pd.Index).Str("device", pd.Name).Str("uuid", hex.EncodeToString(pd.UUID[:])).
		Msg("device")
	t, err := pipeline.NewTuning(pd)
	if err != nil {
		return nil, err
	}
	return pd.Open(vk.DeviceOptions{
		CacheDir: o.CacheDir, CacheContent: t.Shaders, Logger: o.Logger, HangTimeout: o.HangTimeout,
	})
}

// CopyBandwidth measures how fast the device copies its own memory, in bytes a second; every byte counts twice, as read
// and as written. It returns 0 if the device has no free memory for the copy.
func (k *Kernels) CopyBandwidth(ctx context.Context) (float64, error) {
	return k.manager.CopyBandwidth(ctx)
}

// Device describes the device that the kernels run on.
func (k *Kernels) Device() Device { return k.info }

// Close frees the device. It may be called twice.
func (k *Kernels) Close() error {
	var errs []error
	if k.manager != nil {
		errs = append(errs, k.manager.Close())
	}
	if k.device != nil {
		errs = append(errs, k.device.Close())
	}
	if k.instance != nil {
		errs = append(errs, k.instance.Close())
	}
	k.manager, k.device, k.instance = nil, nil, nil
	return errors.Join(errs...)
}

// VerifyOptions configure Verify. The zero value checks every kernel in every case.
type VerifyOptions struct {
	Types   []string // weight types whose kernels are checked, such as "q4_0"; nil stands for all
	Kernels []string // kernels to check, as shaders/variants.txt names them; nil stands for all
	Quick   bool     // check fewer shapes of matrix products and of attention

	// Compiled, if not nil, is called for each kernel that a kernel path compiled, slowest first, when the path is done.
	// The paths are then checked one after another and not side by side.
	Compiled func(kernels.Path, pipeline.Compile)
}

// Verify compares the results of every kernel that the device can run with a float64 reference, and calls each with
// every result. A kernel that fails is not used again by this process, nor by later ones with the same CacheDir, until
// the driver or the kernels change. Wrong results are no error.
func (k *Kernels) Verify(ctx context.Context, o VerifyOptions, each func(verify.Result)) error {
	types, err := parseTypes(o.Types)
	if err != nil {
		return err
	}
	fresh, err := pipeline.NewTuning(k.device.PhysicalDevice())
	if err != nil {
		return err
	}
	ran := map[string]bool{}
	for _, name := range o.Kernels {
		if !slices.Contains(k.manager.Variants(), name) {
			return fmt.Errorf("verify: this device runs no kernel named %q", name)
		}
	}
	options := verify.Options{Types: types, Kernels: o.Kernels, Quick: o.Quick, Compiled: o.Compiled}
	err = verify.Kernels(ctx, k.manager, options, func(r verify.Result) {
		ran[r.Kernel] = true
		verify.Refuse(fresh, r)
		each(r)
	})
	if err != nil {
		return err
	}
	// Quick and Kernels may leave out the case in which a kernel failed, so they lift no refusal.
	if !o.Quick && o.Kernels == nil {
		k.tuning.Refused = slices.DeleteFunc(k.tuning.Refused, func(r pipeline.Refusal) bool { return ran[r.Kernel] })
	}
	for _, r := range fresh.Refused {
		k.tuning.Refuse(r)
	}
	checked := types
	if checked == nil {
		checked = kernels.WeightTypes()
	}
	if o.Kernels == nil {
		for _, t := range slices.Concat(checked, kernels.CacheTypes) {
			k.tuning.MarkChecked(t)
		}
	}
	k.save()
	return nil
}

// TuneOptions configure Tune.
type TuneOptions struct {
	Types     []string                   // weight types to measure, the most important first; nil stands for all
	Budget    time.Duration              // time after which no measurement is started
	OnCheck   func()                     // called before kernels are checked, which takes seconds; may be nil
	OnMeasure func(pipeline.Measurement) // called after each measurement; must not be nil
}

// A TuneResult has the measurements of Tune and of earlier runs, and lists what is not measured yet.
type TuneResult struct {
	*pipeline.Tuning
	File     string             `json:"file"`     // path of the file with the measurements; "" without a CacheDir
	Complete bool               `json:"complete"` // Missing is empty
	Missing  []pipeline.Product `json:"missing"`  // products with a kernel not measured yet: rules choose theirs
}

// Tune measures the kernels of matrix products for weights of o.Types, wherever the device can run more than one, until
// o.Budget is spent. It checks the kernels first if that was not done before. It continues where the last run with the
// same CacheDir ended, and saves the measurements there, after an error too. From then on, a product whose kernels are
// all measured uses the fastest one; rules choose the kernels of other products.
func (k *Kernels) Tune(ctx context.Context, o TuneOptions) (*TuneResult, error) {
	list, err := parseTypes(o.Types)
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = verify.TuneTypes()
	}
	deadline := time.Now().Add(o.Budget)
	if first := list[:min(len(list), 4)]; !k.checked(first, dtype.F16) {
		if o.OnCheck != nil {
			o.OnCheck()
		}
		if err := k.check(ctx, first, dtype.F16); err != nil {
			return nil, err
		}
	}
	options := verify.TuneOptions{Types: list, Budget: time.Until(deadline)}
	missing, err := verify.Tune(ctx, k.manager, k.tuning, options, o.OnMeasure)
	result := &TuneResult{Tuning: k.tuning, Complete: len(missing) == 0, Missing: missing}
	if k.file != "" {
		if failed := k.tuning.Write(k.file); failed != nil {
			return result, errors.Join(err, fmt.Errorf("pumice: the measurements are not kept: %w", failed))
		}
		result.File = k.file
	}
	return result, err
}

// ResetTuning deletes the measurements in CacheDir, so that rules choose the kernels again, and returns the name of the
// file that held them. Kernels that compute wrong results stay refused.
func (k *Kernels) ResetTuning() (file string, err error) {
	if k.file == "" {
		return "", errors.New("pumice: without a CacheDir there are no measurements to forget")
	}
	k.tuning.Timings = nil
	if len(k.tuning.Refused) > 0 {
		return k.file, k.tuning.Write(k.file)
	}
	if err := os.Remove(k.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return k.file, err
	}
	return k.file, nil
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

// checked reports whether the kernels for these types have been compared with the float64 reference.
func (k *Kernels) checked(types []dtype.DType, cache dtype.DType) bool {
	unchecked := func(t dtype.DType) bool { return !k.tuning.IsChecked(t) }
	return k.tuning.IsChecked(cache) && !slices.ContainsFunc(types, unchecked)
}

// check compares the kernels for these types with the float64 reference, unless that was done before.
func (k *Kernels) check(ctx context.Context, types []dtype.DType, cache dtype.DType) error {
	if k.checked(types, cache) {
		return nil
	}
	unchecked := slices.DeleteFunc(slices.Clone(types), k.tuning.IsChecked)
	start, before := time.Now(), len(k.tuning.Refused)
	if err := verify.Check(ctx, k.manager, k.tuning, unchecked, cache); err != nil {
		return fmt.Errorf("pumice: checking the kernels on %s: %w", k.info.Name, err)
	}
	k.log.Info().Dur("took", time.Since(start)).
		Msg("kernels checked, once for each device, driver and weight type")
	for _, r := range k.tuning.Refused[before:] {
		k.log.Warn().Str("kernel", r.Kernel).Str("case", r.Case).Float64("max_rel", r.MaxRel).
			Msg("kernel computes wrong results on this device and is not used")
	}
	k.save()
	return nil
}

// checkFor checks the kernels that a checkpoint needs. It skips CPU drivers, because the project's own tests run on
// them.
func (k *Kernels) checkFor(ctx context.Context, c *checkpoint.Checkpoint, s settings) error {
	if k.device.PhysicalDevice().Type == vk.CPU {
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
	return k.check(ctx, types, cache)
}

// save writes the tuning to its file. A failure is only logged, because the program can go on without the file.
func (k *Kernels) save() {
	if k.file == "" {
		return
	}
	if err := k.tuning.Write(k.file); err != nil {
		k.log.Warn().Err(err).Str("file", k.file).Msg("the results of checking the kernels could not be saved")
	}
}
