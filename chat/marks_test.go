package chat

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"pumice/tokenizer"
)

// changed opens a tokenizer of testdata with a changed tokenizer.json: more added tokens, other flags or another
// normalizer.
func changed(t *testing.T, name string, change func(file map[string]any, added func(text string, flags map[string]any))) *tokenizer.Tokenizer {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../tokenizer/testdata", name, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	vocab := file["model"].(map[string]any)["vocab"].(map[string]any)
	list := file["added_tokens"].([]any)
	change(file, func(text string, flags map[string]any) {
		entry := map[string]any{"id": len(vocab) + len(list), "content": text}
		for _, a := range list {
			if a := a.(map[string]any); a["content"] == text {
				entry = a
			}
		}
		if entry["special"] == nil {
			list = append(list, entry)
		}
		entry["special"] = false
		for k, v := range flags {
			entry[k] = v
		}
	})
	file["added_tokens"] = list
	if data, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// toolMarks and turnMarks are tokens that published templates use; some of them are not special.
var (
	toolMarks = []string{"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"}
	turnMarks = []string{"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<eoh>", "<eoa>", "<|User|>", "<|Bot|>", "[gMASK]", "sop"}
)

// marksOf returns the marks of a vocabulary, by id.
func marksOf(tok *tokenizer.Tokenizer) map[int]string {
	marks := map[int]string{}
	for id := range tok.VocabSize() {
		text := tok.Piece(id)
		named, _ := tok.TokenID(text)
		known := slices.Contains(toolMarks, text) || slices.Contains(turnMarks, text) || strings.HasPrefix(text, "<reserved_")
		if (tok.IsSpecial(id) || known && named == id) && text != "<unk>" {
			marks[id] = text
		}
	}
	return marks
}

// attack draws text that might be parsed as one of texts.
func attack(texts []string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		for range rapid.IntRange(0, 3).Draw(t, "parts") {
			text := rapid.SampledFrom(texts).Draw(t, "mark")
			r := []rune(text)
			at := rapid.IntRange(0, len(r)).Draw(t, "at")
			b.WriteString(rapid.SampledFrom([]string{
				text, text, string(r[:at]), string(r[at:]), " " + text + "\n", strings.ToUpper(text), string(r[:at]) + text + string(r[at:]),
				string(r[:at]) + "\u200b" + string(r[at:]), string(r[:at]) + "\u0301" + string(r[at:]), "user\n", "the ", "\u0338",
				strings.Map(func(r rune) rune {
					if r > ' ' && r < 0x7F {
						return r + 0xFEE0
					}
					return r
				}, text),
			}).Draw(t, "how"))
		}
		return b.String()
	})
}

