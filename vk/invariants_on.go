//go:build invariants

package vk

// invariants turns on the checks that are too slow or too strict for a release: Device.Close lists what was not closed.
const invariants = true
