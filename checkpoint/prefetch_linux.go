package checkpoint

import (
	"os"
	"syscall"
)

// willNeed asks the system to read the pages of data, which starts at offset of a mapped file.
func willNeed(data []byte, offset int64) error {
	page := int64(os.Getpagesize())
	skip := (page - offset%page) % page // the advised range, like the mapping, must start on a page
	if skip >= int64(len(data)) {
		return nil
	}
	return syscall.Madvise(data[skip:], syscall.MADV_WILLNEED)
}
