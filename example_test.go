package pumice_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"slices"
	"sync"

	"pumice"
	"pumice/chat"
)

// Token ids in, token ids out: for a program with its own tokenizer, or a model without one.
func Example() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	session := engine.NewSession()
	for token, err := range session.Generate(ctx, []int{51}, pumice.GenerateOptions{MaxTokens: 8}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(token.ID, " ")
	}
	fmt.Println(session.Result().FinishReason)
	// Prints: 165 336 485 50 91 63 227 204 length
}

// A question and its answer.
func ExampleEngine_EncodeChat() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "smollm2", pumice.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	messages := []chat.Message{{Role: "user", Content: "What is the capital of France?"}}
	prompt, err := engine.EncodeChat(ctx, messages, chat.Options{})
	if err != nil {
		log.Fatal(err)
	}
	options := pumice.GenerateOptions{MaxTokens: 64, Sampling: engine.SamplingDefaults()}
	for token, err := range engine.NewSession().Generate(ctx, prompt.IDs, options) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(token.Text)
	}
}

// A conversation: the second prompt contains the first turn, which the cache still holds.
func ExampleSession_Generate_chat() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "smollm2", pumice.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	session := engine.NewSession()
	var messages []chat.Message
	for _, question := range []string{"What is the capital of France?", "And of Italy?"} {
		messages = append(messages, chat.Message{Role: "user", Content: question})
		prompt, err := engine.EncodeChat(ctx, messages, chat.Options{})
		if err != nil {
			log.Fatal(err)
		}
		options := pumice.GenerateOptions{MaxTokens: 64, Sampling: engine.SamplingDefaults()}
		for token, err := range session.Generate(ctx, prompt.IDs, options) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Print(token.Text)
		}
		result := session.Result()
		fmt.Printf("\n%d tokens reused, %.1f tokens/s\n", result.Stats.CachedN, result.Stats.PredictedPerSecond)
		messages = append(messages, chat.Message{Role: "assistant", Content: result.Text})
	}
}

// Several conversations at once: their steps read the weights together, and what their texts have in common at the
// beginning is evaluated once.
func ExampleEngine_NewSession() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	answers := make([][]int, 2)
	var wait sync.WaitGroup
	for i, prompt := range [][]int{{51}, {51, 165}} {
		wait.Go(func() {
			session := engine.NewSession()
			for _, err := range session.Generate(ctx, prompt, pumice.GenerateOptions{MaxTokens: 4}) {
				if err != nil {
					log.Fatal(err)
				}
			}
			answers[i] = session.Result().Tokens
		})
	}
	wait.Wait()
	fmt.Println(answers)
	// Prints: [[165 336 485 50] [336 485 50 91]]
}

// One token at a time, for callers that decide when: the session keeps its place in the KV cache until Close.
func ExampleSession_Start() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	request := pumice.Request{Prompt: []int{51}, GenerateOptions: pumice.GenerateOptions{MaxTokens: 3}}
	generation, err := engine.NewSession().Start(request)
	if err != nil {
		log.Fatal(err)
	}
	defer generation.Close()
	for {
		token, err := generation.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(token.ID, " ")
	}
	fmt.Println(generation.Result().FinishReason)
	// Prints: 165 336 485 length
}

// A decoding loop of one's own: of two texts at once, each takes the likeliest token that it does not have yet. A token
// costs one evaluation, since the cache has what came before.
func ExampleSession_Logits_decoding() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	texts := [][]int{{51}, {627, 87}}
	sessions := []*pumice.Session{engine.NewSession(), engine.NewSession()}
	var wait sync.WaitGroup
	for i, session := range sessions {
		wait.Go(func() {
			for range 5 {
				for row, err := range session.Logits(ctx, texts[i], false) {
					if err != nil {
						log.Fatal(err)
					}
					best := -1
					for id, logit := range row {
						if !slices.Contains(texts[i], id) && (best < 0 || logit > row[best]) {
							best = id
						}
					}
					texts[i] = append(texts[i], best)
				}
			}
		})
	}
	wait.Wait()
	fmt.Println(texts[0], len(texts[1]))
	// Prints: [51 165 336 485 50 91] 7
}