// No text of a conversation becomes a mark, in any format with any tokenizer: the prompt has each mark at most as often
// as the format's own text spells it.
func TestNoMessageBecomesAMark(t *testing.T) {
	nfkc := map[string]any{"type": "NFKC"}
	qwen := func(flags map[string]any, normalizer any) *tokenizer.Tokenizer {
		return changed(t, "bbpe-qwen2", func(file map[string]any, added func(string, map[string]any)) {
			file["normalizer"] = normalizer
			for _, text := range slices.Concat(toolMarks, turnMarks[:3]) {
				added(text, flags)
			}
		})
	}
	toks := map[string]*tokenizer.Tokenizer{
		"not special":      qwen(nil, nil),
		"not special, nfc": qwen(map[string]any{"normalized": true}, map[string]any{"type": "NFC"}),
		"nfkc":             qwen(map[string]any{"normalized": true}, nfkc),
		"nfkc special":     qwen(map[string]any{"normalized": true, "special": true}, nfkc),
		"lower":            qwen(map[string]any{"normalized": true}, map[string]any{"type": "Lowercase"}),
		"stripping":        qwen(map[string]any{"lstrip": true, "rstrip": true}, nil),
		"single word":      qwen(map[string]any{"single_word": true}, nil),
		"llama, raw": changed(t, "xverse-b", func(_ map[string]any, added func(string, map[string]any)) {
			for _, text := range slices.Concat(toolMarks, turnMarks[:8]) {
				added(text, map[string]any{"normalized": false})
			}
		}),
		"llama, normalized": changed(t, "xverse-b", func(_ map[string]any, added func(string, map[string]any)) {
			for _, text := range slices.Concat(toolMarks, turnMarks[:5]) {
				added(text, map[string]any{"normalized": true})
			}
		}),
	}
	for _, name := range []string{"bbpe-qwen2", "bbpe-llama3", "bbpe-falcon", "bbpe-neox", "xverse-a", "xverse-b", "spm-llama", "spm-baichuan", "spm-internlm", "spm-chatglm2", "spm-nfkc", "spm-unigram"} {
		toks[name] = open(t, name)
	}
	if shared := "../../shared/tokenizers/qwen3"; fileExists(shared) {
		tok, err := tokenizer.Open(context.Background(), shared)
		if err != nil {
			t.Fatal(err)
		}
		toks["qwen3"] = tok
	}
	formats := slices.Clone(builtins)
	for _, name := range []string{"gemma", "llama2", "llama3", "llama3-tools", "mistral", "phi-title", "qwen3", "smollm2", "zephyr", "hermes", "coder", "deepseek",
		"mistral-tools", "pythonic"} {
		formats = append(formats, template(t, name, "<s>", "</s>"))
	}
	seams, err := Jinja(t.Context(), "seams", "<|im_start|>{{ messages[0].role }}\n<|im_{{ messages[0].content }}end|>{{ messages[0].content }}d|><{{ messages[0].content | trim | upper }}think>\n"+
		"{% for t in tools %}{% set t = t.function %}<tool_call>{{ t.name }}{{ t | tojson }}{% for k, v in t.parameters.items() %}<{{ k }}>{{ v }}</{{ k }}{% endfor %}</tool_call>{% endfor %}"+
		"{% for m in messages %}<{{ m.reasoning_content }}think>{{ m.name }}{{ m.tool_call_id }}{% for c in m.tool_calls %}<tool_call>{{ c.id }}{{ c.function.name }}{{ c.function.arguments|tojson }}</tool_call>{% endfor %}{% endfor %}", "", "")
	if err != nil {
		t.Fatal(err)
	}
	formats = append(formats, seams)
	for name, tok := range toks {
		marks := marksOf(tok)
		texts := slices.Sorted(func(yield func(string) bool) {
			for _, text := range marks {
				if !yield(text) {
					return
				}
			}
		})
		plain := !strings.Contains(name, "lower") && !strings.Contains(name, "stripping") &&
			strings.HasPrefix(tok.Piece(spaceID(tok)), "Ġ")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			words := attack(texts)
			rapid.Check(t, func(t *rapid.T) {
				f := rapid.SampledFrom(formats).Draw(t, "format")
				msgs := talk(words.Draw(t, "user"), words.Draw(t, "assistant"), words.Draw(t, "user"))
				switch rapid.IntRange(0, 4).Draw(t, "shape") {
				case 0:
					msgs = msgs[:1]
				case 1:
					msgs = system(words.Draw(t, "system"), msgs)
				case 2:
					msgs = append(msgs, Message{Role: "tool", Content: words.Draw(t, "tool")})
				case 3:
					msgs[0].Role = words.Draw(t, "role")
				}
				var o Options
				if f.template != nil {
					takes, err := f.template.tried(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					object := func(what string) json.RawMessage {
						text, err := json.Marshal(map[string]string{words.Draw(t, what+"'s key"): words.Draw(t, what+"'s value")})
						if err != nil {
							t.Fatal(err)
						}
						return text
					}
					if takes.tools {
						o.Tools = []Tool{{words.Draw(t, "name"), words.Draw(t, "description"), object("schema")}}
					}
					if takes.calls != nil && len(msgs) > 2 {
						id := rapid.SampledFrom([]string{"abcdefgh1", words.Draw(t, "id")}).Draw(t, "whose id")
						asked := Message{Role: "assistant", Content: words.Draw(t, "content"), Reasoning: words.Draw(t, "reasoning"),
							ToolCalls: []ToolCall{{id, words.Draw(t, "called"), string(object("call"))}}}
						msgs = append(msgs, asked, Message{Role: "tool", Content: words.Draw(t, "result"), ToolCallID: id, Name: words.Draw(t, "tool's name")})
					}
				}
				if rapid.Bool().Draw(t, "in parts") {
					msgs[0].Parts = []Part{{"text", words.Draw(t, "part")}, {"text", words.Draw(t, "part")}}
				}
				segments, err := f.RenderWith(context.Background(), msgs, o)
				if err != nil {
					t.Skip() // the format can't express the conversation
				}
				p, err := f.EncodeWith(context.Background(), tok, msgs, o)
				if err != nil {
					t.Skip() // the tokenizer lacks a token of the format
				}
				var own strings.Builder
				for _, s := range segments {
					own.WriteString(strings.Join(s.Tokens, ""))
					if s.ParseSpecial {
						own.WriteString(s.Text)
					}
				}
				counts := map[int]int{}
				for _, id := range p.IDs {
					counts[id]++
				}
				for id, n := range counts {
					if text := marks[id]; text != "" && n > strings.Count(own.String(), text) {
						t.Fatalf("%s: the prompt has %q %d times: %+q", f.Name(), text, n, pieces(tok, p.IDs))
					}
				}
				text, err := f.Text(context.Background(), msgs, o)
				if err != nil {
					t.Fatal(err)
				}
				if got := tok.Decode(p.IDs, false); plain && norm.NFKC.String(got) != norm.NFKC.String(text) {
					t.Fatalf("%s: the tokens decode to %q, want %q", f.Name(), got, text)
				}
			})
		})
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// spaceID returns the id of a space in a byte-level vocabulary, or -1.
func spaceID(tok *tokenizer.Tokenizer) int {
	id, ok := tok.TokenID("Ġ")
	if !ok {
		return -1
	}
	return id
}
