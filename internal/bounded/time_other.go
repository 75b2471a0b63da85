//go:build !linux

package bounded

import "time"

var start = time.Now()

// threadTime is wall-clock time where that of one thread is not to be had.
func threadTime() time.Duration { return time.Since(start) }
