//go:build cgo

package vk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	vulkan "github.com/vulkan-go/vulkan"

	"pumice/vk/internal/shim"
)

// BindingKind is the kind of a shader's binding.
type BindingKind int

// Kinds of bindings.
const (
	StorageBuffer      BindingKind = iota // buffer block
	UniformTexelBuffer                    // samplerBuffer, usamplerBuffer: read only
	DeviceAddress                         // not bound: the address follows the push constants. Needs BufferDeviceAddress
)

// PipelineConfig describes a compute pipeline.
type PipelineConfig struct {
	Name          string        // for errors
	SPIRV         []byte        // with entry point "main"; not kept after NewPipeline
	Bindings      []BindingKind // of set 0, by binding number; those of kind DeviceAddress come last
	PushBytes     int           // size of the push constants without addresses, a multiple of 4
	Spec          []uint32      // specialization constants; constant_id is the index
	DispatchBase  bool          // allow Recorder.DispatchBase
	Capture       bool          // keep the compiler's report for Compiled; needs PipelineExecutableProperties
	FullSubgroups bool          // no subgroup is partly filled; needs ComputeFullSubgroups and local_size_x a multiple of the subgroup size
	// SubgroupSize is 0 for the driver's choice, else a power of two from MinSubgroupSize to MaxSubgroupSize. Without
	// SubgroupSizeControl it is the device's default.
	SubgroupSize int
}

// Pipeline is a compute shader ready to dispatch.
type Pipeline struct {
	d              *Device
	name, made     string
	bindings       []BindingKind
	pushBytes      int
	base           bool
	storage, texel uint32 // descriptors of each kind
	addresses      int    // bindings of kind DeviceAddress
	setLayout      uint64
	layout         vulkan.PipelineLayout
	handle         vulkan.Pipeline

	compileNanoseconds atomic.Int64
	finished           atomic.Bool // Finish has nothing left to do

	mu     sync.Mutex
	closed bool
}

