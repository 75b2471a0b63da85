package hub_test

import (
	"context"
	"fmt"
	"log"

	"pumice/hub"
	"pumice/store"
)

func ExampleClient_Pull() {
	options, err := hub.Environment()
	if err != nil {
		log.Fatal(err)
	}
	options.Progress = func(done, total int64) { fmt.Printf("\r%d of %d bytes", done, total) }
	client, err := hub.New(options)
	if err != nil {
		log.Fatal(err)
	}
	pulled, err := client.Pull(context.Background(), store.Ref{Repo: "owner/name", File: "Q4_K_M"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pulled.Models) // names that store.Find and pumice.Open take
}
