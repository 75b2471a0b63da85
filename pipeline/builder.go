package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Builder collects the operations of one plan. An operation that cannot be built makes
// every later one do nothing, and Build reports the first error.
type Builder struct {
	m         *Manager
	name      string
	tokens    int
	singles   int // of the tokens, the first ones, each of a sequence of its own
	sequences int // of the others
	rows      int // of results of last tokens that the plan has room for
	tap       bool
	log       int // pairs that Advance logs in each step, or Draw of each row; 0 without them
	draws     int // rows that Draw chooses a token for; 0 without it
	most      int // positions of the largest cache
	arrivals  int // groups of workgroups that join what they leave, of an operation with the most; 0 means none

	tiling kernels.Tiling // of products from here on

	captures bool // the plan leaves weights of attention

	adjusted, masked *Tensor // what Adjust and Allow were given; nil means nothing

	nodes   []*node
	chains  []*chain
	tensors []*Tensor
	input   *Tensor // what Plan.Input sets; nil means none
	outputs []outputTensor
	err     error
}

type outputTensor struct {
	name   string
	tensor *Tensor
	after  int // node after which the tensor is copied out
	tap    bool
}

// NewBuilder starts a plan for steps of up to tokens tokens.
func (m *Manager) NewBuilder(name string, tokens int) *Builder {
	b := &Builder{m: m, name: name, tokens: tokens, sequences: 1, rows: MaxSequences}
	if tokens == 1 {
		b.singles = 1
	}
	if tokens < 1 {
		b.err = fmt.Errorf("pipeline: %s: a plan for %d tokens", name, tokens)
	}
	return b
}

// Batch says that the plan takes tokens of several sequences: the first singles tokens are each of a sequence of its own,
// and the others of at most so many more. It comes before every operation. Without it a plan takes one sequence.
func (b *Builder) Batch(singles, sequences int) {
	if len(b.nodes) > 0 || singles < 0 || singles > b.tokens || sequences < 0 || singles+sequences > MaxSequences || sequences == 0 && singles < b.tokens {
		b.Fail("a batch of %d single tokens and %d other sequences in %d tokens", singles, sequences, b.tokens)
		return
	}
	b.singles, b.sequences = singles, sequences
}

// EnableTaps makes Tap record; without it a Tap costs nothing.
func (b *Builder) EnableTaps() { b.tap = true }

// Tapping reports whether taps are recorded. Where an operation could be fused into another,
// a tapped plan keeps them apart so that each result can be seen.
func (b *Builder) Tapping() bool { return b.tap }

// Tile says how workgroups share later products of several tokens, of kernels that have such a choice. The zero value, as at
// the start, leaves it to what was measured and to rules.
func (b *Builder) Tile(t kernels.Tiling) { b.tiling = t }

// Tokens is the number of tokens the plan is built for.
func (b *Builder) Tokens() int { return b.tokens }

// Fail records an error found by the code that drives the builder.
func (b *Builder) Fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("pipeline: %s: %w", b.name, fmt.Errorf(format, args...))
	}
}

func (b *Builder) tensor(rows, cols int) *Tensor {
	t := &Tensor{Rows: rows, Cols: cols, id: len(b.tensors), first: -1}
	b.tensors = append(b.tensors, t)
	return t
}

// add appends a dispatch and notes the life of the tensors it uses.
func (b *Builder) add(n *node) {
	if b.err != nil {
		return
	}
	for i := range n.grid {
		if limit := b.m.pd.Limits.MaxComputeWorkGroupCount[i]; n.grid[i] > limit {
			b.Fail("%s: %d workgroups in dimension %d, the device allows %d", n.kernel, n.grid[i], i, limit)
			return
		}
	}
	at := len(b.nodes)
	for _, x := range n.binds {
		if x.tensor == nil {
			continue
		}
		if x.tensor.first < 0 {
			if x.access != vk.Write {
				b.Fail("%s reads a tensor that nothing has written", n.kernel)
				return
			}
			x.tensor.first = at
		}
		x.tensor.last = at
	}
	// Addresses are behind the bindings, in the same order (vk.DeviceAddress).
	slices.SortStableFunc(n.binds, func(x, y bind) int { return cmp.Compare(x.behind(), y.behind()) })
	if v, ok := b.m.variants[n.kernel]; ok { // Build fails where there is none
		if err := n.match(v); err != nil {
			b.Fail("%w", err)
			return
		}
	}
	b.nodes = append(b.nodes, n)
}

