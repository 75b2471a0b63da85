package kernels

import (
	"iter"
	"slices"
	"sync"

	"pumice/internal/dtype"
)

// A format is how the device stores a row of a type: shaders/include/weights.glsl has the picture. A
// kernel reads a type if and only if it has a format here.
type format struct {
	unitCols  int // columns in a unit of 16 bytes
	metaCols  int // columns that a record of metadata serves; 0: the type has none
	metaBytes int // of a record
	// pack moves one row from the checkpoint's blocks to units and records; nil: units are the
	// row's bytes.
	pack func(row []byte, to *rowTarget)
}

var formats = map[DType]format{
	dtype.F32:    {unitCols: 4},
	dtype.F16:    {unitCols: 8},
	dtype.BF16:   {unitCols: 8},
	dtype.Q8_0:   {16, 32, 2, packQ8_0},
	dtype.Q4_0:   {32, 32, 2, packHalfD},
	dtype.IQ4_NL: {32, 32, 2, packHalfD},
	dtype.Q4_1:   {32, 32, 4, packQ4_1},
	dtype.Q5_0:   {32, 64, 12, packQ5_0},
	dtype.Q5_1:   {32, 32, 8, packQ5_1},
	dtype.Q2_K:   {64, 256, 20, packQ2_K},
	dtype.Q3_K:   {64, 256, 48, packQ3_K},
	dtype.Q4_K:   {32, 256, 16, packQ4_K},
	dtype.Q5_K:   {32, 256, 48, packQ5_K},
	dtype.Q6_K:   {32, 256, 84, packQ6_K},
	dtype.IQ4_XS: {32, 256, 8, packIQ4_XS},
	dtype.TQ2_0:  {64, 256, 2, packTQ2_0},
}

// WeightTypes lists the types that kernels read.
func WeightTypes() []DType {
	var list []DType
	for t := range formats {
		list = append(list, t)
	}
	slices.Sort(list)
	return list
}

// A Layout is how the rows of a matrix lie beside each other.
type Layout int

const (
	// RowMajor has rows one after another; the records of rowQuad rows are interleaved word by word.
	RowMajor Layout = iota
	// Grouped interleaves rows unit by unit (docs/design/0001), for kernels with a row or more a lane.
	Grouped
	// LaneWords interleaves rows word by word (docs/design/0003), for kernels that load at device addresses.
	LaneWords
)

// rowQuad is ROW_QUAD of weights.glsl: the words of as many rows' records lie side by side.
const rowQuad = 4

// Takes reports whether matrices of so many columns can have the layout.
func (l Layout) Takes(cols int) bool {
	switch l {
	case Grouped:
		return cols%4 == 0
	case LaneWords:
		return cols%addrBlockCols == 0
	}
	return true
}

// Path is the path of the kernels that the layout is for.
func (l Layout) Path() Path {
	switch l {
	case Grouped:
		return Row
	case LaneWords:
		return Addr
	}
	return Base
}

// Ops lists the ops of which a device must have kernels of the layout's path before matrices of a type, in lower case,
// get the layout.
func (l Layout) Ops(kind string) []string {
	switch l {
	case Grouped: // base kernels read it too
		return []string{"matvec_" + kind}
	case LaneWords:
		return []string{"matvec_" + kind, "matmul_" + kind, "embed_" + kind}
	}
	return nil
}

// Pack is rows of a matrix of a type in the layout, on a machine.
func (l Layout) Pack(m *Machine, t DType, rows, cols int) Packed {
	p := Packed{DType: t, Rows: rows, Cols: cols, Group: 1}
	switch l {
	case Grouped:
		p.Group = 8 * max(laneRows(t), matmulLaneRows) // the rows of a matvec workgroup
	case LaneWords:
		p.Lanes = m.lanes()
		p.Group = p.Lanes * addrGroupRows
	}
	return p
}

// Packed is rows of one type as the device stores them (shaders/include/weights.glsl): a plane of 16-byte
// units and, for quantised types, a plane of metadata records.
type Packed struct {
	DType      DType
	Rows, Cols int
	Group      int // rows interleaved; 1 is row-major
	Lanes      int // of the subgroup whose words lie side by side; 0: units are whole
}

// Layout is how the rows lie.
func (p Packed) Layout() Layout {
	switch {
	case p.Lanes > 0:
		return LaneWords
	case p.Group > 1:
		return Grouped
	}
	return RowMajor
}

