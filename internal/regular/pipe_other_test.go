//go:build !unix

package regular

import "errors"

func makePipe(string) error { return errors.ErrUnsupported }
