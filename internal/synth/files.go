package synth

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"pumice/internal/atomicfile"
	"pumice/internal/ggufwrite"
)

// defaultShardBytes is the size of shards that transformers wrote when these families were published.
const defaultShardBytes = 5e9

// writeDirectory writes config.json, generation_config.json, and safetensors: one file, or several shards with an
// index.
func writeDirectory(dir string, config map[string]any, tensors []tensor, o Options, d *drawer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	config["torch_dtype"] = torchNames[o.DType]
	if err := writeJSON(filepath.Join(dir, "config.json"), config); err != nil {
		return err
	}
	generation := map[string]any{}
	for _, key := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
		if id, ok := config[key]; ok {
			generation[key] = id
		}
	}
	if err := writeJSON(filepath.Join(dir, "generation_config.json"), generation); err != nil {
		return err
	}
	limit := o.ShardBytes
	if limit == 0 {
		limit = defaultShardBytes
	}
	shards := cut(tensors, limit)
	if len(shards) == 1 {
		return writeSafetensors(filepath.Join(dir, "model.safetensors"), shards[0], d)
	}
	files := map[string]string{}
	for i, shard := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		for j := range shard {
			files[shard[j].name] = name
		}
		if err := writeSafetensors(filepath.Join(dir, name), shard, d); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(dir, "model.safetensors.index.json"),
		map[string]any{"metadata": map[string]any{"total_size": d.total}, "weight_map": files})
}

// cut splits tensors into shards of at most limit bytes, or of one tensor.
func cut(tensors []tensor, limit int64) [][]tensor {
	var shards [][]tensor
	var size int64
	first := 0
	for i := range tensors {
		n := tensors[i].bytes()
		if i > first && size+n > limit {
			shards = append(shards, tensors[first:i])
			first, size = i, 0
		}
		size += n
	}
	return append(shards, tensors[first:])
}

func writeSafetensors(path string, tensors []tensor, d *drawer) error {
	type entry struct {
		DType   string   `json:"dtype"` // the names of F32, F16 and BF16 are GGUF's too
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var offset int64
	for i := range tensors {
		t := &tensors[i]
		header[t.name] = entry{t.dtype.String(), t.shape(), [2]int64{offset, offset + t.bytes()}}
		offset += t.bytes()
	}
	text, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ') // tensors start on a multiple of 8
	}
	return create(path, func(w io.Writer) error {
		if err := binary.Write(w, binary.LittleEndian, uint64(len(text))); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		for i := range tensors {
			if err := d.write(w, &tensors[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	return create(path, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// create writes a file that must not exist yet.
func create(path string, write func(w io.Writer) error) error {
	err := atomicfile.Create(path, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 1<<20)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	})
	if err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	return nil
}

func writeGGUF(path string, meta []ggufwrite.KV, tensors []tensor, o Options, d *drawer) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	write := ggufwrite.Write
	if o.Hollow {
		write = ggufwrite.WriteHollow
	}
	if err := atomicfile.Create(path, func(f *os.File) error { return write(f.Name(), meta, filled(tensors, d)) }); err != nil {
		return fmt.Errorf("synth: %w", err)
	}
	return nil
}

// filled are the tensors of a GGUF file.
func filled(tensors []tensor, d *drawer) (list []ggufwrite.Tensor) {
	for i := range tensors {
		t := &tensors[i]
		list = append(list, ggufwrite.Tensor{Name: t.name, DType: t.dtype, Shape: t.shape(),
			Fill: func(w io.Writer) error { return d.write(w, t) }})
	}
	return list
}