// RowLimit is how many rows one binding of so many bytes can hold: a multiple of the group and of rowQuad, so
// that a gate row and its up row are bound together and records have no padding in between.
func (p Packed) RowLimit(bytes int64) int {
	row := p.UnitRowBytes()
	if f := formats[p.DType]; f.metaCols > 0 {
		row = max(row, int64(f.metaBytes)*int64(ceilDiv(p.Cols, f.metaCols)))
	}
	step := max(p.Group, rowQuad)
	return int(min(bytes/row, 1<<30)) / step * step
}

// UnitsPerRow is the number of units of a row.
func (p Packed) UnitsPerRow() int { return ceilDiv(p.Cols, formats[p.DType].unitCols) }

// RecordsPerRow is the number of records of a row, 0 for types without.
func (p Packed) RecordsPerRow() int {
	if n := formats[p.DType].metaCols; n > 0 {
		return ceilDiv(p.Cols, n)
	}
	return 0
}

// UnitRowBytes is what the units of a row take.
func (p Packed) UnitRowBytes() int64 { return 16 * int64(p.UnitsPerRow()) }

// MetaRowBytes is what the records of a row take: whole words where rows are stored one by one.
func (p Packed) MetaRowBytes() int64 {
	n := int64(formats[p.DType].metaBytes) * int64(p.RecordsPerRow())
	if p.Group == 1 {
		return alignUp(n, 4)
	}
	return n
}

// MetaGroup is how many adjacent rows share a stretch of the plane of records.
func (p Packed) MetaGroup() int {
	if p.Group == 1 {
		return rowQuad
	}
	return p.Group
}

// UnitRows is the rows of the plane of units, those that fill up the last group included.
func (p Packed) UnitRows() int { return ceilDiv(p.Rows, p.Group) * p.Group }

// MetaRows is the rows of the plane of records, those that fill up the last group included.
func (p Packed) MetaRows() int { return ceilDiv(p.Rows, p.MetaGroup()) * p.MetaGroup() }

// UnitBytes is the size of the plane of units.
func (p Packed) UnitBytes() int64 { return int64(p.UnitRows()) * p.UnitRowBytes() }

// MetaBytes is the size of the plane of records.
func (p Packed) MetaBytes() int64 { return alignUp(int64(p.MetaRows())*p.MetaRowBytes(), 16) }

// ReadBytes is what a kernel reads when it uses every row once, rows rounded up to a
// multiple of what one invocation handles.
func (p Packed) ReadBytes() int64 {
	rows := p.Rows
	switch p.Layout() {
	case LaneWords:
		rows = p.UnitRows()
	case Grouped:
		rows = ceilDiv(rows, laneRows(p.DType)) * laneRows(p.DType)
	}
	return int64(rows) * (p.UnitRowBytes() + p.MetaRowBytes())
}

// StoredBytes is the size of the same weights in the checkpoint's blocks, without padding.
func (p Packed) StoredBytes() int64 { return int64(p.Rows) * p.DType.RowBytes(p.Cols) }

// Pack puts one row, in the checkpoint's blocks, at row r of planes that start on a group's
// first row and whose memory is zero.
func (p Packed) Pack(units, meta []byte, r int, row []byte) {
	switch {
	case p.Lanes > 0:
		p.packLanes(units, meta, r, row)
		return
	case p.Group == 1:
		p.packQuads(units, meta, r, row)
		return
	}
	f := formats[p.DType]
	group, in := r/p.Group, r%p.Group
	if f.pack == nil {
		at := 16 * (group*p.UnitsPerRow()*p.Group + in)
		for ; len(row) >= 16; at += 16 * p.Group {
			*(*[16]byte)(units[at:]) = [16]byte(row)
			row = row[16:]
		}
		if len(row) > 0 {
			copy(units[at:], row)
		}
		return
	}
	f.pack(row, &rowTarget{
		units: units[16*(group*p.UnitsPerRow()*p.Group+in):], unitStep: 16 * p.Group,
		meta: meta[f.metaBytes*(group*p.RecordsPerRow()*p.Group+in):], metaStep: f.metaBytes * p.Group, metaBytes: f.metaBytes,
	})
}

