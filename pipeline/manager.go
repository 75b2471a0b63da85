// Package pipeline turns kernels into typed Go operations and operations into plans.
//
// A Manager owns the kernels of one device and chooses between their variants. Weights
// become a Matrix or a Vector in device memory. A Builder strings operations together
// over Tensors, lays their memory out by liveness and records them once; the Plan that
// comes out is replayed with a new Step each time. The package knows nothing of model
// families, files or text.
package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rs/zerolog"

	"pumice/internal/dtype"
	"pumice/shaders"
	"pumice/vk"
)

// DType is the stored type of a weight matrix or a KV cache.
type DType = dtype.DType

// Options configures a Manager. The zero value is the default.
type Options struct {
	Logger  zerolog.Logger
	Path    Path    // force one kernel path where it exists; "" lets the choice table decide
	Profile bool    // record a timestamp around every dispatch
	Tuning  *Tuning // what is known of the device; nil = nothing

	PartBytes int64 // work of a part of a plan, the least that is submitted alone; 0 = what suits any device
}

// A Manager owns the compute pipelines of one device and the memory that its plans
// share. Its methods may be called from several goroutines, but plans of one Manager
// run one at a time, since they share the arena.
type Manager struct {
	dev      *vk.Device
	opts     Options
	variants map[string]shaders.Variant
	lane8    bool            // subgroups of exactly eight, with shuffle
	matrix   *vk.MatrixShape // of kernels with cooperative matrices; nil: none

	maxBinding int64 // when not 0, a smaller limit on what one binding holds, for Verify

	mu        sync.Mutex
	pipelines map[string]*pipelineEntry
	arena     *vk.Buffer
	scratch   []*vk.Buffer // buffers that belong to the manager, freed with it
}

type pipelineEntry struct {
	once sync.Once
	p    *vk.Pipeline
	err  error
}

// NewManager prepares the kernels of a device. Pipelines are compiled when a plan first
// needs them. The caller closes the Manager before the device.
func NewManager(dev *vk.Device, o Options) (*Manager, error) {
	list, err := shaders.Variants()
	if err != nil {
		return nil, err
	}
	m := &Manager{dev: dev, opts: o, variants: map[string]shaders.Variant{}, pipelines: map[string]*pipelineEntry{}}
	for _, v := range list {
		m.variants[v.Name] = v
	}
	m.lane8 = hasLane8(dev.PhysicalDevice())
	m.matrix = matrixShape(dev.PhysicalDevice())
	if o.Path != "" && !slices.Contains(Paths, o.Path) {
		return nil, fmt.Errorf("pipeline: unknown kernel path %q; there are %q", o.Path, Paths)
	}
	if o.Path != "" && !slices.Contains(m.Paths(), o.Path) {
		return nil, fmt.Errorf("pipeline: %s lacks what kernel path %q needs; it has %q", dev.PhysicalDevice().Name, o.Path, m.Paths())
	}
	return m, nil
}

// Device is the device the Manager was made for.
func (m *Manager) Device() *vk.Device { return m.dev }

// partBytes is how much work a part of a plan has.
func (m *Manager) partBytes() int64 {
	return cmp.Or(m.opts.PartBytes, partBytes(m.dev.PhysicalDevice().Type))
}

// Paths lists the kernel paths that the device can run, base first.
func (m *Manager) Paths() []Path {
	var list []Path
	for _, path := range Paths {
		for name, v := range m.variants {
			if pathOf(name) == path && m.runnable(v) {
				list = append(list, path)
				break
			}
		}
	}
	return list
}

// Path is the kernel path that products of one token prefer, which decides how matrices are
// laid out.
func (m *Manager) Path() Path {
	for _, path := range m.paths("matvec", 1) {
		if path.barrierFree() && slices.Contains(m.Paths(), path) {
			return path
		}
	}
	return PathBase
}

// Close frees pipelines, arena and owned buffers. Plans, matrices and caches made from the
// Manager are closed first.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, e := range m.pipelines {
		if e.p != nil {
			errs = append(errs, e.p.Close())
		}
	}
	m.pipelines = map[string]*pipelineEntry{}
	if m.arena != nil {
		errs = append(errs, m.arena.Close())
		m.arena = nil
	}
	for _, b := range m.scratch {
		errs = append(errs, b.Close())
	}
	m.scratch = nil
	return errors.Join(errs...)
}

