//go:build !wrongkernel

package shaders

// altered is the code of a kernel, as it is.
func altered(_ string, spirv []byte) []byte { return spirv }