// packPlain packs one row into units and records that follow one another.
func (f format) packPlain(units, records, row []byte) {
	if f.pack == nil {
		copy(units, row)
		return
	}
	f.pack(row, &rowTarget{units: units, unitStep: 16, meta: records, metaStep: f.metaBytes, metaBytes: f.metaBytes})
}

// packQuads is Pack where rows are stored one by one.
func (p Packed) packQuads(units, meta []byte, r int, row []byte) {
	s := scratchPool.Get().(*[]byte)
	defer scratchPool.Put(s)
	records := zeroed(s, int(p.MetaRowBytes()))
	formats[p.DType].packPlain(units[int64(r)*p.UnitRowBytes():][:p.UnitRowBytes()], records, row)
	// What RecordOffsets says, in a loop that costs the loading nothing.
	at := rowQuad*(r/rowQuad)*len(records) + 4*(r%rowQuad)
	for k := 0; k < len(records); k += 4 {
		*(*[4]byte)(meta[at+rowQuad*k:]) = [4]byte(records[k:])
	}
}

// packLanes is Pack where the words of Lanes rows lie side by side: shaders/include/weights_addr.glsl
// says how.
func (p Packed) packLanes(units, meta []byte, r int, row []byte) {
	s := scratchPool.Get().(*[]byte)
	defer scratchPool.Put(s)
	both := zeroed(s, int(p.UnitRowBytes()+p.MetaRowBytes()))
	plain, records := both[:p.UnitRowBytes()], both[p.UnitRowBytes():]
	formats[p.DType].packPlain(plain, records, row)
	p.UnitOffsets(r).scatter(units, plain)
	p.RecordOffsets(r).scatter(meta, records)
}

// scratchPool has buffers for one row.
var scratchPool = sync.Pool{New: func() any { return new([]byte) }}

// zeroed is n bytes of zeros in a buffer that grows.
func zeroed(s *[]byte, n int) []byte {
	if cap(*s) < n {
		*s = make([]byte, n)
	}
	*s = (*s)[:n]
	clear(*s)
	return *s
}

// Offsets are the byte offsets in a plane at which the words of a row lie, in order.
type Offsets struct {
	At   iter.Seq[int]
	Size int // bytes at each
}

// scatter puts a row where it lies.
func (o Offsets) scatter(plane, row []byte) {
	if o.Size == 4 {
		for at := range o.At {
			*(*[4]byte)(plane[at:]) = [4]byte(row)
			row = row[4:]
		}
		return
	}
	for at := range o.At {
		copy(plane[at:][:o.Size], row)
		row = row[o.Size:]
	}
}

// UnitOffsets are where row r's units lie.
func (p Packed) UnitOffsets(r int) Offsets {
	if p.Lanes > 0 {
		return p.laneWords(r, p.UnitsPerRow(), 16)
	}
	return grouped(r, p.UnitsPerRow(), p.Group, 16)
}

// RecordOffsets are where row r's records lie.
func (p Packed) RecordOffsets(r int) Offsets {
	size := formats[p.DType].metaBytes
	switch {
	case p.Lanes > 0:
		return p.laneWords(r, p.RecordsPerRow(), size)
	case p.Group == 1:
		return grouped(r, int(p.MetaRowBytes()/4), rowQuad, 4)
	}
	return grouped(r, p.RecordsPerRow(), p.Group, size)
}

// grouped is where the n units or records of row r lie where rows are interleaved one by one.
func grouped(r, n, group, size int) Offsets {
	return Offsets{func(yield func(int) bool) {
		for i := range n {
			if !yield(size * ((r/group*n+i)*group + r%group)) {
				return
			}
		}
	}, size}
}

// laneWords is where the words of row r's n units or records of size bytes lie. Of records of two
// bytes, a word has two rows', each with its own offset.
func (p Packed) laneWords(r, n, size int) Offsets {
	group, in := r/p.Group, r%p.Group
	pair, lane, odd := in/(2*p.Lanes), in%(2*p.Lanes)/2, in%2
	first := 2*pair*p.Lanes*size + 4*lane
	if size < 4 {
		first += odd * size
	} else {
		first += odd * p.Lanes * size
	}
	return Offsets{func(yield func(int) bool) {
		for i := range n {
			at := (group*n+i)*p.Group*size + first
			for w := 0; w < size; w += 4 {
				if !yield(at) {
					return
				}
				at += 4 * p.Lanes
			}
		}
	}, min(4, size)}
}
