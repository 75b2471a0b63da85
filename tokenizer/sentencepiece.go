package tokenizer

import (
	"context"
	"fmt"
	"math"
	"sort"
	"unicode/utf8"
)

// This file reads SentencePiece .model files, which are a serialized ModelProto
// (sentencepiece_model.proto). It uses the pieces, and those fields of the
// trainer and normalizer specifications that change how text is encoded.

// pieceType is ModelProto.SentencePiece.Type; GGUF's token types are the same.
type pieceType int

const (
	pieceNormal      pieceType = 1
	pieceUnknown     pieceType = 2
	pieceControl     pieceType = 3
	pieceUserDefined pieceType = 4
	pieceUnused      pieceType = 5
	pieceByte        pieceType = 6
)

const (
	maxMerged = 1 << 9 // bytes of a piece that merging can make; SentencePiece's trainer makes at most 16 characters
	maxUnused = 1 << 7 // bytes of an unused piece, which splitUnused splits
)

type piece struct {
	text  string
	score float32
	kind  pieceType
}

// pieceModel is the content of a .model file, with the format's defaults.
type pieceModel struct {
	pieces       []piece
	modelType    int // 1 unigram, 2 BPE
	byteFallback bool
	bosID        int
	eosID        int
	unkSurface   string
	norm         pieceNorm
	charsMap     []byte
	denormMap    []byte
}

func readPieceModel(data []byte) (*pieceModel, error) {
	m := &pieceModel{modelType: 1, bosID: 1, eosID: 2, unkSurface: " \u2047 ",
		norm: pieceNorm{addDummyPrefix: true, removeExtraWhitespaces: true, escapeWhitespaces: true}}
	top := &protoReader{data: data}
	for top.next() {
		switch top.field {
		case 1: // pieces
			p := top.message()
			q := piece{kind: pieceNormal}
			for p.next() {
				switch p.field {
				case 1:
					p.string(&q.text)
				case 2:
					p.float(&q.score)
				case 3:
					p.int((*int)(&q.kind))
				}
			}
			if p.err != nil {
				return nil, fmt.Errorf("pieces[%d]: %w", len(m.pieces), p.err)
			}
			if len(m.pieces) == maxVocab {
				return nil, fmt.Errorf("more than %d pieces", maxVocab)
			}
			m.pieces = append(m.pieces, q)
		case 2: // trainer_spec
			p := top.message()
			for p.next() {
				switch p.field {
				case 3:
					p.int(&m.modelType)
				case 24:
					p.bool(&m.norm.whitespaceAsSuffix)
				case 35:
					p.bool(&m.byteFallback)
				case 41:
					p.int(&m.bosID)
				case 42:
					p.int(&m.eosID)
				case 44:
					p.string(&m.unkSurface)
				}
			}
			if p.err != nil {
				return nil, fmt.Errorf("trainer_spec: %w", p.err)
			}
		case 3: // normalizer_spec
			p := top.message()
			for p.next() {
				switch p.field {
				case 2:
					if p.check(2) {
						m.charsMap = p.bytes
					}
				case 3:
					p.bool(&m.norm.addDummyPrefix)
				case 4:
					p.bool(&m.norm.removeExtraWhitespaces)
				case 5:
					p.bool(&m.norm.escapeWhitespaces)
				}
			}
			if p.err != nil {
				return nil, fmt.Errorf("normalizer_spec: %w", p.err)
			}
		case 5: // denormalizer_spec
			p := top.message()
			for p.next() {
				if p.field == 2 && p.check(2) {
					m.denormMap = p.bytes
				}
			}
			if p.err != nil {
				return nil, fmt.Errorf("denormalizer_spec: %w", p.err)
			}
		}
	}
	return m, top.err
}

// chatGLMSpecials follow the pieces of ChatGLM2's model (its tokenization_chatglm.py).
var chatGLMSpecials = []string{"[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"}

