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
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/shaders/link"
	"pumice/vk"
)

// DType is the stored type of a weight matrix or a KV cache.
type DType = dtype.DType

// Options configures a Manager. The zero value is the default.
type Options struct {
	Logger  zerolog.Logger
	Path    kernels.Path // force one kernel path where it exists; "" lets the choice table decide
	Profile bool         // record a timestamp around every dispatch
	Tuning  *Tuning      // what is known of the device; nil means nothing
	Walkers int          // workgroups that walk the list of a linked kernel; 0 lets the device decide, less means none is linked
	Overlap Overlap      // weights that are read ahead of products; plans that do have no linked kernels

	SegmentBytes int64 // work of a segment of a plan, the least that is submitted alone; 0 means what suits any device
}

// A Manager owns the compute pipelines of one device and the memory that its plans
// share: an arena of activations and a Frame. Its methods may be called from several goroutines,
// but plans of one Manager run one at a time.
type Manager struct {
	dev      *vk.Device         // nil for a device that is only described
	pd       *vk.PhysicalDevice // of dev
	opts     Options
	variants map[string]shaders.Variant
	machine  *kernels.Machine

	maxBinding int64 // when not 0, a smaller limit on what one binding holds

	mu        sync.Mutex
	pipelines map[string]*pipelineEntry
	links     map[string]bool // whether kernels can be linked, by variant
	arena     *vk.Buffer      // nil before Reserve
	frame     Frame
	plans     atomic.Int64 // that are not closed
}

type pipelineEntry struct {
	kernels []string
	spec    []uint32

	once sync.Once
	p    *vk.Pipeline
	err  error
}

// A PathError says that a device has not what the kernels of a path need.
type PathError struct {
	Device string
	Path   kernels.Path
	Paths  []kernels.Path // that it can run
}

func (e *PathError) Error() string {
	return fmt.Sprintf("pipeline: %s lacks what kernel path %q needs; it has %s", e.Device, e.Path, strings.Trim(fmt.Sprint(e.Paths), "[]"))
}

// NewManager prepares the kernels of a device. Pipelines are compiled when a plan first
// needs them. The caller closes the Manager before the device.
func NewManager(dev *vk.Device, o Options) (*Manager, error) {
	m, err := Describe(dev.PhysicalDevice(), o)
	if err != nil {
		return nil, err
	}
	m.dev = dev
	return m, nil
}

// Describe is NewManager for a device that need not be there, with the features and limits of pd. Matrices and Builders can be
// made, and Builders be asked for what plans need, for their Kernels and Dispatches; there is no memory and no Plan.
func Describe(pd *vk.PhysicalDevice, o Options) (*Manager, error) {
	list, err := shaders.Variants()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		pd: pd, opts: o, machine: kernels.NewMachine(pd),
		variants: map[string]shaders.Variant{}, pipelines: map[string]*pipelineEntry{}, links: map[string]bool{},
	}
	for _, v := range list {
		if pd.Features.FloatDotProduct && slices.Contains(v.Needs, "fp16") {
			if v.SPIRV, err = shaders.FloatDots(v.SPIRV); err != nil {
				return nil, err
			}
		}
		m.variants[v.Name] = v
	}
	if o.Path != "" && !slices.Contains(kernels.Paths, o.Path) {
		return nil, fmt.Errorf("pipeline: unknown kernel path %q; there are %q", o.Path, kernels.Paths)
	}
	if o.Path != "" && !slices.Contains(m.Paths(), o.Path) {
		return nil, &PathError{pd.Name, o.Path, m.Paths()}
	}
	return m, nil
}

// Machine is what kernels need to know of the device.
func (m *Manager) Machine() *kernels.Machine { return m.machine }

// Options is what the Manager was made with.
func (m *Manager) Options() Options { return m.opts }

// HasKernel reports whether there is a kernel of the name, on this device or another one.
func (m *Manager) HasKernel(variant string) bool {
	_, ok := m.variants[variant]
	return ok
}

// Device is the device the Manager was made for, nil after Describe.
func (m *Manager) Device() *vk.Device { return m.dev }

// segmentBytes is how much work a segment of a plan has.
func (m *Manager) segmentBytes() int64 {
	return cmp.Or(m.opts.SegmentBytes, segmentBytes(m.pd.Type))
}

// Paths lists the kernel paths that the device can run, base first.
func (m *Manager) Paths() []kernels.Path {
	var list []kernels.Path
	for _, path := range kernels.Paths {
		for name, v := range m.variants {
			if kernels.PathOf(name) == path && m.machine.Has(v.Needs) {
				list = append(list, path)
				break
			}
		}
	}
	return list
}

// config describes the pipeline of a node.
func (m *Manager) config(n *node, v shaders.Variant) vk.PipelineConfig {
	cfg := vk.PipelineConfig{Name: n.key(), SPIRV: v.SPIRV, PushBytes: len(n.push), Spec: n.values, DispatchBase: n.dispatches > 1}
	for _, b := range n.binds {
		kind := vk.UniformTexelBuffer
		switch b.view {
		case kernels.Storage:
			kind = vk.StorageBuffer
		case kernels.Address:
			kind = vk.DeviceAddress
		}
		cfg.Bindings = append(cfg.Bindings, kind)
	}
	cfg.SubgroupSize, cfg.FullSubgroups = m.machine.Subgroup(v.Needs)
	return cfg
}

// kernel returns the compute pipeline of a variant with these specialization constants,
// compiling it at the first call. Concurrent calls for different kernels compile in parallel.
func (m *Manager) kernel(n *node) (*vk.Pipeline, error) {
	e := m.entry(n.key(), n)
	e.once.Do(func() {
		if e.err = m.refused(n); e.err == nil {
			e.p, e.err = m.dev.NewPipeline(m.config(n, m.variants[n.kernel]))
		}
	})
	return e.p, e.err
}

