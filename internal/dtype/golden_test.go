package dtype

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"os"
	"testing"
)

// A golden is one entry of testdata/goldens.bin.gz, which make_goldens.py
// writes: blocks and floats, of which one is the decoded or encoded other.
type golden struct {
	Op, Type      string
	Bytes, Floats int
	blocks        []byte
	values        []float32
	dtype         DType
}

func goldens(t *testing.T) []golden {
	t.Helper()
	f, err := os.Open("testdata/goldens.bin.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(z)
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(line, &all); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		g := &all[i]
		if g.dtype, err = Parse(g.Type); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, g.Bytes+4*g.Floats)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		g.blocks, g.values = b[:g.Bytes], make([]float32, g.Floats)
		F32.Decode(g.values, b[g.Bytes:])
	}
	return all
}

// Every type decodes to the same bits as by the gguf package and ggml.
func TestDecodeMatchesReference(t *testing.T) {
	seen := map[DType]bool{}
	for _, g := range goldens(t) {
		if g.Op != "decode" {
			continue
		}
		seen[g.dtype] = true
		got := make([]float32, g.Floats)
		g.dtype.Decode(got, g.blocks)
		for i, want := range g.values {
			if math.Float32bits(got[i]) != math.Float32bits(want) {
				t.Errorf("%s: weight %d of block %d: got %v, want %v", g.Type, i%g.dtype.BlockSize(), i/g.dtype.BlockSize(), got[i], want)
				break
			}
		}
	}
	for d := F32; d < count; d++ {
		if d.Weight() && d.BlockSize() > 1 && !seen[d] {
			t.Errorf("%v has no golden", d)
		}
	}
}

// Every quantiser writes the same bytes as ggml's reference quantiser.
func TestEncodeMatchesReference(t *testing.T) {
	seen := map[DType]bool{}
	for _, g := range goldens(t) {
		if g.Op != "encode" {
			continue
		}
		seen[g.dtype] = true
		got := bytes.Repeat([]byte{0xaa}, g.Bytes)
		g.dtype.Encode(got, g.values)
		n, size := g.dtype.BlockSize(), g.dtype.BlockBytes()
		for i := range g.Floats / n {
			if got, want := got[size*i:][:size], g.blocks[size*i:][:size]; !bytes.Equal(got, want) {
				t.Errorf("%s: block %d of %v:\n got %x\nwant %x", g.Type, i, g.values[n*i:][:n], got, want)
				break
			}
		}
	}
	for d := F32; d < count; d++ {
		if d.Weight() && d.BlockSize() > 1 && !seen[d] {
			t.Errorf("%v has no golden", d)
		}
	}
}
