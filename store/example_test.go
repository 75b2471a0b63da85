package store_test

import (
	"fmt"
	"log"

	"pumice/store"
)

func ExampleParseRef() {
	r, err := store.ParseRef("hf:owner/name:Q4_K_M@v1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Repo, r.File, r.Revision)
	// Output: owner/name Q4_K_M v1
}

func ExampleChoose() {
	choice, err := store.Choose([]string{"README.md", "a-Q4_K_M.gguf", "a-Q8_0.gguf", "mmproj-a.gguf"}, "Q8_0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(choice.Files)
	// Output: [a-Q8_0.gguf]
}

func ExampleFind() {
	path, err := store.Find("ollama:llama3.2")
	if err != nil {
		log.Fatal(err) // ollama has not fetched it
	}
	fmt.Println(path)
}
