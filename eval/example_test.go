package eval_test

import (
	"context"
	"fmt"

	"pumice"
	"pumice/eval"
)

// The example scores a model on one subject of MMLU, whose files are below data/mmlu.
func Example() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "smollm2", pumice.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer engine.Close()

	data := eval.Data{Root: "data"}
	task, err := data.Load("mmlu_astronomy")
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := eval.NewPlan(ctx, engine.Tokenizer(), []*eval.Task{task}, eval.PlanOptions{NumShots: eval.NumShots, MaxLength: engine.Context()})
	if err != nil {
		fmt.Println(err)
		return
	}
	entries, err := eval.Run(ctx, []*pumice.Engine{engine}, plan.Requests, nil, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range eval.Summarize(plan, plan.Requests, entries) {
		fmt.Printf("%s: %d of %d right\n", t.Name, t.Correct, t.Scored)
	}
}