// Input returns a tensor whose rows the host gives with Plan.Input before each Run, (tokens,
// cols). A plan has at most one, and it comes before every operation.
func (b *Builder) Input(cols int) *Tensor {
	if b.input != nil || len(b.nodes) > 0 {
		b.Fail("a plan's one input comes first")
		return b.tensor(b.tokens, cols)
	}
	b.input = b.tensor(b.tokens, cols)
	b.input.first = 0
	return b.input
}

// Output makes the tensor's rows readable after a Run, as Plan.Output(name).
func (b *Builder) Output(name string, t *Tensor) {
	b.outputs = append(b.outputs, outputTensor{name: name, tensor: t, after: len(b.nodes) - 1})
}

// Tap makes the tensor as it is now readable after a Run, as Plan.Tap(name), if taps are
// enabled.
func (b *Builder) Tap(name string, t *Tensor) {
	if b.tap && b.err == nil {
		b.outputs = append(b.outputs, outputTensor{name: name, tensor: t, after: len(b.nodes) - 1, tap: true})
	}
}

// layout places tensors in the arena so that two whose lives overlap do not, first fit in
// order of first use, and returns the bytes needed.
func (b *Builder) layout() int64 {
	for _, o := range b.outputs {
		o.tensor.last = max(o.tensor.last, o.after)
	}
	var placed []*Tensor
	var total int64
	for _, t := range b.tensors { // creation order is order of first use
		if t.first < 0 {
			continue
		}
		size := alignUp(t.bytes(), arenaAlign)
		t.offset = 0
		for moved := true; moved; {
			moved = false
			for _, p := range placed {
				alive := p.first <= t.last && t.first <= p.last
				overlap := p.offset < t.offset+size && t.offset < p.offset+alignUp(p.bytes(), arenaAlign)
				if alive && overlap {
					t.offset = p.offset + alignUp(p.bytes(), arenaAlign)
					moved = true
				}
			}
		}
		placed = append(placed, t)
		total = max(total, t.offset+size)
	}
	return total
}

// Need is the memory that the plan will share with others. The builder may be discarded afterwards: nothing has been
// allocated.
func (b *Builder) Need() (Need, error) {
	if b.err != nil {
		return Need{}, b.err
	}
	n := Need{Arena: b.layout(), Step: stepBytes(b.tokens), Arrivals: 4 * int64(b.arrivals)}
	if b.input != nil {
		n.Input = b.input.bytes()
	}
	if b.log > 0 {
		n.Draw, n.Log = choiceBytes(b.draws, b.log)
	}
	n.Adjust, n.Mask = sizeOf(b.adjusted).adjustBytes(), sizeOf(b.masked).maskBytes()
	for _, o := range b.outputs {
		n.Readback += alignUp(o.tensor.bytes(), arenaAlign)
	}
	return n, nil
}

// Build compiles the kernels, in parallel, places the tensors in the Manager's arena and records the commands once, with
// the buffers of the Manager's Frame. ctx is looked at before each kernel is compiled. The caller closes the Plan before
// the Manager.
func (b *Builder) Build(ctx context.Context) (_ *Plan, err error) {
	need, err := b.Need()
	if err != nil {
		return nil, err
	}
	if err := b.m.lacks(need); err != nil {
		return nil, fmt.Errorf("pipeline: %s %w", b.name, err)
	}
	b.divide()
	if err := b.overlap(); err != nil {
		return nil, err
	}
	b.link()
	if err := b.compile(ctx); err != nil {
		return nil, err
	}
	b.m.plans.Add(1)
	p := &Plan{
		form: form{name: b.name, singles: b.singles, logged: b.log, draws: b.draws, adjusted: sizeOf(b.adjusted), masked: sizeOf(b.masked)},
		m:    b.m, open: true, tokens: b.tokens, sequences: b.sequences, rows: b.rows, kv: map[kvKey]int64{},
	}
	if b.adjusted != nil {
		p.seen = make([]uint32, maskWords(p.adjusted.cols))
	}
	if b.input != nil {
		p.inputCols = b.input.Cols
	}
	b.count(p)
	for _, chains := range [][]*chain{nil, b.chains} {
		if len(chains) == 0 && len(p.recordings) > 0 {
			break // nothing is linked
		}
		r, err := b.record(ctx, p, chains)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.recordings = append(p.recordings, r)
	}
	return p, nil
}

