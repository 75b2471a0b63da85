package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// The model of the time of a dispatch: all workgroups of a unit make a trip of their loop together, which takes as long as what
// takes longest of
//
//	memory   the bytes of the trip, at the device's bandwidth times an efficiency
//	issue    the instructions, of which a scheduler starts one a clock
//	a pipe   the instructions that take it (pipes.go), at its own rate
//	matrix   the operations of cooperative matrices, at their rate; where these keep the schedulers busy, with issue
//	shared   the bytes that pass through shared memory and the first-level cache
//	cache    the bytes of tiles, at the second-level cache's bandwidth
//	latency  the loads of one workgroup that wait for one another, and what it computes between them
//
// and in the end a load more. Before a dispatch that waits for an earlier one is a boundary. Williams, Waterman and Patterson
// 2009, "Roofline", with latencies.

// A limit is what takes longest.
type limit string

const (
	byMemory    limit = "memory"
	byIssue     limit = "issue"
	byPipe      limit = "pipe"
	byConvert   limit = "converter"
	byMatrix    limit = "matrix"
	byShared    limit = "shared"
	byCache     limit = "cache"
	byLatency   limit = "latency"
	byBoundary  limit = "boundaries"
	byMeasuring limit = "measured"
)

// assumptions are values of what is uncertain.
type assumptions struct {
	boundary, latency float64 // microseconds
	efficiency        float64 // of the bandwidth
	matrixShare       float64
	busy              float64 // share of the time in which the fullest pipe works
	slower            float64
	convert           bool    // conversions take xu, as Mesa's compiler for NVIDIA makes them
	converts          float64 // lanes a unit and clock of xu, if they were measured; 0: the gpu's
}

// assume takes every uncertain number at the share of the way from the slow to the fast end.
func (g *gpu) assume(fast float64, convert bool) assumptions {
	return assumptions{
		boundary: g.boundary.at(1 - fast), latency: g.latency.at(1 - fast), efficiency: everywhere.at(fast), busy: busy.at(fast),
		matrixShare: g.matrixShare.at(fast), slower: g.slower.at(1 - fast), convert: convert,
	}
}

// A demand is what a workgroup of a dispatch does.
type demand struct {
	subgroups, lanes int
	trips            float64 // of its loop
	loop             Work    // instructions of a subgroup in a trip
	waits            float64 // loads in a trip that wait for one another
	ahead            bool    // they are under way while the trip before computes
	hops             float64 // loads that wait for one another before and after the loop
	tail             float64 // microseconds besides

	matrix float64 // operations in a trip
	shared float64 // bytes in a trip
	near   float64 // bytes from the second-level cache in a trip
	far    float64 // bytes from memory, of all workgroups: of weights and of the KV cache
	local  int     // bytes of shared memory, where the compiler does not tell
}

// A cost is what a dispatch takes, in microseconds, without a boundary.
type cost struct {
	micros float64
	limit  limit
}

// taken is the instructions of a trip by pipe.
func (g *gpu) taken(loop Work, in assumptions) [pipes]float64 {
	var n [pipes]float64
	for p, count := range loop.Pipes {
		n[p] = in.slower * float64(count)
	}
	if g.convert && !in.convert { // of the few others on xu none is in a loop that these bound
		n[alu] += n[xu]
		n[xu] = 0
	}
	return n
}

// resident is how many workgroups a unit that has any holds, and how many units have some.
func (g *gpu) resident(workgroups int, d demand, c Count) (each, units float64) {
	most := 16.0
	waves := g.subgroups * g.schedulers
	switch {
	case c.Waves > 0 && g.vendor == amd: // of a SIMD unit
		waves = c.Waves * g.schedulers
	case c.Waves > 0:
		waves = c.Waves
	}
	if waves > 0 {
		most = min(most, float64(waves/max(1, d.subgroups)))
	}
	if local := max(c.Shared, d.local); local > 0 {
		most = min(most, float64(g.local/local))
	}
	units = float64(min(g.units, workgroups))
	return min(max(1, most), float64(workgroups)/units), units
}

