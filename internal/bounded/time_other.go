//go:build !linux

package bounded

import "time"

var start = time.Now()

// threadTime returns wall-clock time, since the time of one thread is not available here.
func threadTime() time.Duration { return time.Since(start) }
