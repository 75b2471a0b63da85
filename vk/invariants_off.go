//go:build cgo && !invariants

package vk

// invariants is off: see invariants_on.go.
const invariants = false
