package pumice

import (
	"context"
	"errors"

	"pumice/model"
)

// A MemoryCheck says how much device memory a model would take, and whether the device has it.
type MemoryCheck struct {
	Device string `json:"device"`
	MemoryPlan
	Fits  bool    `json:"fits"`
	Would Smaller `json:"would_fit,omitzero"` // changes that would make the model fit; zero if it does
}

// CheckMemory computes the memory that Load would take with these options, on one device. It loads nothing. That the model
// doesn't fit is no error.
func (m *Model) CheckMemory(ctx context.Context, o Options) (check MemoryCheck, err error) {
	s, err := o.settings()
	if err != nil {
		return check, err
	}
	if err := m.use(); err != nil {
		return check, err
	}
	defer m.free()
	var d *Device
	if len(o.On) > 0 {
		d = o.On[0]
	} else {
		if d, err = openDevice(o, s.path); err != nil {
			return check, err
		}
		d.implicit = true
	}
	if err := d.use(); err != nil {
		return check, err
	}
	defer func() { err = errors.Join(err, d.free()) }()
	manager, err := d.newManager(o, s.path)
	if err != nil {
		return check, err
	}
	defer func() { err = errors.Join(err, manager.Close()) }()
	check.Device = d.info.Name
	check.MemoryPlan, err = model.Estimate(ctx, manager, m.checkpoint, o.model(s))
	var fit *FitError
	if errors.As(err, &fit) {
		check.Would = fit.Fits
		return check, nil
	}
	check.Fits = err == nil
	return check, err
}
