package pumice

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"pumice/model"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Device is a Vulkan device that is open, with its compiled pipelines and what is known of its kernels. Several Engines can
// be on it (Options.On): their steps take turns, and the memory plan of each counts what the others have taken. It is safe
// for concurrent use.
type Device struct {
	instance *vk.Instance
	device   *vk.Device
	manager  *pipeline.Manager // of what is checked and measured; Engines have their own
	file     string            // path of the file that keeps the tuning; "" if none does
	info     DeviceInfo
	log      zerolog.Logger
	turn     turn

	tuningMu sync.Mutex
	tuning   *pipeline.Tuning

	mu       sync.Mutex
	users    int  // Engines, and calls under way; -1: a call that has the device to itself
	implicit bool // Open has opened it, and it is closed with its last Engine
	closed   bool
	closeErr error
}

var (
	// ErrDeviceInUse is the error of closing, checking or tuning a Device that Engines are on, and of using one for something
	// else while it is checked or tuned.
	ErrDeviceInUse = errors.New("pumice: the device is in use")
	// ErrDeviceClosed is the error of using a closed Device.
	ErrDeviceClosed = errors.New("pumice: the device is closed")
)

// OpenDevice opens the device that Options.Device selects, without a model. Of the other options it uses KernelPath, for
// Info only, CacheDir, Validation, Surfaces, HangTimeout and Logger. The caller closes the Device after the Engines on it.
func OpenDevice(o Options) (*Device, error) {
	s, err := o.settings()
	if err != nil {
		return nil, err
	}
	if len(o.Devices) > 0 {
		return nil, &OptionError{"Devices", strings.Join(o.Devices, ","), "none: OpenDevice opens one, Device"}
	}
	if len(o.On) > 0 {
		return nil, &OptionError{"On", fmt.Sprintf("%d devices", len(o.On)), "none: OpenDevice opens one"}
	}
	return openDevice(o, s.path)
}

func openDevice(o Options, path kernels.Path) (_ *Device, err error) {
	d := &Device{log: o.Logger, turn: turn{order: devicesOpened.Add(1)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.instance, err = vk.NewInstance(vk.InstanceOptions{Validation: o.Validation, Surfaces: o.Surfaces, Logger: o.Logger}); err != nil {
		return nil, fmt.Errorf("pumice: %w", err)
	}
	if d.device, err = selectDevice(d.instance, o); err != nil {
		return nil, fmt.Errorf("pumice: %w", err)
	}
	pd := d.device.PhysicalDevice()
	d.info = describe(pd)
	if o.CacheDir == "" {
		d.tuning, err = pipeline.NewTuning(pd)
	} else {
		d.file = pipeline.TuningFile(o.CacheDir, pd)
		d.tuning, err = pipeline.ReadTuning(d.file, pd)
		if d.tuning != nil && err != nil {
			d.log.Warn().Err(err).Msg("the tuning record can't be read and is not used")
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	d.manager, err = pipeline.NewManager(d.device, pipeline.Options{Logger: o.Logger, Path: path})
	if err != nil {
		return nil, pathError(err)
	}
	d.info.KernelPaths = pathNames(d.manager.Chosen())
	if total, free, err := model.DeviceMemory(d.device); err == nil {
		d.info.MemoryTotal, d.info.MemoryFree = total, free
	}
	return d, nil
}

// pathError is an error of making a Manager, the caller's where the device can't run the kernels of a path.
func pathError(err error) error {
	var wrong *pipeline.PathError
	if errors.As(err, &wrong) {
		return &OptionError{"KernelPath", string(wrong.Path), fmt.Sprintf("one of %s on %s", strings.Join(pathNames(wrong.Paths), ", "), wrong.Device)}
	}
	return err
}

// selectDevice opens the device that the options select. It logs a warning if that is a CPU driver by default.
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

// Info describes the device as it was when it was opened: KernelPaths are those of Options.KernelPath, and MemoryFree does
// not count what Engines have taken since.
func (d *Device) Info() DeviceInfo { return d.info }

// Vulkan is the device for a program that draws with it, as package vk/present does. It is closed with d.
func (d *Device) Vulkan() *VulkanDevice { return d.device }

// CopyBandwidth measures how fast the device copies its own memory, in bytes a second; every byte counts twice, as read
// and as written. It returns 0 if the device has no free memory for the copy. Engines on the device wait meanwhile.
func (d *Device) CopyBandwidth(ctx context.Context) (float64, error) {
	return d.bandwidth(ctx, (*pipeline.Manager).CopyBandwidth)
}

// ReadBandwidth measures how fast kernels read the device's memory and do nothing else, in bytes a second. It returns 0 if the
// device has no free memory for it. Engines on the device wait meanwhile.
func (d *Device) ReadBandwidth(ctx context.Context) (float64, error) {
	return d.bandwidth(ctx, (*pipeline.Manager).ReadBandwidth)
}

func (d *Device) bandwidth(ctx context.Context, measure func(*pipeline.Manager, context.Context) (float64, error)) (float64, error) {
	if err := d.use(); err != nil {
		return 0, err
	}
	defer d.free()
	if wait := d.turn.take(); wait != nil {
		<-wait
	}
	defer d.turn.give()
	return measure(d.manager, ctx)
}

// Close frees the device. With Engines on it the error is ErrDeviceInUse, and nothing is closed. Closing twice is fine.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.users > 0:
		return fmt.Errorf("%w: close the Engines on %s before it", ErrDeviceInUse, d.info.Name)
	case d.users < 0:
		return fmt.Errorf("%w: the kernels of %s are being checked or measured", ErrDeviceInUse, d.info.Name)
	}
	return d.close()
}

// close frees everything. The caller has the lock.
func (d *Device) close() error {
	if d.closed {
		return d.closeErr
	}
	d.closed = true
	var errs []error
	if d.manager != nil {
		errs = append(errs, d.manager.Close())
	}
	if d.device != nil {
		errs = append(errs, d.device.Close())
	}
	if d.instance != nil {
		errs = append(errs, d.instance.Close())
	}
	d.closeErr = errors.Join(errs...)
	return d.closeErr
}

// use keeps the device open until free.
func (d *Device) use() error { return d.begin(1) }

// begin makes n users of none, or one more user; -1 has the device to itself.
func (d *Device) begin(n int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return ErrDeviceClosed
	case d.users < 0:
		return fmt.Errorf("%w: its kernels are being checked or measured", ErrDeviceInUse)
	case d.users > 0 && n < 0:
		return fmt.Errorf("%w: its kernels can't be checked or measured beside Engines", ErrDeviceInUse)
	}
	d.users += n
	return nil
}

// alone keeps the device open, and everybody else out, until end.
func (d *Device) alone() (end func(), err error) {
	if err := d.begin(-1); err != nil {
		return nil, err
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.users = 0
	}, nil
}

// free ends a use. The last one closes a device that Open has opened.
func (d *Device) free() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users--
	if d.users == 0 && d.implicit {
		return d.close()
	}
	return nil
}
