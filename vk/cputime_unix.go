//go:build cgo && unix

package vk

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadCPU is the processor time of the calling thread, processCPU that of the process.
func threadCPU() time.Duration  { return cpuTime(unix.CLOCK_THREAD_CPUTIME_ID) }
func processCPU() time.Duration { return cpuTime(unix.CLOCK_PROCESS_CPUTIME_ID) }

func cpuTime(clock int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(clock, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
