// Command hashes prints hashes of what models compute on a device: of the bits of logits and of the tokens that are
// chosen, with the counters, a line for each checkpoint, kernel path, type of the KV cache and way of evaluating. Two
// revisions compute the same if they print the same on one machine; tools/hashes.sh compares them.
//
//	VK_DRIVER_FILES=... go run ./tools/hashes CHECKPOINT...
//
// Hashes of different drivers and processors differ: sums are formed in another order, and products are contracted or
// not.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/model"
	"pumice/model/pages"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: hashes CHECKPOINT...")
		os.Exit(2)
	}
	if err := checkpoint.Guard(func() error { return run(context.Background(), os.Args[1:]) }); err != nil {
		fmt.Fprintln(os.Stderr, "hashes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, files []string) (err error) {
	in, err := vk.NewInstance(vk.InstanceOptions{Logger: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	devices, err := in.Devices()
	if err != nil {
		return err
	}
	pd, err := vk.Select(devices, os.Getenv("PUMICE_DEVICE"))
	if err != nil {
		return err
	}
	dev, err := pd.Open(vk.DeviceOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	fmt.Println("#", pd.Name)
	var paths []kernels.Path
	if err := withManager(dev, kernels.Base, func(m *pipeline.Manager) error {
		paths = m.Paths()
		return nil
	}); err != nil {
		return err
	}
	for _, path := range paths {
		if err := withManager(dev, path, func(m *pipeline.Manager) error {
			for _, file := range files {
				for _, kv := range kernels.CacheTypes {
					if err := hashes(ctx, m, file, kv); err != nil {
						return fmt.Errorf("%s, %s, KV cache of %s: %w", file, path, kv, err)
					}
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func withManager(dev *vk.Device, path kernels.Path, use func(*pipeline.Manager) error) (err error) {
	m, err := pipeline.NewManager(dev, pipeline.Options{Path: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return use(m)
}

// hashes evaluates tokens in every way that a model has. The context is long enough that attention divides its keys,
// and the prompt longer than the windows and chunks of small models.
func hashes(ctx context.Context, m *pipeline.Manager, file string, kv dtype.DType) (err error) {
	c, err := checkpoint.Open(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	x, err := model.Load(ctx, c, model.Options{Context: 600, Chunk: 64, KVType: kv, Logger: zerolog.Nop()}, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	q, err := x.Pages().Acquire(ctx, nil, 0, pages.Batched)
	if err != nil {
		return err
	}
	defer q.Release()
	tokens := make([]int, 150)
	for i := range tokens {
		tokens[i] = (7*i + i*i%13 + 3) % x.Config().VocabSize
	}
	line := func(way string, h fmt.Stringer, counters pipeline.Counters) {
		counters.Records = 0 // whether a plan was there already
		fmt.Println(filepath.Base(file), m.Options().Path, kv, way, h, counters)
	}
	if x.Config().Encoder {
		out, err := x.Score(ctx, q, [][]int{tokens[:1], tokens[1:40], tokens[40:100]}, model.Tail{Rows: model.EveryRow, Hidden: true})
		var hidden digest
		hidden.floats(out.Hidden)
		line("texts", hidden, out.Counters)
		return err
	}
	logits := model.Tail{Rows: model.LastRows, Logits: true}
	var rows, tokensHash, steps digest
	var counted pipeline.Counters
	end := 0
	for _, n := range []int{40, 2, 70, 9, 29} {
		out, err := x.Run(ctx, []model.Span{{Sequence: q, Tokens: tokens[end : end+n]}}, logits)
		if err != nil {
			return err
		}
		rows.floats(out.Logits)
		counted.Add(out.Counters)
		end += n
	}
	line("prompt", rows, counted)

	token, counted := tokens[end-1], pipeline.Counters{}
	for range 4 {
		out, err := x.Run(ctx, []model.Span{{Sequence: q, Tokens: []int{token}}}, logits)
		if err != nil {
			return err
		}
		steps.floats(out.Logits)
		counted.Add(out.Counters)
		token = largest(out.Logits)
		tokensHash.ints(token)
	}
	line("steps", steps, counted)
	counted = pipeline.Counters{}
	for _, n := range []int{1, 5, 3} {
		n = min(n, x.MaxSteps())
		out, err := x.Decode(ctx, q, token, n, nil)
		if err != nil {
			return err
		}
		for i, choice := range out.Choices {
			tokensHash.ints(choice.ID)
			if token = choice.ID; i < n-1 {
				if err := q.Commit(token); err != nil {
					return err
				}
			}
		}
		counted.Add(out.Counters)
	}
	counted.Submits = 0 // the time that steps take decides how many are submitted at once
	line("tokens", tokensHash, counted)

	var tails digest
	out, err := x.Score(ctx, q, [][]int{tokens[3:4], tokens[20:37], tokens[50:59]}, logits)
	if err != nil {
		return err
	}
	tails.floats(out.Logits)
	line("sequences", tails, out.Counters)
	return nil
}

func largest(logits []float32) int {
	best := 0
	for id, v := range logits {
		if v > logits[best] {
			best = id
		}
	}
	return best
}

// A digest is an FNV-1a hash of numbers.
type digest struct{ sum uint64 }

func (d *digest) add(word uint32) {
	h := fnv.New64a()
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], d.sum)
	binary.LittleEndian.PutUint32(b[8:], word)
	h.Write(b[:])
	d.sum = h.Sum64()
}

func (d *digest) floats(list []float32) {
	for _, v := range list {
		d.add(math.Float32bits(v))
	}
}

func (d *digest) ints(list ...int) {
	for _, v := range list {
		d.add(uint32(v))
	}
}

func (d digest) String() string { return fmt.Sprintf("%016x", d.sum) }