// ReserveArena sets aside the device memory for activations that plans share. It is called
// once, before the first plan is built, with the largest Builder.ArenaBytes.
func (m *Manager) ReserveArena(bytes int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.arena != nil {
		return fmt.Errorf("pipeline: the arena of %d bytes is already reserved", m.arena.Size())
	}
	b, err := m.dev.NewBuffer(max(bytes, arenaAlign), vk.DeviceLocal)
	if err != nil {
		return fmt.Errorf("pipeline: activation arena of %d bytes: %w", bytes, err)
	}
	m.arena = b
	return nil
}

// runnable says whether this device has what a variant needs.
func (m *Manager) runnable(v shaders.Variant) bool {
	for _, need := range v.Needs {
		has := false
		switch need {
		case "lane8":
			has = m.lane8
		case "subgroup":
			has = hasSubgroups(m.dev.PhysicalDevice())
		case "shuffle":
			has = m.dev.PhysicalDevice().Features.SubgroupShuffle
		case "full":
			has = hasSubgroupLanes(m.dev.PhysicalDevice()) && m.dev.PhysicalDevice().Features.ComputeFullSubgroups
		case "address":
			has = hasAddresses(m.dev.PhysicalDevice())
		case "fp16":
			has = m.dev.PhysicalDevice().Features.ShaderFloat16
		case "dot8":
			has = m.dev.PhysicalDevice().Features.IntegerDotProduct
		case "coopmat":
			has = m.matrix != nil
		}
		if !has {
			return false
		}
	}
	return true
}

// reads says whether kernels of a path read a type.
func (m *Manager) reads(path Path, t DType) bool {
	_, ok := m.variants[path.variant("matvec_"+lower(t))]
	return ok
}

// Variants lists the names of the kernels this device can run, sorted.
func (m *Manager) Variants() []string {
	var names []string
	for name, v := range m.variants {
		if m.runnable(v) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// config is what the pipeline of a node is made from.
func (m *Manager) config(n *node, v shaders.Variant) vk.PipelineConfig {
	cfg := vk.PipelineConfig{Name: n.key(), SPIRV: v.SPIRV, PushBytes: len(n.push), Spec: n.spec, DispatchBase: n.pieces > 1}
	for _, b := range n.binds {
		kind := vk.UniformTexelBuffer
		switch b.texel {
		case storage:
			kind = vk.StorageBuffer
		case address:
			kind = vk.DeviceAddress
		}
		cfg.Bindings = append(cfg.Bindings, kind)
	}
	pd := m.dev.PhysicalDevice()
	switch {
	case slices.Contains(v.Needs, "lane8"):
		cfg.SubgroupSize = 8
	case slices.Contains(v.Needs, "address"):
		cfg.SubgroupSize = pd.Limits.SubgroupSize // the lanes that matrices are laid out for
	case slices.Contains(v.Needs, "coopmat"):
		cfg.SubgroupSize, cfg.FullSubgroups = matrixSubgroup(pd), pd.Features.ComputeFullSubgroups
	case slices.Contains(v.Needs, "full"), slices.Contains(v.Needs, "subgroup") && pd.Features.SubgroupSizeControl:
		cfg.SubgroupSize, cfg.FullSubgroups = subgroupLanes(pd), pd.Features.ComputeFullSubgroups
	}
	return cfg
}

// kernel returns the compute pipeline of a variant with these specialization constants,
// compiling it at the first call. Concurrent calls for different kernels compile in parallel.
func (m *Manager) kernel(n *node) (*vk.Pipeline, error) {
	key := n.key()
	m.mu.Lock()
	e := m.pipelines[key]
	if e == nil {
		e = &pipelineEntry{}
		m.pipelines[key] = e
	}
	m.mu.Unlock()
	e.once.Do(func() {
		v, ok := m.variants[n.kernel]
		if !ok || !m.runnable(v) {
			e.err = fmt.Errorf("pipeline: no kernel %q for %s", n.kernel, m.dev.PhysicalDevice().Name)
			return
		}
		if m.opts.Tuning.refuses(n.kernel) {
			e.err = fmt.Errorf("pipeline: %s: kernel %s computes wrong results on this device, which another version of its driver (now %s) may mend",
				m.dev.PhysicalDevice().Name, n.kernel, m.opts.Tuning.Driver)
			return
		}
		e.p, e.err = m.dev.NewPipeline(m.config(n, v))
	})
	return e.p, e.err
}
