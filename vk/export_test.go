package vk

// FailNextSubmit makes the next submission fail with r: a device loss can't be provoked on a CPU driver.
func (d *Device) FailNextSubmit(r Result) { d.shim.FailNextSubmit(int32(r)) }

// Separate makes uploads take the path of a device with a transfer queue. On CPU drivers, which have one queue, that
// queue plays both roles.
func (d *Device) Separate() { d.separate = true }

// Invariants reports whether the tests were built with -tags invariants.
const Invariants = invariants
