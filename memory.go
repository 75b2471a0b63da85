package pumice

import (
	"context"
	"errors"

	"pumice/checkpoint"
	"pumice/model"
)

// A MemoryCheck is the device memory that a model would take, and whether it is there.
type MemoryCheck struct {
	Device string `json:"device"`
	model.MemoryPlan
	Fits  bool          `json:"fits"`
	Would model.Smaller `json:"would_fit,omitzero"` // what would, if it doesn't
}

// CheckMemory plans the memory that Open would take for an open checkpoint with these options. Nothing is loaded. A model
// that doesn't fit is no error.
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
	check.MemoryPlan, err = model.Estimate(ctx, k.manager, c, model.Options{Context: o.Context, DType: s.weights, KVType: s.cache, LoRA: s.lora, Logger: o.Logger})
	var fit *model.FitError
	if errors.As(err, &fit) {
		check.Would = fit.Fits
		return check, nil
	}
	check.Fits = err == nil
	return check, err
}
