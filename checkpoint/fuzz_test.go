package checkpoint

import (
	"context"
	"errors"
	"testing"

	"pumice/internal/bounded"
)

// checkParsed checks properties that hold for any input: the error is typed, or
// every tensor is inside the file and its rows can be read.
func checkParsed(t *testing.T, tensors []*Tensor, size int, err error) {
	t.Helper()
	if err != nil {
		if !isTyped(err) && !errors.Is(err, context.Canceled) {
			t.Errorf("untyped error: %v", err)
		}
		return
	}
	for _, x := range tensors {
		if x.Offset < 0 || x.Offset+int64(len(x.Data)) > int64(size) {
			t.Errorf("%s: %d bytes at %d of %d", x.Name, len(x.Data), x.Offset, size)
			return
		}
		if x.NumBytes() > int64(size) {
			t.Errorf("%s: %d bytes in a file of %d", x.Name, x.NumBytes(), size)
			return
		}
		if x.DType.BlockSize() == 0 || x.Rows() > 1<<10 || x.Cols() > 1<<10 {
			continue
		}
		for i := range x.Rows() {
			if got := len(x.Row(i, nil)); int64(got) != x.DType.RowBytes(x.Cols()) {
				t.Errorf("%s: a row of %d bytes", x.Name, got)
				return
			}
		}
	}
}

// small adds those seeds that are quick to mutate.
func small(f *testing.F, cases []hostile) {
	for _, h := range cases {
		if len(h.data) <= 1<<12 {
			f.Add(h.data)
		}
	}
}

func FuzzSafetensors(f *testing.F) {
	small(f, hostileSafetensors())
	f.Add(safetensorsBytes(`{"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}`, 8))
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Run(t, len(data), func(ctx context.Context) {
			tensors, err := parseSafetensors(ctx, "x.safetensors", data)
			checkParsed(t, tensors, len(data), err)
		})
	})
}

func FuzzTorch(f *testing.F) {
	small(f, hostileTorch())
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Run(t, len(data), func(ctx context.Context) {
			tensors, err := parseTorch(ctx, "x.bin", data)
			checkParsed(t, tensors, len(data), err)
		})
	})
}

// FuzzPickle mutates only the pickle, which in an archive has a checksum.
func FuzzPickle(f *testing.F) {
	f.Add(stateDict(pickled{"w", "HalfStorage", "0", 8, 1, []int{2, 3}, []int{1, 2}}))
	for _, h := range hostileTorch() {
		entries, err := parseZip(f.Context(), "x.bin", h.data)
		if p := entries["m/data.pkl"]; err == nil && p != nil && len(p.data) <= 1<<12 {
			f.Add(p.data)
		}
	}
	f.Fuzz(func(t *testing.T, pickle []byte) {
		data := torchBytes(pickle, counting(4))
		bounded.Run(t, len(data), func(ctx context.Context) {
			tensors, err := parseTorch(ctx, "x.bin", data)
			checkParsed(t, tensors, len(data), err)
		})
	})
}

func FuzzGGUF(f *testing.F) {
	small(f, hostileGGUF())
	f.Add(craftGGUF(3, 1, 3, "general.alignment", uint32(4), uint32(8), "t", uint32(9), uint32(8), uint64(2), "a", "b", "f", uint32(6), float32(1),
		"w", uint32(2), uint64(2), uint64(1), uint32(0), uint64(0), make([]byte, 16)))
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Run(t, len(data), func(ctx context.Context) {
			g, err := parseGGUF(ctx, "x.gguf", data)
			if err != nil {
				checkParsed(t, nil, 0, err)
				return
			}
			checkParsed(t, g.tensors, len(data), nil)
			readAll(t, func() *Fields { return &Fields{file: "x.gguf", source: g.pairs, first: new(error)} })
		})
	})
}

func FuzzConfig(f *testing.F) {
	small(f, hostileConfig())
	small(f, hostileIndex())
	f.Add([]byte(`{"hidden_size": 4096, "eps": 1e-6, "eos": [2, 3], "tie": false, "rope": {"factor": 8.0}, "none": null, "names": ["a"]}`))
	f.Add([]byte(`[{"type": "Pooling", "path": "1_Pooling"}, {}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		bounded.Run(t, len(data), func(ctx context.Context) {
			if _, err := parseIndex(ctx, "index.json", data); err != nil {
				checkParsed(t, nil, 0, err)
			}
			list, err := parseList("modules.json", data)
			if err != nil {
				checkParsed(t, nil, 0, err)
			}
			for _, f := range list {
				f.Keys()
			}
			fields, err := NewFields("config.json", data)
			if err != nil {
				checkParsed(t, nil, 0, err)
				return
			}
			readAll(t, func() *Fields { return &Fields{file: fields.file, source: fields.source, first: new(error)} })
		})
	})
}

// readAll reads every key in every way, each on fresh fields.
func readAll(t *testing.T, fresh func() *Fields) {
	t.Helper()
	reads := []func(f *Fields, key string){
		func(f *Fields, key string) { f.Int(key) }, func(f *Fields, key string) { f.FloatOr(key, 1) }, func(f *Fields, key string) { f.Bool(key) },
		func(f *Fields, key string) { f.StringOr(key, "") }, func(f *Fields, key string) { f.Ints(key) }, func(f *Fields, key string) { f.Strings(key) },
		func(f *Fields, key string) { f.Floats(key) }, func(f *Fields, key string) { f.Bytes(key) }, func(f *Fields, key string) { f.Describe(key) },
		func(f *Fields, key string) {
			if o := f.Object(key); o != nil {
				for _, k := range o.Keys() {
					o.Int(k)
				}
			}
		},
	}
	for i, key := range fresh().Keys() {
		if i == 20 {
			break
		}
		for _, read := range reads {
			f := fresh()
			read(f, key)
			if err := f.Err(); err != nil && !isTyped(err) {
				t.Errorf("%s: untyped error: %v", key, err)
				return
			}
		}
	}
}
