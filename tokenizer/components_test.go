package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testdata/make_components.py made these with Hugging Face's tokenizers.
type componentRow struct {
	Kind   string
	Name   string
	Config json.RawMessage
	Cases  [][]json.RawMessage
}

func readComponents(t testing.TB) (rows []componentRow) {
	t.Helper()
	s := bufio.NewScanner(bytes.NewReader(readMaybeGzip(t, filepath.Join("testdata", "components.jsonl"))))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		var row componentRow
		if err := json.Unmarshal(s.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func unmarshal[T any](t testing.TB, raw json.RawMessage) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestComponentsMatchReference(t *testing.T) {
	for i, row := range readComponents(t) {
		name := row.Name
		if name == "" {
			name = fmt.Sprintf("%.90s", row.Config)
		}
		t.Run(fmt.Sprintf("%03d %s %s", i, row.Kind, name), func(t *testing.T) {
			switch row.Kind {
			case "normalizer":
				checkNormalizer(t, row)
			case "pre_tokenizer":
				checkPreTokenizer(t, row)
			case "decoder":
				checkDecoder(t, row)
			case "tokenizer":
				checkWhole(t, row)
			default:
				t.Fatalf("kind %q", row.Kind)
			}
		})
	}
}

func checkNormalizer(t *testing.T, row componentRow) {
	r := newReader(t.Context(), "test", 0)
	n := readNormalizer(r.section(row.Config, "normalizer"), 0)
	if r.err != nil {
		t.Fatal(r.err)
	}
	for _, c := range row.Cases {
		text, want := unmarshal[string](t, c[0]), unmarshal[string](t, c[1])
		got, _ := n.normalize(newEncoder(0, len(text)), []byte(text))
		if string(got) != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func checkPreTokenizer(t *testing.T, row componentRow) {
	r := newReader(t.Context(), "test", 0)
	tok := &Tokenizer{pre: readPreTokenizer(r.section(row.Config, "pre_tokenizer"), 0)}
	if r.err != nil {
		t.Fatal(r.err)
	}
	m := &recorder{}
	tok.model = m
	for _, c := range row.Cases {
		text, want := unmarshal[string](t, c[0]), unmarshal[[]string](t, c[1])
		m.pieces = []string{}
		if _, err := tok.TryEncode(text, EncodeOptions{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, m.pieces); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// recorder is a model that records its words.
type recorder struct{ pieces []string }

func (m *recorder) encode(_ *encoder, word []byte) { m.pieces = append(m.pieces, string(word)) }

func checkDecoder(t *testing.T, row componentRow) {
	r := newReader(t.Context(), "test", 0)
	d := decoderReader{local: true}
	tok := &Tokenizer{decoder: d.read(r.section(row.Config, "decoder"), 0)}
	if r.err != nil {
		t.Fatal(r.err)
	}
	for _, c := range row.Cases {
		var toks []token
		for _, s := range unmarshal[[]string](t, c[0]) {
			toks = append(toks, token{0, s})
		}
		if got, want := tok.decode(toks, false), unmarshal[string](t, c[1]); got != want {
			t.Errorf("%s: got %q, want %q", c[0], got, want)
		}
	}
}

func checkWhole(t *testing.T, row componentRow) {
	tok, err := parseJSON(t.Context(), row.Name, row.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range row.Cases {
		text := unmarshal[string](t, c[0])
		ids := unmarshal[[]int](t, c[1])
		if diff := cmp.Diff(ids, tok.Encode(text, EncodeOptions{ParseSpecial: true})); diff != "" {
			t.Errorf("%q: ids (-want +got):\n%s", text, diff)
			continue
		}
		if diff := cmp.Diff(unmarshal[[]int](t, c[2]), tok.Encode(text, EncodeOptions{ParseSpecial: true, AddSpecial: true})); diff != "" {
			t.Errorf("%q: ids with special tokens (-want +got):\n%s", text, diff)
		}
		for i, skip := range []bool{false, true} {
			want := unmarshal[string](t, c[3+i])
			if got := tok.Decode(ids, skip); got != want {
				t.Errorf("%q: decoded %q, want %q", text, got, want)
			}
		}
		// Streaming gives the same text, token by token.
		s, streamed := tok.Stream(), ""
		for _, id := range ids {
			streamed += s.Next(id)
		}
		if streamed += s.Flush(); streamed != unmarshal[string](t, c[4]) {
			t.Errorf("%q: streamed %q, want %s", text, streamed, c[4])
		}
	}
}
