package pumice

import (
	"slices"

	"pumice/checkpoint"
	"pumice/model"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/pipeline/verify"
	"pumice/vk"
)

// These types and errors are made in lower packages. Their names here are the API's: callers need not import those packages.

// A Config has the hyper-parameters of a model, by the names that Hugging Face's config.json gives them.
type Config = model.Config

// A MemoryPlan has the device memory that a model takes, in bytes.
type MemoryPlan = model.MemoryPlan

// A TypeShare says how many bytes of matrices the device keeps in one type.
type TypeShare = model.TypeShare

// Smaller lists changes of Options that would make a model fit. Each one is enough by itself. If a field is zero, no value of
// it is known to be enough.
type Smaller = model.Smaller

// A Pooling says which tokens' hidden rows (the residual stream after the final norm) a text's embedding is made of.
type Pooling = model.Pooling

const (
	PoolingLast = model.PoolingLast // that of the last token
	PoolingMean = model.PoolingMean // the mean of all tokens'
	PoolingCLS  = model.PoolingCLS  // that of the first token
)

// Counters say what evaluations did on the device and on the bus. They are counted while commands are recorded and submitted,
// and not estimated.
type Counters = pipeline.Counters

// A Timing is the device time of one kernel at one size over an evaluation.
type Timing = pipeline.Timing

// Ceilings bound what kernels can do on a device.
type Ceilings = pipeline.Ceilings

// An Arithmetic is what a kernel multiplies and adds with.
type Arithmetic = kernels.Arithmetic

// Arithmetics are all that kernels have.
var Arithmetics = slices.Clone(kernels.Arithmetics)

// Gaps is the Kernel of the Timing that has the rest of an evaluation's time.
const Gaps = pipeline.Gaps

// A VerifyResult is one kernel compared with the float64 reference in one case.
type VerifyResult = verify.Result

// A Compile is what compiling a kernel took.
type Compile = pipeline.Compile

// A Product is what Tune measures: weights of one type times so many tokens.
type Product = pipeline.Product

// A Measurement is the time of one product by one kernel path.
type Measurement = pipeline.Measurement

// A Refusal is a kernel that computes wrong results on a device and is not used there.
type Refusal = pipeline.Refusal

// Errors for errors.Is.
var (
	// ErrNoDevice says that there is no Vulkan loader, no driver, or no device that fits the selection.
	ErrNoDevice = vk.ErrNoDevice
	// ErrNoValidation says that validation was requested but its layer is not installed.
	ErrNoValidation = vk.ErrNoValidation
	// ErrDeviceLost says that the device stopped answering. Engines on it, and the Device, can only be closed.
	ErrDeviceLost = vk.ErrDeviceLost
	// ErrHung says that the device does not finish submitted work. Engines on it, and the Device, can only be closed.
	ErrHung = vk.ErrHung
	// ErrOutOfDeviceMemory says that device memory ran out although the model was planned to fit.
	ErrOutOfDeviceMemory = vk.ErrOutOfDeviceMemory
)

// A FormatError says that a file violates its format: it is incomplete, corrupt or malicious.
type FormatError = checkpoint.FormatError

// An UnsupportedError says that a file has a feature that is not supported, although the file may be valid.
type UnsupportedError = checkpoint.UnsupportedError

// A FitError says that a device has too little memory for a model.
type FitError = model.FitError

// A CacheError says that Options.KVMemory is too little for one session with the whole context.
type CacheError = model.CacheError

// A TokenError reports a token id that the model does not have.
type TokenError = model.TokenError

// A NotFiniteError reports a logit that is NaN or infinite: the weights have such a value, or a result exceeds float32.
type NotFiniteError = model.NotFiniteError

// KernelStats is what a driver's compiler tells of a kernel.
type KernelStats = pipeline.KernelStats

// ErrNoStats is the error of Model.Kernels on a device whose driver tells nothing of the kernels that it compiles.
var ErrNoStats = pipeline.ErrNoStats

// A VulkanDevice is an open device as the packages below see it.
type VulkanDevice = vk.Device

// A VulkanBuffer is a buffer of a VulkanDevice.
type VulkanBuffer = vk.Buffer