// time is the model. bandwidth is bytes a second of what the dispatch reads from memory.
func (g *gpu) time(workgroups int, d demand, c Count, in assumptions, bandwidth float64) cost {
	each, units := g.resident(workgroups, d, c)
	clocks := func(n float64) float64 { return n / in.busy / g.clock * 1e6 }
	waves := float64(workgroups) / units / each
	instructions := float64(d.loop.Instructions)
	if g.vendor == amd { // scalar instructions have their own port
		instructions -= float64(d.loop.Pipes[scalar])
	}
	instructions *= in.slower * math.Ceil(float64(d.lanes)/float64(g.width))
	issue := clocks(float64(d.subgroups) / float64(g.schedulers) * instructions) // of a workgroup
	matrix := clocks(d.matrix / (g.operations * in.matrixShare))
	took := map[limit]float64{
		byMemory: each * units * d.far / float64(workgroups) / d.trips / bandwidth * 1e6,
		byIssue:  each * issue,
		byMatrix: each * matrix,
		byShared: clocks(each * d.shared / g.level1),
		byCache:  each * units * d.near / g.near * 1e6,
	}
	alone := issue // what a workgroup computes in a trip
	for p, n := range g.taken(d.loop, in) {
		rate := g.rates[p]
		if pipe(p) == xu && in.converts > 0 {
			rate = in.converts
		}
		if rate == 0 {
			continue
		}
		t := clocks(float64(d.subgroups) * n * float64(d.lanes) / rate)
		name := byPipe
		if pipe(p) == xu {
			name = byConvert
		}
		took[name] = max(took[name], each*t)
		alone = max(alone, t)
	}
	if g.blocks {
		took[byIssue] += took[byMatrix]
	}
	alone = max(alone, matrix)
	if n := d.subgroups % g.schedulers; n > 0 { // some schedulers have a subgroup more, or some none
		alone *= float64(d.subgroups+g.schedulers-n) / float64(d.subgroups)
	}
	switch {
	case d.ahead:
		took[byLatency] = d.waits * in.latency // and what it computes, which is in the others
	case d.waits > 0:
		took[byLatency] = d.waits*in.latency + alone
	}
	longest := slices.MaxFunc(slices.Sorted(maps.Keys(took)), func(x, y limit) int { return cmp.Compare(took[x], took[y]) })
	loop, rest := waves*d.trips*took[longest], d.hops*in.latency+d.tail
	if rest > loop {
		longest = byLatency
	}
	return cost{loop + rest, longest}
}

// constant is the value of a specialization constant, or otherwise.
func constant(d pipeline.Dispatch, name string, otherwise int) int {
	for _, c := range d.Constants {
		if c.Name == name {
			return int(c.Value)
		}
	}
	return otherwise
}

// invocations is the size of a workgroup, of kernels whose size is no constant by their sources.
func invocations(d pipeline.Dispatch) int {
	otherwise := 64
	if strings.HasPrefix(d.Kernel, "matmul_") || strings.HasPrefix(d.Kernel, "attention_") {
		otherwise = 128
	}
	return constant(d, "WORKGROUP", constant(d, "local_size_x", otherwise))
}

// tileColumns are the columns that kernels with tiles take in a trip (TILE_COLS of their sources).
const tileColumns = 32

