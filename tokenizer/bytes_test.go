package tokenizer

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestTokenBytesJoinToTheText(t *testing.T) {
	for _, name := range testdataNames {
		t.Run(name, func(t *testing.T) {
			tok := open(t, filepath.Join("testdata", name), Options{ChatGLM: name == "spm-chatglm2"})
			for _, text := range []string{"x the quick\n  brown 12 fox", "x 東京 läuft 👍🏽 é", "x {\"a\": [1, \"\\n\"]}"} {
				ids := tok.Encode(text, EncodeOptions{})
				var joined strings.Builder
				for _, id := range ids {
					b, ok := tok.TokenBytes(id)
					if !ok {
						t.Fatalf("token %d, %q, has no bytes", id, tok.Piece(id))
					}
					joined.Write(b)
				}
				if got, want := strings.TrimPrefix(joined.String(), " "), tok.Decode(ids, false); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
}
