//go:build cgo && !unix

package vk

import "time"

// The system is not asked for processor times here.
func threadCPU() time.Duration  { return 0 }
func processCPU() time.Duration { return 0 }
