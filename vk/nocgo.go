//go:build !cgo

package vk

// Without cgo, which Go turns off when it compiles for another system, this is the one error: the other files are left out.
var _ = pumice_needs_cgo__set_CGO_ENABLED_to_1_and_CC_to_a_C_compiler_for_the_target
