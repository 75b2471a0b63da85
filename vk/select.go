//go:build cgo

package vk

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// SelectError says why a selector picks no device. It matches ErrNoDevice.
type SelectError struct {
	Selector string
	Reason   string
	Devices  []*PhysicalDevice
}

func (e *SelectError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "vk: %s", e.Reason)
	if len(e.Devices) > 0 {
		b.WriteString("; devices:")
	}
	for i, d := range e.Devices {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %d = %s (%s, %s)", d.Index, d.Name, d.Type, hex.EncodeToString(d.UUID[:]))
	}
	return b.String()
}

// Is makes a SelectError match ErrNoDevice.
func (e *SelectError) Is(target error) bool { return target == ErrNoDevice }

// Select picks a device. An empty selector picks the first device of the best type: discrete, integrated, virtual,
// other, and a CPU driver only if nothing else exists (the caller should then warn). Otherwise the selector is an
// index, a UUID (with or without dashes), a device's full name, or text that the name of exactly one device contains,
// in upper or lower case.
func Select(devices []*PhysicalDevice, selector string) (*PhysicalDevice, error) {
	fail := func(format string, args ...any) (*PhysicalDevice, error) {
		return nil, &SelectError{selector, fmt.Sprintf(format, args...), devices}
	}
	if len(devices) == 0 {
		return fail("no Vulkan device")
	}
	selector = strings.TrimSpace(selector)
	if selector == "" {
		best := devices[0]
		for _, d := range devices[1:] {
			if typeRank(d.Type) < typeRank(best.Type) {
				best = d
			}
		}
		return best, nil
	}
	if i, err := strconv.Atoi(selector); err == nil {
		for _, d := range devices {
			if d.Index == i {
				return d, nil
			}
		}
	}
	if id, err := hex.DecodeString(strings.ReplaceAll(selector, "-", "")); err == nil && len(id) == 16 {
		for _, d := range devices {
			if string(d.UUID[:]) == string(id) {
				return d, nil
			}
		}
	}
	var exact, partial []*PhysicalDevice
	for _, d := range devices {
		if strings.EqualFold(d.Name, selector) {
			exact = append(exact, d)
		}
		if strings.Contains(strings.ToLower(d.Name), strings.ToLower(selector)) {
			partial = append(partial, d)
		}
	}
	if len(exact) == 1 {
		return exact[0], nil
	}
	switch len(partial) {
	case 0:
		return fail("no device matches %q", selector)
	case 1:
		return partial[0], nil
	}
	return fail("%q matches %d devices; give an index or UUID", selector, len(partial))
}

// typeRank returns the rank of a device type; lower is preferred.
func typeRank(t DeviceType) int {
	switch t {
	case Discrete:
		return 0
	case Integrated:
		return 1
	case Virtual:
		return 2
	case CPU:
		return 4
	}
	return 3
}
