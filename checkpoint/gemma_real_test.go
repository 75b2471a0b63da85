package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"pumice/internal/dtype"
)

// PUMICE_TEST_GEMMA is the path of gemma-3-270m-q4_k_m.gguf (253,113,024 bytes, SHA-256
// a5fd3b62...), whose matrices are Q4_K, Q5_0, Q6_K and Q8_0. Every tensor
// decodes to the same bits as by the gguf package: testdata/gemma.json has
// their hashes, written by internal/dtype/testdata/make_goldens.py.
func TestRealModelDecodesAsReference(t *testing.T) {
	path := os.Getenv("PUMICE_TEST_GEMMA")
	if path == "" {
		t.Skip("PUMICE_TEST_GEMMA is not set")
	}
	raw, err := os.ReadFile("testdata/gemma.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][2]string // the type and the hash of the float32s
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	if len(c.Names()) != len(want) {
		t.Errorf("%d tensors, want %d", len(c.Names()), len(want))
	}
	for _, name := range c.Names() {
		x, _ := c.Tensor(name)
		values := make([]float32, x.Cols())
		little := make([]byte, 4*x.Cols())
		h := sha256.New()
		for r := range x.Rows() {
			x.DType.Decode(values, x.Row(r, nil))
			dtype.F32.Encode(little, values)
			h.Write(little)
		}
		if got := [2]string{x.DType.String(), hex.EncodeToString(h.Sum(nil))}; got != want[name] {
			t.Errorf("%s: got %v, want %v", name, got, want[name])
		}
	}
}
