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
// kernels.Set has them, bufferBarriers=1 for plans whose barriers name buffers, and walkers=N for plans whose chains of kernels
// are linked and walked by N workgroups. It is called before a device is opened.
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
		if name == "bufferBarriers" && len(values) == 1 {
			pipeline.BufferBarriers = values[0] != 0
			continue
		}
		if name == "walkers" && len(values) == 1 {
			pipeline.Walkers = values[0]
			continue
		}
		if err := kernels.Set(name, values...); err != nil {
			return err
		}
	}
	return nil
}
