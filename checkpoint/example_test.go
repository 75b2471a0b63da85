package checkpoint_test

import (
	"context"
	"fmt"
	"log"

	"pumice/checkpoint"
)

func ExampleOpen() {
	c, err := checkpoint.Open(context.Background(), "../testdata/fixtures/xverse")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	config := c.Config()
	hidden, eps := config.Int("hidden_size"), config.FloatOr("rms_norm_eps", 1e-6)
	if err := config.Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Format(), hidden, eps)

	t, _ := c.Tensor("model.embed_tokens.weight")
	fmt.Println(t.DType, t.Shape)
	row := make([]float32, t.Cols())
	err = checkpoint.Guard(func() error {
		t.DType.Decode(row, t.Row(7, nil))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(row[:3])
	// Output:
	// torch 128 1e-06
	// BF16 [613 128]
	// [-0.09765625 -0.076171875 1.8984375]
}
