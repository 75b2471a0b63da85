package tokenizer_test

import (
	"context"
	"fmt"
	"log"

	"pumice/tokenizer"
)

func ExampleOpen() {
	tok, err := tokenizer.Open(context.Background(), "testdata/spm-llama")
	if err != nil {
		log.Fatal(err)
	}
	ids := tok.Encode("Hello world", tokenizer.EncodeOptions{AddSpecial: true})
	for _, id := range ids {
		fmt.Printf("%d %q\n", id, tok.Piece(id))
	}
	fmt.Printf("%q\n", tok.Decode(ids, true))
	// Output:
	// 1 "<s>"
	// 669 "▁H"
	// 351 "el"
	// 330 "lo"
	// 309 "▁w"
	// 265 "or"
	// 1586 "l"
	// 1587 "d"
	// "Hello world"
}

func ExampleTokenizer_Stream() {
	tok, err := tokenizer.Open(context.Background(), "testdata/xverse-a")
	if err != nil {
		log.Fatal(err)
	}
	s := tok.Stream()
	for _, id := range tok.Encode("hi 😀", tokenizer.EncodeOptions{}) {
		fmt.Printf("%q ", s.Next(id)) // a character of several byte tokens comes with the last
	}
	fmt.Printf("%q\n", s.Flush())
	// Output: "hi" " " "" "" "" "😀" ""
}