// demand is what a dispatch does in a step of so many tokens behind depth others.
func (g *gpu) demand(d pipeline.Dispatch, c Count, loop Count, tokens, depth int) (demand, error) {
	lanes := d.Lanes
	if lanes == 0 {
		lanes = max(c.Lanes, g.least)
	}
	w := demand{
		subgroups: (invocations(d) + lanes - 1) / lanes, lanes: lanes, trips: 1, loop: loop.Loop, hops: 1,
		far: float64(d.WeightBytes + d.KVBytes),
	}
	var rows, cols int
	product := false
	if strings.HasPrefix(d.Kernel, "matvec_") || strings.HasPrefix(d.Kernel, "matmul_") {
		if n, err := fmt.Sscanf(d.Size, "%dx%d", &rows, &cols); n != 2 {
			return w, fmt.Errorf("%s: size %q: %w", d.Kernel, d.Size, err)
		}
		product = true
	}
	path := kernels.PathOf(d.Kernel)
	switch {
	case product && strings.HasPrefix(d.Kernel, "matvec_"):
		if loop.Weights == 0 {
			return w, fmt.Errorf("%s: no weights of a trip are known", d.Kernel)
		}
		each := math.Ceil(float64(rows)/float64(d.Workgroups)) * float64(cols)
		w.trips = math.Ceil(each / float64(invocations(d)*loop.Weights))
		w.shared = float64(loop.Loop.LoadBytes) * float64(invocations(d))
		w.waits, w.tail = 1, 0.1 // the sum of lanes, by shuffles
		if path != kernels.Base {
			kind := strings.TrimSuffix(strings.TrimPrefix(d.Kernel, "matvec_"), "_"+string(path))
			w.waits, w.ahead = matvecWaits(kind), constant(d, "AHEAD", 0) == 1 && matvecEarly(kind)
		}
	case product:
		w.trips = math.Ceil(float64(cols) / float64(tileColumns*constant(d, "SPLITS", 1)))
		tileTokens := math.Ceil(float64(tokens) / float64(d.Tiles))
		tileRows := math.Ceil(float64(rows*d.Tiles*constant(d, "SPLITS", 1)) / float64(d.Workgroups))
		if path == kernels.CM {
			m, n := constant(d, "MATRICES_M", 2)*constant(d, "CM_M", 16), constant(d, "MATRICES_N", 2)*constant(d, "CM_N", 16)
			tileRows, tileTokens = float64(m*constant(d, "SUBGROUPS_M", 2)), float64(n*constant(d, "SUBGROUPS_N", 2))
			w.shared = g.twice * float64(w.subgroups) * float64(m+n) * tileColumns * 2
			w.matrix = 2 * tileRows * tileTokens * tileColumns
			w.local = constant(d, "BUFFERS", 2) * int(80*(tileRows+tileTokens))                              // 80 bytes a line
			w.loop = w.loop.share(max(1, loop.Products*invocations(d)/int(tileRows*tileTokens*tileColumns))) // a trip may take several tiles
		} else if loop.Loop.Pipes[matrix] > 0 {
			w.matrix = 2 * tileRows * tileTokens * tileColumns
		}
		w.shared += (tileRows + tileTokens) * tileColumns * 2
		weights := float64(d.WeightBytes)
		w.near = weights/float64(rows*cols)*tileRows*tileColumns + 2*tileTokens*tileColumns
		w.waits, w.ahead = cacheLatency, true
		if weights > g.cache { // workgroups that are there at once share what they read
			each, units := g.resident(d.Workgroups, w, c)
			w.far = weights * min(float64(d.Tiles), max(1, float64(d.Workgroups)/each/units))
		}
	case strings.HasPrefix(d.Kernel, "attention_") && tokens == 1:
		keys, dim := float64(depth+1), constant(d, "HEAD_DIM", 128)
		splits := float64(constant(d, "SPLITS", 1))
		size := math.Ceil(math.Ceil(keys/splits)/64) * 64 // SPLIT_KEYS of split.glsl
		live := math.Ceil(keys / size)
		team := 1 // lanes of 16 bytes of a row of float16 numbers
		for 16*team < 2*dim && team < 32 {
			team *= 2
		}
		at := float64(invocations(d)/team) * float64(constant(d, "UNROLL", 4))
		w.trips = math.Ceil(min(keys, size) / at)
		w.waits, w.hops = 1+cacheLatency, 4*cacheLatency // the page table and the row; the step, queries, angles, result
		if live > 1 {
			w.hops += 2 * cacheLatency // parts and arrivals
		}
		w.tail = 0.3
	case strings.HasPrefix(d.Kernel, "attention_"):
		var heads, kvHeads int
		if n, err := fmt.Sscanf(d.Size, "%d/%dx", &heads, &kvHeads); n != 2 {
			return w, fmt.Errorf("%s: size %q: %w", d.Kernel, d.Size, err)
		}
		keys := float64(depth) + float64(tokens+1)/2
		dim := float64(constant(d, "HEAD_DIM", 128))
		perTrip := float64(d.Operations) / float64(d.Workgroups)
		if path == kernels.CM {
			block := 2 * float64(constant(d, "CM_N", 16))
			w.trips = math.Ceil(keys / block)
			w.matrix = perTrip / w.trips
			w.shared = g.twice * float64(w.subgroups) * 2 * block * dim * 2
			w.waits, w.ahead = cacheLatency, true
		} else {
			w.trips = math.Ceil(keys / 32)
			n := perTrip / w.trips / 2 / float64(w.subgroups*w.lanes) // of a lane: a multiplication and addition
			w.loop = Work{Instructions: int(baseAttention * n)}
			w.loop.Pipes[fma] = int(n)
			w.waits = 4 * cacheLatency
		}
		w.near = float64(d.KVBytes) / float64(depth+tokens) * keys / w.trips / float64(kvHeads) // of a head's keys and values
	default: // a row or so of an invocation, without reuse
		w.loop = Work{}
		w.hops = 3 * cacheLatency
		if c.Latency > 0 {
			w.tail = float64(c.Latency) / g.clock * 1e6
		} else if g.vendor == nvidia {
			w.tail = float64(c.Cycles) / g.clock * 1e6
		}
		w.tail = min(w.tail, 3)
	}
	return w, nil
}

// cacheLatency is how long a load from the second-level cache, where most of tiles are, takes of one from memory.
const cacheLatency = 0.5

// baseAttention is the instructions of the base kernel for each multiplication and addition: half of them read shared memory.
const baseAttention = 2.5

// matvecWaits is how many pieces of weights of a kind a lane takes in a trip of matvec_sg.comp, whose loads wait for one another:
// its PIECES.
func matvecWaits(kind string) float64 {
	switch kind {
	case "f32", "f16", "bf16":
		return 4
	case "q8_0":
		return 2
	}
	return 1
}

// matvecEarly is its EARLY: whether the next piece is asked for before this one is multiplied.
func matvecEarly(kind string) bool {
	switch kind {
	case "q8_0", "q3_k", "q4_k", "q5_k", "q6_k":
		return false
	}
	return true
}
