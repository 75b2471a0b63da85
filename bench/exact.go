package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"pumice"
	"pumice/internal/atomicfile"
	"pumice/internal/regular"
)

// Exact probabilities are computed where they need at most exactProducts products of a weight and an activation for each processor
// that may run Go code, five to ten seconds' work. A large model has fewer of the text's tokens then, but at least exactPositions.
const (
	exactProducts  = 1e10
	exactPositions = 16
)

// AddExact has the reference compare with the exact probabilities of m, the same model, too, if it takes them seconds and not
// minutes: they are computed on the host in float64, from the weights in the file (pumice.Model.ExactLogits). dir, if it is not "",
// keeps them. computing is called before what takes a while.
func (r *Reference) AddExact(ctx context.Context, m *pumice.Model, dir string, computing func()) error {
	n := min(len(r.text), int(exactProducts*float64(runtime.GOMAXPROCS(0))/float64(max(m.Source().Parameters, 1))))
	if n < min(exactPositions, len(r.text)) {
		return nil
	}
	kept := ""
	if dir != "" {
		sum := sha256.New()
		fmt.Fprintln(sum, r.model, r.text[:n])
		kept = filepath.Join(dir, "exact-"+hex.EncodeToString(sum.Sum(nil))[:32])
		if r.exact = readExact(kept, n, m.Config().VocabSize); r.exact != nil {
			return nil
		}
	}
	computing()
	logits, err := m.ExactLogits(ctx, r.text[:n])
	if err != nil {
		return fmt.Errorf("bench: exact probabilities: %w", err)
	}
	for _, row := range logits {
		r.exact = append(r.exact, logSoftmax(row))
	}
	if kept == "" {
		return nil
	}
	return writeExact(kept, r.exact)
}

// writeExact keeps logarithms of probabilities in a file: float32s, and the SHA-256 of them before.
func writeExact(path string, rows [][]float32) error {
	var data bytes.Buffer
	for _, row := range rows {
		binary.Write(&data, binary.LittleEndian, row)
	}
	sum := sha256.Sum256(data.Bytes())
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = atomicfile.Replace(path, func(f *os.File) error {
			_, err := f.Write(sum[:])
			_, err2 := f.Write(data.Bytes())
			return errors.Join(err, err2)
		})
	}
	if err != nil {
		return fmt.Errorf("bench: keeping exact probabilities: %w", err)
	}
	return nil
}

// readExact is n rows of writeExact, nil if the file is not there or is not what was written.
func readExact(path string, n, vocab int) (rows [][]float32) {
	data, err := regular.ReadFile(path, sha256.Size+4*int64(n)*int64(vocab))
	if err != nil || len(data) != sha256.Size+4*n*vocab {
		return nil
	}
	data, want := data[sha256.Size:], data[:sha256.Size]
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], want) {
		return nil
	}
	for i := range n {
		row := make([]float32, vocab)
		binary.Decode(data[4*i*vocab:], binary.LittleEndian, row)
		rows = append(rows, row)
	}
	return rows
}
