// Uses pumice serve with OpenAI's Go client: URL MODEL TOOL-MODEL. It is a module of its own, so that pumice does not depend on
// the client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

func main() {
	log.SetFlags(0)
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal("openai-go: ", err)
	}
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/openai/openai-go/v3" {
				version = m.Version
			}
		}
	}
	fmt.Printf("openai-go %s: all right\n", version)
}

const capital = "The capital of France is Paris."

// run is the first thing that is not as it should be.
func run(ctx context.Context, url, model, coder string) error {
	client := openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	question := openai.ChatCompletionNewParams{Model: model, Temperature: openai.Float(0), MaxTokens: openai.Int(16),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is the capital of France?")}}
	whole, err := client.Chat.Completions.New(ctx, question)
	if err != nil {
		return err
	}
	if got := whole.Choices[0]; got.Message.Content != capital || got.FinishReason != "stop" {
		return fmt.Errorf("an answer: %s", whole.RawJSON())
	}
	question.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	var sum openai.ChatCompletionAccumulator
	stream := client.Chat.Completions.NewStreaming(ctx, question)
	for stream.Next() {
		if !sum.AddChunk(stream.Current()) {
			return fmt.Errorf("a chunk that does not add up: %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if sum.Choices[0].Message.Content != capital || sum.Usage.CompletionTokens != whole.Usage.CompletionTokens {
		return fmt.Errorf("a stream: %+v", sum.Choices)
	}

	schema := map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string", "maxLength": 20},
		"unit": map[string]any{"enum": []string{"celsius", "fahrenheit"}}}, "required": []string{"city", "unit"}, "additionalProperties": false}
	ask := openai.ChatCompletionNewParams{Model: coder, Temperature: openai.Float(0), MaxTokens: openai.Int(200),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is the weather in Oslo in celsius?")},
		Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "weather",
			Description: openai.String("Tells the weather in a city."), Strict: openai.Bool(true), Parameters: schema})},
		ToolChoice: openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "weather"})}
	var calls openai.ChatCompletionAccumulator
	finished := false
	stream = client.Chat.Completions.NewStreaming(ctx, ask)
	for stream.Next() {
		calls.AddChunk(stream.Current())
		if _, ok := calls.JustFinishedToolCall(); ok {
			finished = true
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	message := calls.Choices[0].Message
	var arguments struct{ City, Unit string }
	if len(message.ToolCalls) != 1 || !finished || calls.Choices[0].FinishReason != "tool_calls" ||
		json.Unmarshal([]byte(message.ToolCalls[0].Function.Arguments), &arguments) != nil || arguments.City != "Oslo" {
		return fmt.Errorf("a call: %+v", calls.Choices)
	}
	ask.Messages = append(ask.Messages, message.ToParam(), openai.ToolMessage("-3", message.ToolCalls[0].ID))
	ask.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("none")}
	after, err := client.Chat.Completions.New(ctx, ask)
	if err != nil {
		return err
	}
	if !strings.Contains(after.Choices[0].Message.Content, "-3") {
		return fmt.Errorf("after the call: %s", after.RawJSON())
	}

	format := openai.ChatCompletionNewParams{Model: model, Temperature: openai.Float(0), MaxTokens: openai.Int(300),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Describe the weather as JSON.")},
		ResponseFormat: openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "weather", Strict: openai.Bool(true), Schema: schema}}}}
	formatted, err := client.Chat.Completions.New(ctx, format)
	if err != nil {
		return err
	}
	if json.Unmarshal([]byte(formatted.Choices[0].Message.Content), &arguments) != nil || arguments.Unit != "celsius" && arguments.Unit != "fahrenheit" {
		return fmt.Errorf("a format: %s", formatted.RawJSON())
	}

	response, err := client.Responses.New(ctx, responses.ResponseNewParams{Model: model, Temperature: openai.Float(0), MaxOutputTokens: openai.Int(16),
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("What is the capital of France?")}})
	if err != nil {
		return err
	}
	if response.OutputText() != capital {
		return fmt.Errorf("a response: %s", response.RawJSON())
	}
	_, err = client.Responses.New(ctx, responses.ResponseNewParams{Model: model, PreviousResponseID: openai.String("resp_1"),
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("x")}})
	var refused *openai.Error
	if !errors.As(err, &refused) || refused.StatusCode != 400 || refused.Param != "previous_response_id" {
		return fmt.Errorf("a response that nobody keeps: %v", err)
	}

	vectors, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: model, Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}}})
	if err != nil {
		return err
	}
	if len(vectors.Data) != 2 || len(vectors.Data[0].Embedding) != len(vectors.Data[1].Embedding) {
		return fmt.Errorf("embeddings: %d", len(vectors.Data))
	}

	cancelled, cancel := context.WithCancel(ctx)
	question.MaxTokens = openai.Int(2000)
	stream = client.Chat.Completions.NewStreaming(cancelled, question, option.WithJSONSet("ignore_eos", true))
	for range 5 {
		stream.Next()
	}
	cancel()
	for stream.Next() {
	}
	if err := stream.Err(); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cancelled: %v", err)
	}
	return nil
}
