package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile is an empty file in memory, which has a name only for this process.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("pumice", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd)), nil
}
