//go:build !linux

package checkpoint

// willNeed does nothing: pages are read on first access.
func willNeed([]byte, int64) error { return nil }
