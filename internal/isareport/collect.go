package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/synth"
	"pumice/model"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// intel is the vendor of the devices of tools/intel.sh.
const intel = "Intel"

// A shape is a model, with a KV cache of a type, whose plans are searched for kernels.
type shape struct {
	family, size string
	dtype, cache dtype.DType
}

// shapes returns every weight type in the shape of a 7B, SmolLM2, and one model of every family that
// GGUF knows, these with KV caches of each of some types: together they use every option of a kernel.
func shapes(caches []dtype.DType) []shape {
	list := []shape{{"llama", "135m", dtype.Q4_1, caches[0]}}
	for _, t := range kernels.WeightTypes() {
		list = append(list, shape{"llama", "2-7b", t, caches[0]})
	}
	for _, family := range synth.Families() {
		if slices.Contains(synth.Formats(family), synth.GGUF) {
			for _, t := range caches {
				list = append(list, shape{family, synth.Sizes(family)[0], dtype.F16, t})
			}
		}
	}
	return list
}

// device opens the machine's device. The function closes it.
func device() (*vk.Device, func() error, error) {
	in, err := vk.NewInstance(vk.InstanceOptions{Logger: zerolog.Nop()})
	if err != nil {
		return nil, nil, err
	}
	devices, err := in.Devices()
	if err == nil {
		var pd *vk.PhysicalDevice
		if pd, err = vk.Select(devices, ""); err == nil {
			var dev *vk.Device
			if dev, err = pd.Open(vk.DeviceOptions{}); err == nil {
				return dev, in.Close, nil
			}
		}
	}
	in.Close()
	return nil, nil, err
}

// list writes into a file the kernels that collect compiles: those that plans would use on the machine's device, and, if library
// is not "", those of the peer.
func list(ctx context.Context, file, library string) error {
	dev, done, err := device()
	if err != nil {
		return err
	}
	defer done()
	kernels, err := production(ctx, dev)
	if err != nil {
		return err
	}
	if library != "" {
		theirs, err := peer(library, dev.PhysicalDevice())
		if err != nil {
			return err
		}
		kernels = append(kernels, theirs...)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(out).Encode(kernels), out.Close())
}

// collect compiles one of several shards of what list has written.
func collect(file string, shard, shards int) ([]Record, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var kernels []pipeline.KernelUse
	if err := gob.NewDecoder(bufio.NewReader(in)).Decode(&kernels); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	kernels = kernels[len(kernels)*shard/shards : len(kernels)*(shard+1)/shards]
	dev, done, err := device()
	if err != nil {
		return nil, err
	}
	defer done()
	records := make([]Record, len(kernels))
	errs := make([]error, len(kernels))
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for i, k := range kernels {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			records[i], errs[i] = compile(dev, k)
		})
	}
	wg.Wait()
	return records, errors.Join(errs...)
}

// production lists the kernels of all shapes, for the paths that the rules choose for the device and
// for each path that can be forced.
func production(ctx context.Context, dev *vk.Device) ([]pipeline.KernelUse, error) {
	dir, err := os.MkdirTemp("", "isareport")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var list []pipeline.KernelUse
	seen := map[string]bool{}
	chosen, err := pipeline.NewManager(dev, pipeline.Options{})
	if err != nil {
		return nil, err
	}
	defer chosen.Close()
	paths, caches := []kernels.Path{""}, kernels.CacheTypes
	if dev.PhysicalDevice().Vendor != intel { // whose table has what rules choose, for every cache
		paths, caches = append(paths, chosen.Paths()...), []dtype.DType{dtype.F16}
	}
	var managers []*pipeline.Manager
	for _, path := range paths {
		m, err := pipeline.NewManager(dev, pipeline.Options{Path: path})
		if err != nil {
			return nil, err
		}
		defer m.Close()
		managers = append(managers, m)
	}
	for _, s := range shapes(caches) {
		kernels, err := s.kernels(ctx, managers, dir)
		if err != nil {
			return nil, fmt.Errorf("%s %s %s: %w", s.family, s.size, s.dtype, err)
		}
		for _, k := range kernels {
			if !seen[k.Config.Name] {
				seen[k.Config.Name] = true
				list = append(list, k)
			}
		}
	}
	return list, nil
}

// kernels lists those that the managers plan with. The file, which is what takes long, is made once for all.
func (s shape) kernels(ctx context.Context, managers []*pipeline.Manager, dir string) ([]pipeline.KernelUse, error) {
	file, err := synth.WriteHollow(ctx, dir, s.family, s.size, s.dtype)
	if err != nil {
		return nil, err
	}
	c, err := checkpoint.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var list []pipeline.KernelUse
	for _, m := range managers {
		kernels, err := model.Kernels(m, c, model.Options{KVType: s.cache, Logger: zerolog.Nop()})
		if err != nil {
			return nil, err
		}
		list = append(list, kernels...)
	}
	return list, nil
}

// A Record has the statistics of one kernel from a device's compiler.
type Record struct {
	pipeline.KernelStats
	Kernel      string // name with constants
	Variant     string
	Matrix, Dot bool // has instructions for matrices, for dot products of bytes
	Weights     int  // weights per iteration of the main loop
	Products    int  // an invocation's multiply-adds there, of products of several tokens and attention
	Loop        Work
}

// compile makes a pipeline and reads the compiler's statistics and assembly.
func compile(dev *vk.Device, k pipeline.KernelUse) (Record, error) {
	stats, texts, err := k.Compile(dev)
	r := Record{KernelStats: stats, Kernel: k.Config.Name, Variant: k.Variant, Weights: k.Trip.Weights, Products: k.Trip.Products}
	if err != nil {
		return r, err
	}
	if dev.PhysicalDevice().Vendor == intel { // whose loops are not counted
		text := texts["GEN Assembly"]
		if text == "" {
			return r, fmt.Errorf("%s: the driver shows no assembly", k.Config.Name)
		}
		r.Matrix, r.Dot = intelMatrix.MatchString(text), intelDot.MatchString(text)
		return r, nil
	}
	blocks := parseRADV(texts["Assembly"])
	if text, ok := texts["NAK assembly"]; ok {
		blocks = parseNAK(text)
	}
	if len(blocks) == 0 || r.Instructions == 0 {
		return r, fmt.Errorf("%s: the driver shows no assembly", k.Config.Name)
	}
	r.Matrix, r.Dot = has(blocks, matrixInstruction), has(blocks, dotInstruction)
	known := true
	if r.Loop, known = mainLoop(blocks, max(1, k.Trip.Inner), k.Trip.Loops); !known && 2*r.Loop.Pipes[fma] < r.Products {
		r.Products = 0 // not all loops are unrolled, if it has two multiply-adds an instruction at most
	}
	return r, nil
}
