package pumice

import (
	"context"
	"errors"

	"pumice/checkpoint"
	"pumice/model"
)

// A MemoryCheck says how much device memory a model would take, and whether the device has it.
type MemoryCheck struct {
	Device string `json:"device"`
	model.MemoryPlan
	Fits  bool          `json:"fits"`
	Would model.Smaller `json:"would_fit,omitzero"` // changes that would make the model fit; zero if it does
}

// CheckMemory computes the memory that Open would take for a checkpoint with these options, on one device. It loads
// nothing. That a model doesn't fit is no error.
func CheckMemory(ctx context.Context, c *checkpoint.Checkpoint, o Options) (check MemoryCheck, err error) {
	s, err := o.settings()
	if err != nil {
		return check, err
	}
	k, err := openKernels(o, s)
	if err != nil {
		return check, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	check.Device = k.info.Name
	check.MemoryPlan, err = model.Estimate(ctx, k.manager, c, o.model(s))
	var fit *model.FitError
	if errors.As(err, &fit) {
		check.Would = fit.Fits
		return check, nil
	}
	check.Fits = err == nil
	return check, err
}
