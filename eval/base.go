package eval

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
)

// This file reads and writes the format in which llama-perplexity keeps log-probabilities (--kl-divergence-base;
// tools/perplexity of llama.cpp), little-endian: "_logits_", window length uint32, vocabulary int32, windows int32,
// tokens int32 each; then a row for each predicted token: scale float32, least log-probability float32, a uint16 for
// each token of the vocabulary, and padding to an even number of them. A value q means q*scale + least.
// Log-probabilities are stored down to 16 below the greatest; lesser ones are raised to that.

const (
	baseMagic = "_logits_"
	baseRange = 16
)

// A BaseWriter writes log-probabilities to a file.
type BaseWriter struct {
	w     *bufio.Writer
	vocab int
	buf   []byte
}

// NewBaseWriter returns a BaseWriter to w for a model with vocab tokens. The caller calls Flush at the end.
func NewBaseWriter(w io.Writer, vocab int) *BaseWriter {
	return &BaseWriter{w: bufio.NewWriter(w), vocab: vocab, buf: make([]byte, baseRowBytes(vocab))}
}

// Flush writes buffered data.
func (b *BaseWriter) Flush() error { return b.w.Flush() }

func baseRowBytes(vocab int) int { return 8 + 4*((vocab+1)/2) }

func (b *BaseWriter) begin(context, windows int, ids []int) error {
	head := []byte(baseMagic)
	for _, n := range []int{context, b.vocab, windows} {
		head = binary.LittleEndian.AppendUint32(head, uint32(n))
	}
	for _, id := range ids[:windows*context] {
		head = binary.LittleEndian.AppendUint32(head, uint32(id))
	}
	_, err := b.w.Write(head)
	return err
}

// row writes logits whose log-sum-exp is sum.
func (b *BaseWriter) row(row []float32, sum float64) error {
	if len(row) != b.vocab {
		return fmt.Errorf("a row of %d logits, want %d", len(row), b.vocab)
	}
	top, least := row[0], row[0]
	for _, v := range row {
		top, least = max(top, v), min(least, v)
	}
	least = max(least, top-baseRange)
	scale := (top - least) / 65535
	binary.LittleEndian.PutUint32(b.buf[0:], math.Float32bits(scale))
	binary.LittleEndian.PutUint32(b.buf[4:], math.Float32bits(float32(float64(least)-sum)))
	for i, v := range row {
		q := 0.0
		if v > least {
			q = math.RoundToEven(float64(v-least) / float64(scale))
		}
		binary.LittleEndian.PutUint16(b.buf[8+2*i:], uint16(min(q, 65535)))
	}
	_, err := b.w.Write(b.buf)
	return err
}

// A BaseReader reads a file of a BaseWriter or of llama-perplexity, row by row.
type BaseReader struct {
	Context int   // tokens of a window
	Tokens  []int // tokens of all windows

	name  string
	r     *bufio.Reader
	vocab int
	buf   []byte
	rows  []float32
}

// NewBaseReader reads the header of f and checks the size of f. The caller closes f.
func NewBaseReader(f *os.File) (*BaseReader, error) {
	b := &BaseReader{name: f.Name(), r: bufio.NewReaderSize(f, 1<<20)}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var head [20]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil || string(head[:8]) != baseMagic {
		return nil, &ResultError{b.name, "not a file of log-probabilities: it doesn't begin with " + baseMagic}
	}
	context := int64(binary.LittleEndian.Uint32(head[8:]))
	vocab := int64(binary.LittleEndian.Uint32(head[12:]))
	windows := int64(binary.LittleEndian.Uint32(head[16:]))
	if context < 4 || context > 1<<24 || vocab < 1 || vocab > 1<<24 || windows < 1 || windows > 1<<24 {
		return nil, &ResultError{b.name, fmt.Sprintf("%d windows of %d tokens of %d", windows, context, vocab)}
	}
	rows := windows * (context - 1 - context/2)
	if rowBytes := int64(baseRowBytes(int(vocab))); rows > (1<<62)/rowBytes || info.Size() != 20+4*windows*context+rows*rowBytes {
		msg := fmt.Sprintf("it has %d bytes, which is not the size of %d windows of %d tokens of %d: is it incomplete?",
			info.Size(), windows, context, vocab)
		return nil, &ResultError{b.name, msg}
	}
	b.Context, b.vocab = int(context), int(vocab)
	tokens := make([]byte, 4*windows*context)
	if _, err := io.ReadFull(b.r, tokens); err != nil {
		return nil, &ResultError{b.name, err.Error()}
	}
	for i := 0; i < len(tokens); i += 4 {
		id := int(binary.LittleEndian.Uint32(tokens[i:]))
		if id >= b.vocab {
			return nil, &ResultError{b.name, fmt.Sprintf("token %d is %d, of %d", i/4, id, vocab)}
		}
		b.Tokens = append(b.Tokens, id)
	}
	b.buf, b.rows = make([]byte, baseRowBytes(b.vocab)), make([]float32, b.vocab)
	return b, nil
}

// row returns the next row's log-probabilities. It is valid until the next call.
func (b *BaseReader) row(vocab int) ([]float32, error) {
	if vocab != b.vocab {
		msg := fmt.Sprintf("it was written for a model with %d tokens, this one has %d", b.vocab, vocab)
		return nil, &ResultError{b.name, msg}
	}
	if _, err := io.ReadFull(b.r, b.buf); err != nil {
		return nil, &ResultError{b.name, err.Error()}
	}
	scale := math.Float32frombits(binary.LittleEndian.Uint32(b.buf[0:]))
	least := math.Float32frombits(binary.LittleEndian.Uint32(b.buf[4:]))
	for i := range b.rows {
		b.rows[i] = scale*float32(binary.LittleEndian.Uint16(b.buf[8+2*i:])) + least
	}
	return b.rows, nil
}
