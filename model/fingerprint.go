package model

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"slices"

	"pumice/checkpoint"
	"pumice/pipeline/kernels"
)

// Fingerprint identifies what decides the keys and values of a text: configuration, weights as they were loaded, adapters,
// the type and layout of the KV cache. Of each tensor it has the name, type, shape and three samples of up to 4 KiB, so that
// large files need not be read again.
func (x *Model) Fingerprint() string { return x.fingerprint }

// layoutVersion changes when keys and values are laid out otherwise in a page.
const layoutVersion = 1

func (l *loading) fingerprint() (string, error) {
	h := sha256.New()
	cfg, err := json.Marshal(l.cfg)
	if err != nil {
		return "", fmt.Errorf("model: %w", err)
	}
	fmt.Fprintf(h, "%d %d %s %s %s\n", layoutVersion, kernels.PageSize, l.opts.DType, l.opts.KVType, cfg)
	var scales []string
	err = checkpoint.Guard(func() error {
		sampleTensors(h, l.file)
		for _, a := range l.adapters {
			for _, u := range a.updates {
				scales = append(scales, fmt.Sprint(u.scale))
			}
			sampleTensors(h, a.c)
		}
		return nil
	})
	slices.Sort(scales)
	fmt.Fprintln(h, scales)
	return hex.EncodeToString(h.Sum(nil)), err
}

// sampleTensors adds a checkpoint's tensors to a hash.
func sampleTensors(h hash.Hash, c *checkpoint.Checkpoint) {
	const most = 4 << 10
	for _, name := range c.Names() {
		t, ok := c.Tensor(name)
		if !ok || t.Rows() == 0 {
			continue
		}
		fmt.Fprintln(h, name, t.DType, t.Shape)
		for _, row := range []int{0, t.Rows() / 2, t.Rows() - 1} {
			b := t.Row(row, nil)
			h.Write(b[:min(len(b), most)])
		}
	}
}
