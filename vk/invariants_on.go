//go:build cgo && invariants

package vk

// invariants turns on checks that are too slow or too strict for a release: Device.Close lists objects that were not
// closed.
const invariants = true
