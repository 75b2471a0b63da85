package vk_test

import (
	"errors"
	"testing"

	"pumice/internal/gputest"
	"pumice/vk"
)

// TestCompiledDescribesTheShader needs a driver that reports on its compiler's output. CPU drivers do not;
// tools/mesa.sh has some that do.
func TestCompiledDescribesTheShader(t *testing.T) {
	d := gputest.Open(t)
	p, err := d.NewPipeline(vk.PipelineConfig{Name: "increment", SPIRV: spirv(t, "increment"), Capture: true, Bindings: storage1})
	if !d.PhysicalDevice().Features.PipelineExecutableProperties {
		if !errors.Is(err, vk.ErrLimit) {
			t.Errorf("error %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Compiled()
	if err != nil {
		t.Fatal(err)
	}
	if limits := d.PhysicalDevice().Limits; c.SubgroupSize != 0 && (c.SubgroupSize < limits.MinSubgroupSize || c.SubgroupSize > limits.MaxSubgroupSize) {
		t.Errorf("a subgroup of %d; the device has %d to %d", c.SubgroupSize, limits.MinSubgroupSize, limits.MaxSubgroupSize)
	}
	if len(c.Statistics) == 0 || len(c.Texts) == 0 {
		t.Errorf("%d statistics, %d texts", len(c.Statistics), len(c.Texts))
	}
	for name, text := range c.Texts {
		t.Logf("%s: %d bytes", name, len(text))
	}
	t.Logf("%v", c.Statistics)
}