// divide decides which nodes have more work than a segment should, and into how many dispatches
// their grids are divided. Workgroups know nothing of one another, so together these do what one does.
func (b *Builder) divide() {
	for _, n := range b.nodes {
		b.most = max(b.most, n.kv.positions)
		n.dispatches = int(min(n.work().bytes(b.tokens, n.kv.positions)/float64(b.m.segmentBytes())+1, float64(n.grid[n.side()])))
	}
}

// A KernelUse is a kernel as a plan uses it.
type KernelUse struct {
	Variant   string
	Constants []kernels.Constant // specialization constants by name
	Config    vk.PipelineConfig
	Trip      kernels.Trip
}

// Dispatched lists the kernel of each dispatch so far, in order.
func (b *Builder) Dispatched() []string {
	var list []string
	for _, n := range b.nodes {
		list = append(list, n.kernel)
	}
	return list
}

// Kernels lists the kernels that the plan is made of, each with its constants once, in order of
// first use. Nothing is compiled.
func (b *Builder) Kernels() ([]KernelUse, error) {
	if b.err != nil {
		return nil, b.err
	}
	var list []KernelUse
	seen := map[string]bool{}
	for _, n := range b.nodes {
		if !seen[n.key()] {
			seen[n.key()] = true
			list = append(list, KernelUse{n.kernel, n.spec, b.m.config(n, b.m.variants[n.kernel]), n.trip})
		}
	}
	return list, nil
}

// compile makes the pipelines of all nodes, one for each processor at a time.
func (b *Builder) compile(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	seen := map[string]bool{}
	for _, c := range b.chains {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err := b.m.linked(c, b)
			return err
		})
	}
	for _, n := range b.nodes {
		for _, n := range append(slices.Clip(n.ahead), n) {
			key := n.key()
			if seen[key] {
				continue
			}
			seen[key] = true
			g.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				_, err := b.m.kernel(n)
				return err
			})
		}
	}
	return g.Wait()
}

// arena is where the tensor is.
func (b *Builder) arena(t *Tensor) vk.Span { return b.m.arena.Whole().Slice(t.offset, t.bytes()) }

// binds is what a node is given, as it is recorded.
func (b *Builder) binds(p *Plan, n *node) []vk.Bind {
	frame := &b.m.frame
	draw, log := choiceBytes(b.draws, b.log)
	binds := make([]vk.Bind, len(n.binds))
	for j, x := range n.binds {
		s := x.span
		switch {
		case x.buffer == stepBuffer:
			s = frame.step.Whole().Slice(0, stepBytes(b.tokens))
		case x.buffer == drawBuffer:
			s = frame.draw.Whole().Slice(0, draw)
		case x.buffer == logBuffer:
			s = frame.log.Whole().Slice(0, log)
		case x.buffer == adjustBuffer:
			s = frame.adjust.lists.buffer.Whole().Slice(0, p.adjusted.adjustBytes())
		case x.buffer == arrivalBuffer:
			s = frame.arrivals.Whole().Slice(0, 4*int64(b.arrivals))
		case x.buffer == maskBuffer:
			s = frame.adjust.masks.buffer.Whole().Slice(0, p.masked.maskBytes())
		case x.tensor != nil:
			s = b.arena(x.tensor)
		}
		binds[j] = vk.Bind{Span: s, Access: x.access}
		if x.view != kernels.Storage && x.view != kernels.Address {
			binds[j].Format = x.view
		}
	}
	return binds
}

// count adds up what the nodes read and compute, and places the outputs.
func (b *Builder) count(p *Plan) {
	for _, n := range b.nodes {
		for _, x := range n.binds {
			if x.tensor != nil {
				p.counters.ActivationBytes += x.tensor.bytes()
			}
		}
		for _, a := range n.ahead {
			p.counters.PrefetchBytes += a.weightBytes
		}
		p.counters.WeightBytes += n.weightBytes * int64(max(1, n.tiles))
		p.minimumWeights += n.minimumBytes
		if a := kernels.PathOf(n.kernel).Arithmetic(); n.rows == int64(b.tokens) {
			p.operations[a] += n.operations
		} else { // of the last tokens
			p.counters.operate(a, n.operations*n.rows)
		}
		p.kv[n.kv.kvKey] += n.kv.perPosition
	}
	var at int64
	for _, o := range b.outputs {
		dst := b.m.frame.readback.Whole().Slice(at, o.tensor.bytes())
		p.outputs = append(p.outputs, planOutput{name: o.name, rows: o.tensor.Rows, cols: o.tensor.Cols, span: dst, tap: o.tap})
		at += alignUp(o.tensor.bytes(), arenaAlign)
	}
}

