package pumice

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pumice/chat"
)

func TestTokenizerOfAnotherModel(t *testing.T) {
	tok := &text{tokenizer: xverseTokenizer(t)} // 6000 tokens
	for _, c := range []struct {
		vocab int
		ok    bool
	}{{6000, true}, {6144, true}, {5999, true}, {11000, true}, {613, false}, {5000, false}, {49152, false}} {
		var mismatch *MismatchError
		err := tok.matches("model", c.vocab, zerolog.Nop())
		if c.ok && err != nil || !c.ok && !errors.As(err, &mismatch) {
			t.Errorf("vocabulary of %d: %v", c.vocab, err)
		}
	}
}

func TestChatFormatOrder(t *testing.T) {
	const template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
	file := t.TempDir() + "/mine.jinja"
	if err := os.WriteFile(file, []byte(template), 0o644); err != nil {
		t.Fatal(err)
	}
	messages := []chat.Message{{Role: "user", Content: "hi"}}
	for _, c := range []struct {
		name, override string
		text           text
		want           string
	}{
		{"a name before all", "chatml", text{template: template, family: "xverse"}, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"},
		{"a file before all", file, text{family: "xverse"}, "<user>hi"},
		{"the model's template before its family", "", text{template: template, family: "xverse"}, "<user>hi"},
		{"one template of two", "", text{template: template, tools: "T"}, "<user>hi"},
		{"the family", "", text{family: "xverse"}, "Human: hi\n\nAssistant: "},
		{"the family before a template for tools alone", "", text{tools: "T", family: "xverse"}, "Human: hi\n\nAssistant: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := c.text.format(t.Context(), c.override)
			if err != nil {
				t.Fatal(err)
			}
			segments, err := f.Render(t.Context(), messages, true)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, s := range segments {
				b.WriteString(strings.Join(s.Tokens, ""))
				b.WriteString(s.Text)
			}
			if b.String() != c.want {
				t.Errorf("got %q, want %q", b.String(), c.want)
			}
		})
	}
	f, err := (&text{template: template, tools: "{{ tools[0].function.name }}"}).format(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Text(t.Context(), messages, chat.Options{Tools: []chat.Tool{{Name: "f"}}}); err != nil || got != "f" {
		t.Errorf("with tools: %q, %v", got, err)
	}
	var none *chat.NoFormatError
	if _, err := (&text{family: "llama"}).format(t.Context(), ""); !errors.As(err, &none) {
		t.Errorf("no format: %v", err)
	}
	var option *OptionError
	if _, err := (&text{}).format(t.Context(), "nonsense"); !errors.As(err, &option) {
		t.Errorf("unknown name: %v", err)
	}
}
