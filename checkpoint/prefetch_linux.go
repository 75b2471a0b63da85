package checkpoint

import (
	"os"
	"syscall"
)

// willNeed asks for the pages of data, which starts at offset of a mapped file.
func willNeed(data []byte, offset int64) error {
	page := int64(os.Getpagesize())
	skip := (page - offset%page) % page // a mapping starts on a page, and so must the advice
	if skip >= int64(len(data)) {
		return nil
	}
	return syscall.Madvise(data[skip:], syscall.MADV_WILLNEED)
}