// record writes the plan's commands: every node, those of a chain linked, and the copies of outputs where they are due.
func (b *Builder) record(ctx context.Context, p *Plan, chains []*chain) (*recording, error) {
	rec := b.m.dev.NewRecorder(vk.RecorderOptions{Timestamps: b.m.opts.Profile, Repeat: p.repeats(), BufferBarriers: BufferBarriers})
	var out recording
	var segment work // under way
	if b.input != nil {
		rec.Copy(b.arena(b.input), b.m.frame.input.Whole().Slice(0, b.input.bytes()))
	}
	copied := 0
	for i := 0; i < len(b.nodes); i++ {
		var err error
		if len(chains) > 0 && chains[0].first == i {
			segment = b.room(rec, &out, segment, chains[0].work(b))
			err = chains[0].record(ctx, rec, p, b)
			i = chains[0].end - 1
			chains = chains[1:]
		} else {
			segment, err = b.dispatch(ctx, rec, p, &out, b.nodes[i], segment)
		}
		if err != nil {
			_, _ = rec.Finish()
			return nil, fmt.Errorf("pipeline: %s: %w", b.name, err)
		}
		for ; copied < len(b.outputs) && b.outputs[copied].after <= i; copied++ {
			rec.Copy(p.outputs[copied].span, b.arena(b.outputs[copied].tensor))
		}
	}
	commands, err := rec.Finish()
	if err != nil {
		return nil, fmt.Errorf("pipeline: %s: %w", b.name, err)
	}
	out.commands, out.pace = commands, newPace(append(out.segments, segment))
	return &out, nil
}

// dispatch records a node, in several dispatches if it was divided, after what is read ahead, and cuts the commands where a
// segment has enough work. segment is the work of the segment so far; dispatch returns that of the last one.
func (b *Builder) dispatch(ctx context.Context, rec *vk.Recorder, p *Plan, out *recording, n *node, segment work) (_ work, err error) {
	if n.split {
		rec.Split()
	}
	for _, a := range n.ahead {
		if segment, err = b.dispatch(ctx, rec, p, out, a, segment); err != nil {
			return segment, err
		}
	}
	k, err := b.m.kernel(n)
	if err != nil {
		return segment, err
	}
	binds := b.binds(p, n)
	if err := k.Finish(ctx, binds); err != nil {
		return segment, err
	}
	long := n.side()
	total := n.work()
	for i := range n.dispatches {
		base, size := [3]int{}, n.grid
		from, to := n.grid[long]*i/n.dispatches, n.grid[long]*(i+1)/n.dispatches
		base[long], size[long] = from, to-from
		one := work{
			perToken:    total.perToken * int64(to-from) / int64(n.grid[long]),
			perPosition: total.perPosition * int64(to-from) / int64(n.grid[long]),
			window:      total.window,
		}
		segment = b.room(rec, out, segment, one)
		if n.dispatches == 1 {
			rec.Dispatch(k, binds, n.push, size[0], size[1], size[2])
		} else {
			rec.DispatchBase(k, binds, n.push, base, size)
		}
		out.dispatched = append(out.dispatched, n)
	}
	return segment, nil
}

// room cuts the commands where a segment has no room for more work, and returns the segment with it.
func (b *Builder) room(rec *vk.Recorder, out *recording, segment, more work) work {
	if segment.perToken+segment.perPosition > 0 && segment.plus(more).bytes(b.tokens, b.most) > float64(b.m.segmentBytes()) {
		rec.Cut()
		out.segments = append(out.segments, segment)
		segment = work{}
	}
	return segment.plus(more)
}

// Converted is the kernel that last rounded activations for products, and the two tensors that it leaves: values and
// scales (kernels.Acts). It is "" and nil where none has.
func (b *Builder) Converted() (kernel string, acts []*Tensor) {
	for _, n := range slices.Backward(b.nodes) {
		if n.kernel == (kernels.Acts{To: kernels.Halves}).Op() || n.kernel == (kernels.Acts{To: kernels.Bytes}).Op() {
			return n.kernel, []*Tensor{n.binds[2].tensor, n.binds[3].tensor}
		}
	}
	return "", nil
}

func sizeOf(t *Tensor) logitsSize {
	if t == nil {
		return logitsSize{}
	}
	return logitsSize{t.Rows, t.Cols}
}
