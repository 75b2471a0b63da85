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

// Kernels are the compute kernels of one device, with what is known of them there: which compute wrong results, and which
// are the fastest. The caller closes them.
type Kernels struct {
	instance *vk.Instance
	device   *vk.Device
	manager  *pipeline.Manager
	tuning   *pipeline.Tuning
	file     string // where tuning is kept; "" = nowhere
	info     Device
	log      zerolog.Logger
}

// OpenKernels opens the device that the options select, without a model.
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
	if k.manager, err = pipeline.NewManager(k.device, pipeline.Options{Logger: o.Logger, Path: s.path, Profile: o.Profile, Tuning: k.tuning}); err != nil {
		return nil, err
	}
	k.info.KernelPaths = pathNames(k.manager.Chosen())
	if memory, err := k.device.Memory(); err == nil {
		k.info.MemoryTotal, k.info.MemoryFree = memory.TotalBytes, memory.FreeBytes
	}
	return k, nil
}

// openDevice opens the device that the options select, and says so where that is a CPU driver nobody asked for.
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
	o.Logger.Debug().Int("index", pd.Index).Str("device", pd.Name).Str("uuid", hex.EncodeToString(pd.UUID[:])).Msg("device")
	t, err := pipeline.NewTuning(pd)
	if err != nil {
		return nil, err
	}
	return pd.Open(vk.DeviceOptions{CacheDir: o.CacheDir, CacheContent: t.Shaders, Logger: o.Logger, HangTimeout: o.HangTimeout})
}

// CopyBandwidth measures how many bytes a second the device's memory moves when it is copied, read and written bytes alike; 0 where there is no room to.
func (k *Kernels) CopyBandwidth(ctx context.Context) (float64, error) {
	return k.manager.CopyBandwidth(ctx)
}

// Device describes the device.
func (k *Kernels) Device() Device { return k.info }

// Close may be called twice.
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

// VerifyOptions say what Verify checks and what else it reports. The zero value checks everything.
type VerifyOptions struct {
	Types   []string // of weights, whose kernels are checked; nil is all
	Kernels []string // to check, as shaders/variants.txt names them; nil is all
	Quick   bool     // leaves cases out

	// Compiled, if not nil, is given each kernel that a path has compiled, those that took longest first. Kernel paths
	// then run one after another.
	Compiled func(kernels.Path, pipeline.Compile)
}

// Verify compares every kernel that the device can run with a float64 reference. Those that fail are not used from then on,
// by this program or a later one with the same CacheDir, until driver or kernels change.
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
	if !o.Quick && o.Kernels == nil { // else what failed in a case that was left out stays refused
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

// TuneOptions bounds Tune and shows how it gets on.
type TuneOptions struct {
	Types     []string      // of weights, the most important first; nil is all
	Budget    time.Duration // when it is spent, nothing new is started
	OnCheck   func()        // called before kernels are checked, which is done once and takes seconds; may be nil
	OnMeasure func(pipeline.Measurement)
}

// A TuneResult is what Tune and earlier runs have found out, and what they left out.
type TuneResult struct {
	*pipeline.Tuning
	File     string             `json:"file"`     // where it is kept; "" = nowhere
	Complete bool               `json:"complete"` // whether nothing is missing
	Missing  []pipeline.Product `json:"missing"`  // products that the rules decide, since not every path was measured
}

// Tune checks the kernels for weights of the types and measures those that there is a choice between, within the budget. It
// goes on where the last run with the same CacheDir ended, keeps the results there, those before an error too, and uses them
// from then on. A product of which not every kernel was measured is chosen as if none was.
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
	missing, err := verify.Tune(ctx, k.manager, k.tuning, verify.TuneOptions{Types: list, Budget: time.Until(deadline)}, o.OnMeasure)
	result := &TuneResult{Tuning: k.tuning, Complete: len(missing) == 0, Missing: missing}
	if k.file != "" {
		if failed := k.tuning.Write(k.file); failed != nil {
			return result, errors.Join(err, fmt.Errorf("pumice: the measurements are not kept: %w", failed))
		}
		result.File = k.file
	}
	return result, err
}

// ResetTuning forgets the measurements in CacheDir, so that the rules decide again, and returns the file that held them. Kernels
// that compute wrong results stay refused.
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

// parseTypes reads the names of weights' types, each once; none give nil.
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

// checked says whether the kernels for these types were compared with the oracle.
func (k *Kernels) checked(types []dtype.DType, cache dtype.DType) bool {
	return k.tuning.IsChecked(cache) && !slices.ContainsFunc(types, func(t dtype.DType) bool { return !k.tuning.IsChecked(t) })
}

// check compares the kernels for these types with the oracle unless that was done before.
func (k *Kernels) check(ctx context.Context, types []dtype.DType, cache dtype.DType) error {
	if k.checked(types, cache) {
		return nil
	}
	unchecked := slices.DeleteFunc(slices.Clone(types), k.tuning.IsChecked)
	start, before := time.Now(), len(k.tuning.Refused)
	if err := verify.Check(ctx, k.manager, k.tuning, unchecked, cache); err != nil {
		return fmt.Errorf("pumice: checking the kernels on %s: %w", k.info.Name, err)
	}
	k.log.Info().Dur("took", time.Since(start)).Msg("kernels checked, which is done once for a device, its driver and a type of weights")
	for _, r := range k.tuning.Refused[before:] {
		k.log.Warn().Str("kernel", r.Kernel).Str("case", r.Case).Float64("max_rel", r.MaxRel).Msg("kernel computes wrong results on this device and is not used")
	}
	k.save()
	return nil
}

// checkFor checks the kernels that a checkpoint needs. CPU drivers, which the project's own tests run on, are spared it.
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

// save keeps what is known. That it cannot is no reason to stop.
func (k *Kernels) save() {
	if k.file == "" {
		return
	}
	if err := k.tuning.Write(k.file); err != nil {
		k.log.Warn().Err(err).Str("file", k.file).Msg("what was found out about the kernels is not kept")
	}
}