// entry is the pipeline of a key, made or yet to be made of the kernels of nodes.
func (m *Manager) entry(key string, nodes ...*node) *pipelineEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.pipelines[key]
	if e == nil {
		e = &pipelineEntry{spec: nodes[0].values}
		for _, n := range nodes {
			e.kernels = append(e.kernels, n.kernel)
		}
		m.pipelines[key] = e
	}
	return e
}

// refused is why the kernel of a node can't run on the device.
func (m *Manager) refused(n *node) error {
	v, ok := m.variants[n.kernel]
	if !ok || !m.machine.Has(v.Needs) {
		return fmt.Errorf("pipeline: no kernel %q for %s", n.kernel, m.pd.Name)
	}
	if m.opts.Tuning.refuses(n.kernel) {
		return fmt.Errorf("pipeline: %s: kernel %s computes wrong results on this device, another driver version (now %s) may fix it",
			m.pd.Name, n.kernel, m.opts.Tuning.Driver)
	}
	return nil
}

// shared lists the buffers that plans share.
func (m *Manager) shared(n Need) []shared {
	f := &m.frame
	var walk, sink int64
	if m.walkers() > 0 {
		walk = 4 * link.StateWords
	}
	if m.overlap() != (Overlap{}) {
		sink = sinks * weightAlign
	}
	return []shared{
		{"an arena", &m.arena, vk.DeviceLocal, n.Arena},
		{"a step buffer", &f.step, vk.Upload, n.Step},
		{"an input buffer", &f.input, vk.Upload, n.Input},
		{"a draw buffer", &f.draw, vk.Upload, n.Draw},
		{"a log buffer", &f.log, vk.Readback, n.Log},
		{"a read-back buffer", &f.readback, vk.Readback, n.Readback},
		{"an adjustment buffer", &f.adjust.lists.buffer, vk.Upload, n.Adjust},
		{"an arrival buffer", &f.arrivals, vk.DeviceLocal, n.Arrivals},
		{"a state of linked kernels", &f.walk, vk.DeviceLocal, walk},
		{"a buffer that prefetches count in", &f.sink, vk.DeviceLocal, sink},
		{"a mask buffer", &f.adjust.masks.buffer, vk.Upload, n.Mask},
	}
}

// Reserve sets aside at least so much memory for what plans share. Larger buffers are kept. It is called before the
// first plan is built, with the largest Builder.Need: the buffers can't grow while there are plans.
func (m *Manager) Reserve(n Need) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shared(n) {
		if s.size() >= s.bytes {
			continue
		}
		if plans := m.plans.Load(); plans > 0 {
			return fmt.Errorf("pipeline: %s of %d bytes was asked for, and %d plans use the one of %d", s.name, s.bytes, plans, s.size())
		}
		if err := s.close(); err != nil {
			return err
		}
		b, err := m.dev.NewBuffer(s.bytes, s.use)
		if err != nil {
			return fmt.Errorf("pipeline: %s of %d bytes: %w", s.name, s.bytes, err)
		}
		*s.buffer = b
		f := &m.frame
		f.given, f.ran = nil, nil
		switch s.buffer {
		case &f.step:
			clear(b.Mapped())
			f.words, f.begun, f.next = make([]byte, s.bytes), make([]byte, s.bytes), 0
		case &f.arrivals, &f.walk:
			f.settled = false
		case &f.adjust.lists.buffer:
			f.adjust.lists.begin()
		case &f.adjust.masks.buffer:
			f.adjust.masks.begin()
		}
	}
	return nil
}

// lacks says which of the buffers is too small for a plan.
func (m *Manager) lacks(n Need) error {
	for _, s := range m.shared(n) {
		if s.size() < s.bytes {
			return fmt.Errorf("needs %s of %d bytes; Reserve was given %d", s.name, s.bytes, s.size())
		}
	}
	return nil
}

// Close frees pipelines, arena and Frame. Plans, matrices and caches made from the
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
	for _, s := range m.shared(Need{}) {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// arenaAlign separates tensors: the strictest storage and texel offset alignment.
const arenaAlign = 256

// FillArena sets every word of the arena and waits, so that a test can tell what plans write.
func (m *Manager) FillArena(ctx context.Context, word uint32) error {
	return m.dev.Fill(ctx, m.arena.Whole(), word)
}

// Variants lists the names of the kernels this device can run, sorted.
func (m *Manager) Variants() []string {
	var names []string
	for name, v := range m.variants {
		if m.machine.Has(v.Needs) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Used lists the variants that plans of the Manager have needed so far.
func (m *Manager) Used() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := map[string]bool{}
	for _, e := range m.pipelines {
		for _, name := range e.kernels {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// A Compile is what compiling a kernel took.
type Compile struct {
	Kernel string   `json:"kernel"` // variant, as Manager.Variants names it
	Spec   []uint32 `json:"spec"`   // specialization constants
	MS     float64  `json:"ms"`     // processor time, as vk.Compiles counts it
}

// Compiles lists the kernels that the Manager has compiled, those that took longest first.
func (m *Manager) Compiles() []Compile {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Compile
	for _, e := range m.pipelines {
		if e.p != nil {
			list = append(list, Compile{strings.Join(e.kernels, "+"), e.spec, float64(e.p.CompileCPU().Microseconds()) / 1e3})
		}
	}
	slices.SortFunc(list, func(x, y Compile) int {
		return cmp.Or(cmp.Compare(y.MS, x.MS), strings.Compare(x.Kernel, y.Kernel), slices.Compare(x.Spec, y.Spec))
	})
	return list
}

var errClosed = errors.New("pipeline: closed")