// Guessing with a smaller model of the same vocabulary, on the same device: the greedy tokens are those of the larger
// one alone.
func ExampleNewEngineDrafter() {
	ctx := context.Background()
	target, err := pumice.Open(ctx, "models/SmolLM2-1.7B-Instruct", pumice.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer target.Close()
	draft, err := pumice.Open(ctx, "smollm2", pumice.Options{On: target.Devices(), Context: target.Context()})
	if err != nil {
		log.Fatal(err)
	}
	defer draft.Close()
	drafter, err := pumice.NewEngineDrafter(target, draft)
	if err != nil {
		log.Fatal(err)
	}

	prompt, err := target.Encode("Once upon a time")
	if err != nil {
		log.Fatal(err)
	}
	session := target.NewSession()
	for token, err := range session.Generate(ctx, prompt, pumice.GenerateOptions{MaxTokens: 64, Drafter: drafter}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(token.Text)
	}
	stats := session.Result().Stats
	fmt.Printf("\n%d of %d guesses were right\n", stats.DraftNAccepted, stats.DraftN)
}

// Logits yields one row for each position of the prompt.
func ExampleSession_Logits() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	for row, err := range engine.NewSession().Logits(ctx, []int{314, 438, 421}, true) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(row))
	}
	// Prints 640 three times.
}

// LogProbs says how likely each token of a text is after those before it, and which one would have been likeliest.
func ExampleSession_LogProbs() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	probs, err := engine.NewSession().LogProbs(ctx, []int{51, 165, 336, 485, 50}, 1)
	if err != nil {
		log.Fatal(err)
	}
	sum := 0.0
	for _, p := range probs {
		fmt.Print(p.ID, " ", p.Top[0].ID, " ")
		sum += p.LogProb
	}
	fmt.Println(sum < 0)
	// Prints: 165 165 336 336 485 485 50 50 true
}

// Questions with a common beginning: it is evaluated once, and their ends several at a time.
func ExampleSession_Score() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "testdata/fixtures/llama", pumice.Options{DType: "f32", KVType: "f32"})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	session := engine.NewSession()
	for logits, err := range session.Score(ctx, []int{51}, [][]int{{165}, {165, 336}, {165, 336, 485}}) {
		if err != nil {
			log.Fatal(err)
		}
		best := 0
		for id, x := range logits {
			if x > logits[best] {
				best = id
			}
		}
		fmt.Print(best, " ")
	}
	// Prints: 336 485 50
}

// How much texts have in common is the product of their embeddings: both have length 1.
func ExampleEngine_Embed() {
	ctx := context.Background()
	engine, err := pumice.Open(ctx, "Qwen3-Embedding-0.6B", pumice.Options{}) // a directory
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	result, err := engine.Embed(ctx, []string{"Which rock floats?", "Pumice floats on water."}, pumice.EmbedOptions{})
	if err != nil {
		log.Fatal(err)
	}
	similarity := float32(0)
	for i, x := range result.Vectors[0] {
		similarity += x * result.Vectors[1][i]
	}
	fmt.Printf("%d dimensions, pooled by %s: %.2f\n", len(result.Vectors[0]), result.Pooling, similarity)
}

// What a model is, and how much memory it would take, is known before it is loaded.
func ExampleOpenModel() {
	ctx := context.Background()
	model, err := pumice.OpenModel(ctx, "testdata/fixtures/llama")
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	options := pumice.Options{Context: 256}
	check, err := model.CheckMemory(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	if !check.Fits {
		options.DType = check.Would.DType
	}
	engine, err := model.Load(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	fmt.Println(model.Config().Family, model.Source().Format, check.Fits, engine.Context())
	// Prints: llama safetensors true 256
}

// Two models on one device: their steps take turns, and the second has the memory that the first leaves.
func ExampleOpenDevice() {
	ctx := context.Background()
	device, err := pumice.OpenDevice(pumice.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close() // after the engines
	var engines []*pumice.Engine
	for _, name := range []string{"testdata/fixtures/llama", "testdata/fixtures/smollm2"} {
		engine, err := pumice.Open(ctx, name, pumice.Options{On: []*pumice.Device{device}, Context: 256})
		if err != nil {
			log.Fatal(err)
		}
		defer engine.Close()
		engines = append(engines, engine)
	}
	for _, engine := range engines {
		fmt.Println(engine.Config().Family, engine.Devices()[0] == device)
	}
	// Prints: llama true llama true
}

func ExampleDevices() {
	devices, err := pumice.Devices(pumice.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range devices {
		fmt.Printf("%d %s (%s, %s): %d MiB free\n", d.Index, d.Name, d.Type, d.Driver, d.MemoryFree>>20)
	}
}
