//go:build lab

package lab

import (
	"fmt"
	"strconv"
	"strings"

	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/shaders"
)

// Apply takes kernels from the folder spv, unless that is "", and sets numbers: `matvecSubgroups=8 matrixTile=4,2,4,2`, as
// kernels.Set has them, or one of plans. It is called before a device is opened.
func Apply(spv, numbers string) error {
	shaders.Replace(spv)
	for _, setting := range strings.Fields(numbers) {
		name, text, _ := strings.Cut(setting, "=")
		var values []int
		for _, s := range strings.Split(text, ",") {
			v, err := strconv.Atoi(s)
			if err != nil {
				return fmt.Errorf("lab: %s: want NAME=N or NAME=N,N,...", setting)
			}
			values = append(values, v)
		}
		if len(values) == 1 && setPlans(name, values[0]) {
			continue
		}
		if err := kernels.Set(name, values...); err != nil {
			return err
		}
	}
	return nil
}

// setPlans sets a number of plans: bufferBarriers=1 for barriers that name buffers, walkers=N for chains of kernels that are linked
// and walked by N workgroups, prefetch=N and split=N for N bytes of pipeline.Overlap. It reports whether there is such a number.
func setPlans(name string, n int) bool {
	switch name {
	case "bufferBarriers":
		pipeline.BufferBarriers = n != 0
	case "walkers":
		pipeline.Walkers = n
	case "prefetch":
		pipeline.PrefetchBytes = int64(n)
	case "split":
		pipeline.SplitBytes = int64(n)
	default:
		return false
	}
	return true
}
