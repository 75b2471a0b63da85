//go:build cgo && unix

package vk

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user id that a file belongs to.
func ownerOf(info fs.FileInfo) (id int, known bool) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), true
	}
	return 0, false
}
