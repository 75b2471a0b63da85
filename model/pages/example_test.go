package pages_test

import (
	"context"
	"fmt"

	"pumice/model/pages"
)

// nothing is a Mover for a device without content.
type nothing struct{}

func (nothing) Move(context.Context, []pages.Move) error { return nil }

// Two conversations with one system prompt, which is evaluated once.
func Example() {
	ctx := context.Background()
	pool, err := pages.New(pages.Options{PageSize: 4, Pages: [pages.Groups]int{pages.Global: 16}, Mover: nothing{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, prompt := range [][]int{{10, 11, 12, 13, 14, 15, 1}, {10, 11, 12, 13, 14, 15, 2, 3}} {
		s, err := pool.Acquire(ctx, prompt, len(prompt)-1, pages.Batched)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer s.Release()
		evaluate := prompt[s.Len():]
		changes, err := s.Reserve(ctx, len(evaluate))
		if err != nil {
			fmt.Println(err)
			return
		}
		// Here the device gets the changed entries of the page table and evaluates the tokens.
		fmt.Println("evaluate", evaluate, "at", s.Len(), "with", changes)
		if err := s.Commit(evaluate...); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(pool.Metrics().Groups[pages.Global])
	// Output:
	// evaluate [10 11 12 13 14 15 1] at 0 with [{global 0 1} {global 1 2}]
	// evaluate [2 3] at 6 with [{global 0 1} {global 1 2} {global 1 3}]
	// {3 0 12 0}
}