// NewPipeline compiles a pipeline. It is safe for concurrent use; compile several pipelines in as many goroutines. The
// caller closes it.
func (d *Device) NewPipeline(c PipelineConfig) (*Pipeline, error) {
	if err := d.usable("vkCreateComputePipelines"); err != nil {
		return nil, err
	}
	p := &Pipeline{d: d, name: c.Name, made: madeAt(), pushBytes: c.PushBytes, base: c.DispatchBase, bindings: append([]BindingKind(nil), c.Bindings...)}
	raw, err := p.configure(c)
	if err != nil {
		return nil, fmt.Errorf("vk: pipeline %s: %w", c.Name, err)
	}
	var made shim.Pipeline
	var call string
	var r int32
	p.create(func() { made, call, r = d.shim.NewPipeline(d.cache.handle, c.SPIRV, raw) })
	if r != 0 {
		return nil, d.check(r, call, "%s", c.Name)
	}
	p.setLayout, p.layout, p.handle = made.SetLayout, as[vulkan.PipelineLayout](made.Layout), as[vulkan.Pipeline](made.Pipeline)
	if err := d.adopt(p); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// allPushBytes returns the size of the push constants including the addresses, which are aligned to eight bytes.
func (p *Pipeline) allPushBytes() int {
	if p.addresses == 0 {
		return p.pushBytes
	}
	return (p.pushBytes+7)&^7 + 8*p.addresses
}

// configure checks c against the device and converts it for the shim.
func (p *Pipeline) configure(c PipelineConfig) (*shim.PipelineConfig, error) {
	l, f := p.d.pd.Limits, p.d.pd.Features
	for _, k := range c.Bindings {
		if k == DeviceAddress {
			p.addresses++
		}
	}
	const spirvMagic = 0x07230203
	switch {
	case len(c.SPIRV) < 20 || len(c.SPIRV)%4 != 0 || binary.LittleEndian.Uint32(c.SPIRV) != spirvMagic:
		return nil, errors.New("not SPIR-V")
	case len(c.Bindings) > shim.MaxBindings:
		return nil, fmt.Errorf("%d bindings, %d allowed: %w", len(c.Bindings), shim.MaxBindings, ErrLimit)
	case len(c.Spec) > shim.MaxSpec:
		return nil, fmt.Errorf("%d specialization constants, %d allowed: %w", len(c.Spec), shim.MaxSpec, ErrLimit)
	case c.PushBytes < 0 || c.PushBytes%4 != 0 || p.allPushBytes() > l.MaxPushConstantsSize:
		return nil, fmt.Errorf("%d bytes of push constants and %d addresses; the device allows %d bytes: %w",
			c.PushBytes, p.addresses, l.MaxPushConstantsSize, ErrLimit)
	case p.addresses > 0 && !f.BufferDeviceAddress:
		return nil, fmt.Errorf("device addresses: %w", ErrLimit)
	case c.Capture && !f.PipelineExecutableProperties:
		return nil, fmt.Errorf("capture of the compiler's report: %w", ErrLimit)
	case c.FullSubgroups && !f.ComputeFullSubgroups:
		return nil, fmt.Errorf("full subgroups: %w", ErrLimit)
	}
	raw := &shim.PipelineConfig{NumBindings: uint32(len(c.Bindings) - p.addresses), PushBytes: uint32(p.allPushBytes()), NumSpec: uint32(len(c.Spec))}
	copy(raw.Spec[:], c.Spec)
	if c.DispatchBase {
		raw.DispatchBase = 1
	}
	if c.Capture {
		raw.Capture = 1
	}
	if c.FullSubgroups {
		raw.FullSubgroups = 1
	}
	for i, k := range c.Bindings {
		switch {
		case k == DeviceAddress:
		case i >= int(raw.NumBindings):
			return nil, fmt.Errorf("binding %d comes after a device address", i)
		case k == UniformTexelBuffer:
			raw.Types[i] = uint32(vulkan.DescriptorTypeUniformTexelBuffer)
			p.texel++
		default:
			raw.Types[i] = uint32(vulkan.DescriptorTypeStorageBuffer)
			p.storage++
		}
	}
	switch n := c.SubgroupSize; {
	case n == 0, n == l.SubgroupSize && (l.MinSubgroupSize == l.MaxSubgroupSize || !f.SubgroupSizeControl):
	case !f.SubgroupSizeControl || n < l.MinSubgroupSize || n > l.MaxSubgroupSize || n&(n-1) != 0:
		return nil, fmt.Errorf("subgroup size %d; the device has %d to %d: %w", n, l.MinSubgroupSize,
			l.MaxSubgroupSize, ErrLimit)
	default:
		raw.SubgroupSize = uint32(n)
	}
	return raw, nil
}

// Name returns the name given in the PipelineConfig.
func (p *Pipeline) Name() string { return p.name }

// Compiled is a driver compiler's report on a pipeline. The driver chooses the names.
type Compiled struct {
	SubgroupSize int // 0: the driver doesn't say
	Statistics   map[string]float64
	Texts        map[string]string // the compiler's representations of the shader, such as its disassembly
}

// Compiled returns the driver compiler's report on the pipeline, which must have been made with Capture.
func (p *Pipeline) Compiled() (*Compiled, error) {
	if err := p.d.usable("vkGetPipelineExecutableStatisticsKHR"); err != nil {
		return nil, err
	}
	lanes, r := p.d.shim.SubgroupSize(rawOf(p.handle))
	if r != 0 {
		return nil, p.d.check(r, "vkGetPipelineExecutablePropertiesKHR", "%s", p.name)
	}
	c := &Compiled{int(lanes), map[string]float64{}, map[string]string{}}
	list, r := p.d.shim.Statistics(rawOf(p.handle))
	if r != 0 {
		return nil, p.d.check(r, "vkGetPipelineExecutableStatisticsKHR", "%s", p.name)
	}
	for _, s := range list {
		c.Statistics[cString(s.Name[:])] = s.Value
	}
	texts, bytes, r := p.d.shim.Texts(rawOf(p.handle))
	if r != 0 {
		return nil, p.d.check(r, "vkGetPipelineExecutableInternalRepresentationsKHR", "%s", p.name)
	}
	for _, t := range texts {
		c.Texts[cString(t.Name[:])] += cString(bytes[:t.Size])
		bytes = bytes[t.Size:]
	}
	return c, nil
}

// Close waits for submissions that may use the pipeline and destroys it.
func (p *Pipeline) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.d.disown(p)
	if !p.d.settle() {
		return nil
	}
	vulkan.DestroyPipeline(p.d.handle, p.handle, nil)
	vulkan.DestroyPipelineLayout(p.d.handle, p.layout, nil)
	vulkan.DestroyDescriptorSetLayout(p.d.handle, as[vulkan.DescriptorSetLayout](p.setLayout), nil)
	return nil
}

func (p *Pipeline) describe() (int, string) {
	return rankPipeline, fmt.Sprintf("pipeline %s%s", p.name, p.made)
}

func (p *Pipeline) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