// parsePiece builds a tokenizer from the contents of a .model file.
func parsePiece(ctx context.Context, file string, data []byte, chatGLM bool) (*Tokenizer, error) {
	r := newReader(ctx, file, len(data))
	m, err := readPieceModel(data)
	if err != nil {
		return nil, &FormatError{File: file, Msg: fmt.Sprintf("not a SentencePiece model: %v", err)}
	}
	if len(m.pieces) == 0 {
		return nil, &FormatError{File: file, Path: "pieces", Msg: "none; not a SentencePiece model"}
	}
	t := newTokenizer(file)
	if len(m.charsMap) > 0 {
		if m.norm.m, err = parseCharsMap(m.charsMap); err != nil {
			return nil, &FormatError{File: file, Path: "normalizer_spec.precompiled_charsmap", Msg: err.Error()}
		}
	}
	if len(m.unkSurface) > maxReplacement {
		r.fail("trainer_spec.unk_surface", "%d bytes", len(m.unkSurface))
	}
	if len(m.denormMap) > 0 {
		r.unsupported("denormalizer_spec.precompiled_charsmap", "denormalizer")
	}
	b := &pieceBuilder{t: t, r: r, pieces: m.pieces, fallback: m.byteFallback, path: "pieces"}
	if b.enter(); r.err != nil {
		return nil, r.err
	}
	m.norm.user = b.user
	t.normalizer = &m.norm
	switch m.modelType {
	case 1:
		t.model = b.unigram()
	case 2:
		t.model = b.bpe()
	default:
		r.unsupported("trainer_spec.model_type", "SentencePiece model type %d", m.modelType)
	}
	t.decoder = &pieceDecoder{bytes: b.bytes, unk: b.unk, unkText: m.unkSurface, plain: b.plain,
		stripFirst: m.norm.addDummyPrefix || m.norm.removeExtraWhitespaces, stripAll: m.norm.removeExtraWhitespaces}
	if b.unk >= 0 {
		t.flags[b.unk] |= flagShown
	}
	control := func(id int) int {
		if id < 0 || id >= len(m.pieces) || m.pieces[id].kind != pieceControl {
			return -1
		}
		return id
	}
	t.bos, t.eos = control(m.bosID), control(m.eosID)
	if t.bos >= 0 {
		t.prefix = []int{t.bos}
	}
	if chatGLM {
		n := len(m.pieces)
		for i, text := range chatGLMSpecials {
			delete(t.ids, text) // a piece may have the same spelling, but the name means the special token
			t.addToken(r, AddedToken{ID: n + i, Content: text, Special: true}, "ChatGLM special tokens")
			b.plain[int32(n+i)] = true
		}
		t.prefix = []int{n + 1, n + 3}
	}
	if r.err == nil {
		t.buildAdded(r)
	}
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

// pieceBuilder turns SentencePiece's pieces, from a .model or a GGUF file, into the
// tables of a Tokenizer.
type pieceBuilder struct {
	t        *Tokenizer
	r        *reader
	path     string // of the pieces, for errors
	pieces   []piece
	fallback bool
	lenient  bool // a byte piece with another spelling stands for byte 0 (XVERSE's GGUF has one)

	unk     int32          // -1 if there is none
	bytes   map[int32]byte // byte pieces
	byteIDs map[byte]int32 // byte pieces by byte
	plain   map[int32]bool // control pieces, whose text is not changed
	user    *matcher       // user-defined pieces; nil if there are none
}

func (b *pieceBuilder) fail(i int, format string, args ...any) {
	b.r.fail(fmt.Sprintf("%s[%d]", b.path, i), format, args...)
}

// enter checks the pieces and enters them by id.
func (b *pieceBuilder) enter() {
	b.unk, b.bytes, b.byteIDs, b.plain = -1, map[int32]byte{}, map[byte]int32{}, map[int32]bool{}
	for i, p := range b.pieces {
		if !b.r.going(i) {
			return
		}
		if len(p.text) > maxPiece {
			b.fail(i, "piece of %d bytes, the limit is %d", len(p.text), maxPiece)
			return
		}
		if p.text == "" || !utf8.ValidString(p.text) {
			b.fail(i, "piece %q is empty or not UTF-8", p.text)
			return
		}
		if _, again := b.t.ids[p.text]; again {
			b.fail(i, "duplicate piece %q", p.text)
			return
		}
		if f := float64(p.score); math.IsNaN(f) || math.IsInf(f, 0) {
			b.fail(i, "score %g", f)
			return
		}
		b.t.setPiece(b.r, i, p.text, b.path)
		switch p.kind {
		case pieceNormal, pieceUnused:
			limit := maxMerged
			if p.kind == pieceUnused {
				limit = maxUnused
			}
			if len(p.text) > limit {
				b.r.unsupported(fmt.Sprintf("%s[%d]", b.path, i), "piece of %d bytes, the limit is %d", len(p.text), limit)
			}
		case pieceUserDefined:
			if b.user == nil {
				b.user = newMatcher()
			}
			if b.r.added += len(p.text); b.r.added > maxAdded {
				b.fail(i, "more than %d bytes of user-defined pieces", maxAdded)
				return
			}
			b.user.add(p.text, int32(i))
		case pieceUnknown:
			if b.unk >= 0 {
				b.fail(i, "a second unknown piece")
			}
			b.unk = int32(i)
			b.t.addToken(b.r, AddedToken{ID: i, Content: p.text, Special: true}, b.path)
		case pieceControl:
			b.t.addToken(b.r, AddedToken{ID: i, Content: p.text, Special: true}, b.path)
			b.plain[int32(i)] = true
		case pieceByte:
			c, ok := isByteToken(p.text)
			if !ok && !b.lenient {
				b.fail(i, "byte piece %q", p.text)
			}
			b.bytes[int32(i)] = c
			if _, again := b.byteIDs[c]; ok || !again {
				b.byteIDs[c] = int32(i)
			}
		default:
			b.r.unsupported(fmt.Sprintf("%s[%d]", b.path, i), "piece type %d", p.kind)
		}
		if b.r.err != nil {
			return
		}
	}
}

// merges reports whether merging can make this piece.
func (p piece) merges() bool {
	return p.kind == pieceNormal || p.kind == pieceUserDefined || p.kind == pieceUnused
}

func (b *pieceBuilder) unigram() model {
	m := &unigram{t: b.t, trie: newByteTrie(b.r.size), unk: b.unk, single: true, fallback: b.fallback, userPieces: map[int32]bool{}}
	low, high := math.Inf(1), math.Inf(-1)
	for i := range m.byteIDs {
		m.byteIDs[i] = -1
	}
	for c, id := range b.byteIDs {
		m.byteIDs[c] = id
	}
	for i, p := range b.pieces {
		m.scores = append(m.scores, float64(p.score))
		switch p.kind {
		case pieceNormal:
			low, high = min(low, float64(p.score)), max(high, float64(p.score))
		case pieceUserDefined:
			m.userPieces[int32(i)] = true
		default:
			continue
		}
		if !b.r.going(i) || !m.trie.add(p.text, int32(i)) {
			b.fail(i, "the pieces have more than %d different prefixes", m.trie.max)
			break
		}
	}
	m.unkScore, m.userScale = float64(float32(low)-unkPenalty), high
	return m
}

// bpe lists every pair of symbols that makes a piece, ranked by the piece's score.
func (b *pieceBuilder) bpe() model {
	m := newBPE(b.t)
	m.unk, m.fuse, m.fallback = b.unk, true, b.fallback
	m.allBytes = len(b.byteIDs) == 256
	for c, id := range b.byteIDs {
		m.byteIDs[c] = id
	}
	m.user = b.user
	symbols := make(map[string]int32, len(b.pieces))
	ranks := b.ranks()
	for i, p := range b.pieces {
		if p.merges() {
			symbols[p.text] = int32(i)
			if r, n := utf8.DecodeRuneInString(p.text); n == len(p.text) {
				m.setRune(r, int32(i))
			}
		}
	}
	// Characters that occur inside pieces but are not pieces are symbols too.
	next := int32(len(b.pieces))
	for _, p := range b.pieces {
		if !p.merges() {
			continue
		}
		for _, r := range p.text {
			if _, ok := symbols[string(r)]; !ok {
				m.hidden = min(m.hidden, next)
				m.hiddenR = append(m.hiddenR, r)
				symbols[string(r)] = next
				m.setRune(r, next)
				next++
			}
		}
	}
	m.pairs = newPairTable(2 * len(b.pieces))
	m.joins = new(pairFilter)
	for i, p := range b.pieces {
		if !b.r.going(i) {
			break
		}
		if !p.merges() {
			continue
		}
		m.joins.add(p.text)
		if len(p.text) > maxMerged {
			continue // user-defined pieces are matched as a whole
		}
		for k := range p.text {
			if k == 0 {
				continue
			}
			left, okL := symbols[p.text[:k]]
			right, okR := symbols[p.text[k:]]
			if okL && okR {
				m.pairs.put(left, right, merge{ranks[i], int32(i)})
			}
		}
	}
	if m.unk < 0 && !(m.fallback && m.allBytes) {
		m.joins = nil // unknown characters are dropped, and their neighbours become adjacent
	}
	b.splitUnused(m)
	return m
}

// ranks returns each piece's rank: the distinct scores are numbered, highest first.
func (b *pieceBuilder) ranks() []int32 {
	order := make([]int, len(b.pieces))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return b.pieces[order[i]].score > b.pieces[order[j]].score })
	ranks := make([]int32, len(b.pieces))
	rank := int32(0)
	for i, at := range order {
		if i > 0 && b.pieces[at].score != b.pieces[order[i-1]].score {
			rank++
		}
		ranks[at] = rank
	}
	return ranks
}

// splitUnused finds the two symbols from which each unused piece is joined: such a
// piece takes part in merging but is split again in the end.
func (b *pieceBuilder) splitUnused(m *bpe) {
	for i, p := range b.pieces {
		if !b.r.going(i) {
			return
		}
		if p.kind != pieceUnused {
			continue
		}
		if m.unused == nil {
			m.unused = make([]bool, len(b.pieces))
			m.split = map[int32][2]int32{}
		}
		m.unused[i] = true
		ids := m.symbols(nil, []byte(p.text))
		for len(ids) > 2 {
			at, best := -1, int32(noRank)
			for k := 0; k+1 < len(ids); k++ {
				if j := m.pairs.get(ids[k], ids[k+1]); j.rank < best && j.id != int32(i) {
					at, best = k, j.rank
				}
			}
			if at < 0 {
				break
			}
			ids[at] = m.pairs.get(ids[at], ids[at+1]).id
			ids = append(ids[:at+1], ids[at+2:]...)
		}
		if len(ids) == 2 {
			m.split[int32(i)] = [2]int32{ids[0], ids[1]}
		}
	}
}
