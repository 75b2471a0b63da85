package tokenizer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// markTexts are the marks of the tokenizers that these tests make.
var markTexts = []string{"<|im_start|>", "<|im_end|>", "<think>", "</think>", "</s>", "<|a", "<|a<|b|>", "[INST]", ">>Q<<", "<｜U▁s｜>", "<mark>x"}

// letters are the characters of the test vocabularies.
const letters = " \n!<>|_/[]()▁｜abcdefghiklmnoprstuxAEIMNQSTU0123456789"

// madeVocab returns tokens: an unknown one, letters, bytes, words, and each prefix of each mark, so that merging makes
// the mark.
func madeVocab(bytes bool) (pieces []string, merges [][2]string) {
	seen := map[string]bool{}
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			pieces = append(pieces, s)
		}
	}
	add("<unk>")
	if bytes {
		for b := range 256 {
			add(byteToken(byte(b)))
		}
	}
	for _, r := range letters {
		add(string(r))
	}
	for _, text := range append([]string{"the", "im", "▁the"}, markTexts...) {
		for i := range text {
			_, n := utf8.DecodeRuneInString(text[i:])
			if i > 0 && !seen[text[:i+n]] {
				merges = append(merges, [2]string{text[:i], text[i : i+n]})
			}
			add(text[:i+n])
		}
	}
	return pieces, merges
}

// madeJSON returns a tokenizer.json with markTexts as added tokens with the given flags.
func madeJSON(model, normalizer, pre, flags string) []byte {
	fallback := strings.Contains(model, "fallback")
	pieces, merges := madeVocab(fallback)
	vocab := map[string]int{}
	for i, p := range pieces {
		vocab[p] = i
	}
	m := map[string]any{"vocab": vocab}
	switch name, _, _ := strings.Cut(model, " "); name {
	case "BPE":
		m["type"], m["merges"], m["byte_fallback"] = "BPE", merges, fallback
		if !strings.Contains(model, "dropping") {
			m["unk_token"] = "<unk>"
		}
		m["ignore_merges"] = strings.Contains(model, "whole")
	case "Unigram":
		list := [][]any{}
		for i, p := range pieces {
			list = append(list, []any{p, -10 + float64(len(p)) - float64(i)/1e4})
		}
		m = map[string]any{"type": "Unigram", "vocab": list, "unk_id": 0, "byte_fallback": fallback}
	case "WordPiece":
		m["type"], m["unk_token"] = "WordPiece", "<unk>"
		for _, r := range letters {
			vocab["##"+string(r)] = len(vocab)
		}
	case "WordLevel":
		m["type"], m["unk_token"] = "WordLevel", "<unk>"
	}
	part := func(s string) json.RawMessage {
		if s == "" {
			s = "null"
		}
		return json.RawMessage(s)
	}
	top := map[string]any{"model": m, "normalizer": part(normalizer), "pre_tokenizer": part(pre)}
	if flags != "normal" {
		var added []json.RawMessage
		for _, text := range markTexts {
			added = append(added, json.RawMessage(fmt.Sprintf(`{"id": %d, "content": %q, %s}`, vocab[text], text, flags)))
		}
		// Tokens that are not marks and must be matched as usual.
		for i, text := range []string{"  ", "the", "12"} {
			id, ok := vocab[text]
			if !ok {
				id = 2000 + i
			}
			added = append(added, json.RawMessage(fmt.Sprintf(`{"id": %d, "content": %q, "special": false, "normalized": false}`, id, text)))
		}
		top["added_tokens"] = added
	}
	out, err := json.Marshal(top)
	if err != nil {
		panic(err)
	}
	return out
}

// madePieces returns a SentencePiece model with markTexts as pieces of one type.
func madePieces(modelType int, kind pieceType, charsMap []byte) []byte {
	field := func(b []byte, number int, data []byte) []byte {
		b = binary.AppendUvarint(b, uint64(number)<<3|2)
		return append(binary.AppendUvarint(b, uint64(len(data))), data...)
	}
	number := func(b []byte, number, v int) []byte {
		return binary.AppendUvarint(binary.AppendUvarint(b, uint64(number)<<3), uint64(v))
	}
	pieces, _ := madeVocab(true)
	var out []byte
	for i, text := range pieces {
		k := pieceNormal
		if _, ok := isByteToken(text); ok {
			k = pieceByte
		}
		if i == 0 {
			k = pieceUnknown
		}
		if slices.Contains(markTexts, text) {
			k = kind
		}
		p := field(nil, 1, []byte(text))
		score := uint32(0xC1200000) // -10
		if len(text) > 1 {
			score = 0xBF800000 // -1
		}
		p = append(binary.AppendUvarint(p, 2<<3|5), binary.LittleEndian.AppendUint32(nil, score)...)
		out = field(out, 1, number(p, 3, int(k)))
	}
	out = field(out, 2, number(number(nil, 3, modelType), 35, 1))
	return field(out, 3, field(nil, 2, charsMap))
}

// madeTokenizers returns tokenizers made for these tests, by name.
func madeTokenizers(t testing.TB) map[string]*Tokenizer {
	t.Helper()
	toks := map[string]*Tokenizer{}
	json := func(name, model, normalizer, pre, flags string) {
		tok, err := parseJSON(context.Background(), name, madeJSON(model, normalizer, pre, flags))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		toks[name] = tok
	}
	const (
		spm      = `{"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}`
		nfkc     = `{"type": "NFKC"}`
		lower    = `{"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}`
		replace  = `{"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": "\\p{Cf}"}, "content": ""}, {"type": "Replace", "pattern": {"String": "("}, "content": "<"}]}`
		meta     = `{"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]}`
		notS     = `"special": false, "normalized": false`
		normS    = `"special": true, "normalized": true`
		normNotS = `"special": false, "normalized": true`
	)
	json("special", "BPE", "", "", `"special": true`)
	json("not special", "BPE fallback", "", "", notS)
	json("stripping", "BPE fallback", "", "", notS+`, "lstrip": true, "rstrip": true`)
	json("single word", "BPE fallback", "", "", notS+`, "single_word": true`)
	json("nfkc", "BPE fallback", nfkc, "", normS)
	json("nfkc not special", "BPE fallback", nfkc, "", normNotS)
	json("nfkc after", "BPE fallback", nfkc, "", notS)
	json("lower", "BPE fallback", lower, "", normNotS)
	json("replaced", "BPE fallback", replace, "", normS)
	json("bert", "WordPiece", `{"type": "BertNormalizer"}`, `{"type": "WhitespaceSplit"}`, normNotS)
	json("prepended", "BPE fallback", spm, "", normNotS)
	json("prepended raw", "BPE fallback whole", spm, "", notS)
	json("normal", "BPE fallback", spm, "", "normal")
	json("normal dropping", "BPE dropping", "", "", "normal")
	json("dropping", "BPE dropping", "", "", notS)
	json("unigram", "Unigram fallback", nfkc, meta, `"special": true`)
	json("unigram normal", "Unigram", "", meta, "normal")
	json("unigram not special", "Unigram", "", "", notS)
	json("words", "WordLevel", "", `{"type": "WhitespaceSplit"}`, normS)
	json("whole words", "WordPiece", "", `{"type": "WhitespaceSplit"}`, `"special": true`)
	charsMap := func() []byte {
		data, err := os.ReadFile("testdata/spm-nfkc/tokenizer.model")
		if err != nil {
			t.Fatal(err)
		}
		m, err := readPieceModel(data)
		if err != nil {
			t.Fatal(err)
		}
		return m.charsMap
	}()
	for kind, name := range map[pieceType]string{pieceUserDefined: "user-defined", pieceControl: "control", pieceNormal: "normal"} {
		for modelType := 1; modelType <= 2; modelType++ {
			for _, m := range [][]byte{nil, charsMap} {
				tok, err := parsePiece(context.Background(), "made", madePieces(modelType, kind, m), false)
				if err != nil {
					t.Fatal(err)
				}
				toks[fmt.Sprintf("pieces %s %d %v", name, modelType, m != nil)] = tok
			}
		}
		pieces, merges := madeVocab(true)
		v := GGUFVocab{Model: "llama", Tokens: pieces, BOS: -1, EOS: -1, UNK: 0, PAD: -1}
		for _, text := range pieces {
			k, score := pieceNormal, float32(-10)
			if _, ok := isByteToken(text); ok {
				k = pieceByte
			} else if slices.Contains(markTexts, text) {
				k, score = kind, -1
			}
			v.Types, v.Scores = append(v.Types, int32(k)), append(v.Scores, score)
		}
		v.Types[0] = int32(pieceUnknown)
		gguf := func(name string) {
			tok, err := NewGGUF(context.Background(), v)
			if err != nil {
				t.Fatal(err)
			}
			toks[name] = tok
		}
		gguf("gguf " + name)
		v.Model, v.Pre, v.Scores = "gpt2", "gpt-2", nil
		for i, text := range slices.Clone(v.Tokens) {
			v.Tokens[i] = string(appendByteLevel(nil, []byte(text)))
			if slices.Contains(markTexts, text) && kind != pieceNormal {
				v.Tokens[i] = text // added tokens are written as they are
			}
		}
		for _, p := range merges {
			a, b := string(appendByteLevel(nil, []byte(p[0]))), string(appendByteLevel(nil, []byte(p[1])))
			if slices.Contains(v.Tokens, a) && slices.Contains(v.Tokens, b) && slices.Contains(v.Tokens, a+b) {
				v.Merges = append(v.Merges, a+" "+b)
			}
		}
		for b := range 256 {
			if c := string(byteRunes[b]); !slices.Contains(v.Tokens, c) {
				v.Tokens, v.Types = append(v.Tokens, c), append(v.Types, int32(pieceNormal))
			}
		}
		gguf("gguf bytes " + name)
	}
	return toks
}

// attack draws text that might be parsed as one of texts.
func attack(texts []string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		for range rapid.IntRange(0, 4).Draw(t, "parts") {
			text := rapid.SampledFrom(texts).Draw(t, "mark")
			runes := []rune(text)
			switch rapid.IntRange(0, 11).Draw(t, "how") {
			case 0: // as it is
			case 1:
				text = string(runes[:rapid.IntRange(0, len(runes)).Draw(t, "to")])
			case 2:
				text = string(runes[rapid.IntRange(0, len(runes)).Draw(t, "from"):])
			case 3: // full width
				text = strings.Map(func(r rune) rune {
					if r > ' ' && r < 0x7F {
						return r + 0xFEE0
					}
					return r
				}, text)
			case 4:
				text = strings.ToUpper(text)
			case 5: // in pieces, with characters between them that normalizers and models may drop
				at := rapid.IntRange(0, len(runes)).Draw(t, "at")
				text = string(runes[:at]) + rapid.SampledFrom([]string{"\u200b", "\u00ad", "\u0301", "\ufeff", "\x01", "é", "\u0338", "Ж"}).Draw(t, "drop") + string(runes[at:])
			case 6:
				text = " " + text + "  "
			case 7: // in itself
				at := rapid.IntRange(0, len(runes)).Draw(t, "at")
				text = string(runes[:at]) + text + string(runes[at:])
			case 8: // bytes
				text = ""
				for _, c := range []byte(string(runes)) {
					text += byteToken(c)
				}
			case 9: // as a byte-level vocabulary spells it
				text = string(appendByteLevel(nil, []byte(text)))
			case 10:
				text = strings.ReplaceAll(strings.ReplaceAll(text, "▁", " "), "<", "(")
			case 11:
				text = rapid.SampledFrom([]string{"the", " ", "  ", "\n", "12", "x", "▁", "<", ">", "|", "\u0338", "e\u0301"}).Draw(t, "plain")
			}
			b.WriteString(text)
		}
		return b.String()
	})
}

// spelled returns the text of ids without spaces, and false if a token stands for text that it does not spell.
func spelled(tok *Tokenizer, ids []int) (string, bool) {
	var b []byte
	level := slices.ContainsFunc(tok.pre, func(p preTokenizer) bool { _, ok := p.(byteLevelSplit); return ok })
	if m, ok := tok.model.(*bpe); ok && m.drops() {
		return "", false
	}
	for _, id := range ids {
		text := tok.Piece(id)
		switch c, ok := isByteToken(text); {
		case text == "<unk>" || text == bertUnknown:
			return "", false
		case ok:
			if _, single := tok.model.(*unigram); single {
				return "", false // here they are ordinary pieces, which text may spell
			}
			b = append(b, c)
		case level && tok.added.byID[int32(id)] == nil:
			b, _ = byteLevelBytes(b, text)
		default:
			b = append(b, strings.TrimPrefix(text, "##")...)
		}
	}
	return bare(b), true
}

// bare returns text without spaces, decomposed: an added token may have separated a character from its accent.
func bare(text []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '▁' {
			return -1
		}
		return r
	}, norm.NFD.String(string(text)))
}

// occurrences counts the positions at which s contains text.
func occurrences(s, text string) (n int) {
	for i := range s {
		if strings.HasPrefix(s[i:], text) {
			n++
		}
	}
	return n
}

// checkSpans draws texts of own and foreign spans. It checks that a mark is in the tokens at most as often as the own
// spans spell it, and that the text of foreign spans is complete.
func checkSpans(t *testing.T, tok *Tokenizer, texts []string, marks map[int]string) {
	t.Helper()
	foreign := attack(texts)
	own := rapid.Map(rapid.SliceOfN(rapid.SampledFrom(append([]string{"\n", "x", "the ", " "}, texts...)), 0, 3), func(s []string) string { return strings.Join(s, "") })
	rapid.Check(t, func(t *rapid.T) {
		var spans []Span
		rest := ""
		for i := range rapid.IntRange(1, 5).Draw(t, "spans") {
			s := Span{Foreign: i%2 == 1}
			if s.Foreign {
				s.Text = foreign.Draw(t, "foreign")
			} else {
				s.Text = own.Draw(t, "own")
			}
			s.Text, rest = rest+s.Text, ""
			if !s.Foreign && rapid.Bool().Draw(t, "cut") { // the other half is foreign
				r := []rune(s.Text)
				end := rapid.IntRange(0, len(r)).Draw(t, "end")
				s.Text, rest = string(r[:end]), string(r[end:])
			}
			if n := len(spans); n > 0 && (s.Text == "" || spans[n-1].Foreign == s.Foreign) {
				spans[n-1].Text += s.Text
				continue
			}
			spans = append(spans, s)
		}
		ids, err := tok.EncodeSpans(spans)
		if err != nil {
			t.Fatal(err)
		}
		got := map[int]int{}
		for _, id := range ids {
			got[id]++
		}
		mine := ""
		for _, s := range spans {
			if !s.Foreign {
				mine += s.Text
			}
		}
		for id, n := range got {
			if marks[id] == "" {
				continue
			}
			// Texts on both sides of a foreign text that is dropped become adjacent.
			if allowed := occurrences(mine, marks[id]); n > allowed {
				t.Fatalf("%+v: the tokens have %q %d times, the own text has it %d times: %q", spans, marks[id], n, allowed,
					piecesOf(tok, ids))
			}
		}
		text := "x" + foreign.Draw(t, "message") + "x"
		ids, err = tok.EncodeSpans([]Span{{Text: "x"}, {Text: text[1 : len(text)-1], Foreign: true}, {Text: "x"}})
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := tok.normalized(newEncoder(len(tok.pre), len(text)), []byte(text), nil)
		if text, ok := spelled(tok, ids); ok && text != bare(want) {
			t.Fatalf("%q is encoded as %q", want, piecesOf(tok, ids))
		}
	})
}

func piecesOf(tok *Tokenizer, ids []int) (out []string) {
	for _, id := range ids {
		out = append(out, tok.Piece(id))
	}
	return out
}

// Foreign text yields no mark, whatever the marks' types and however the tokenizer makes them.
func TestForeignTextYieldsNoMark(t *testing.T) {
	for name, tok := range madeTokenizers(t) {
		marks := map[int]string{}
		for _, text := range markTexts {
			id, ok := tok.TokenID(text)
			if !ok {
				id, ok = tok.TokenID(string(appendByteLevel(nil, []byte(text))))
			}
			if !ok {
				t.Fatalf("%s: no token %q", name, text)
			}
			// A token of type normal is a mark if it is spelled <|...|> or is a tag in the own text.
			if !strings.Contains(name, "normal") || controlText(text) {
				marks[id] = text
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkSpans(t, tok, markTexts, marks)
		})
	}
	dirs := map[string]string{}
	for _, name := range testdataNames {
		dirs[name] = filepath.Join("testdata", name)
	}
	if shared := filepath.Join("..", "..", "shared", "tokenizers", "qwen3"); os.Getenv("PUMICE_SHARED") == "" {
		if _, err := os.Stat(shared); err == nil {
			dirs["qwen3"] = shared
		}
	}
	for name, dir := range dirs {
		tok := open(t, dir, Options{ChatGLM: name == "spm-chatglm2"})
		marks := map[int]string{}
		var texts []string
		for id := range tok.VocabSize() {
			text := tok.Piece(id)
			_, added := tok.added.byID[int32(id)]
			if (added || strings.HasPrefix(text, "<reserved_") || strings.HasPrefix(text, "<TOKENS") || slices.Contains([]string{"<|User|>", "<|Bot|>", "<eoh>", "<eoa>"}, text)) && text != "<unk>" && text != bertUnknown && strings.TrimSpace(text) != "" {
				marks[id] = text
				texts = append(texts, text)
			}
		}
		if len(texts) < 2 {
			t.Fatalf("%s: marks %q", name, texts)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkSpans(t, tok, texts, marks)
		})
	}
}

// Without marks, foreign text is encoded like any other text, and span boundaries have no effect.
func TestForeignTextIsEncodedAsUsual(t *testing.T) {
	toks := madeTokenizers(t)
	for _, name := range testdataNames {
		toks[name] = open(t, filepath.Join("testdata", name), Options{ChatGLM: name == "spm-chatglm2"})
	}
	for name, tok := range toks {
		if name == "prepended" {
			continue // its marks include the space before them
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := rapid.StringOfN(rapid.SampledFrom([]rune("  \n\n12the你好éA.,'-e\u0301")), 0, 20, -1)
			own := rapid.Map(rapid.SampledFrom(append([]string{"", "user\n", "the ", "\n\n"}, markTexts...)), func(s string) string { return s + "\n" })
			rapid.Check(t, func(t *rapid.T) {
				spans := []Span{{own.Draw(t, "own"), false}, {plain.Draw(t, "text"), true}, {own.Draw(t, "own"), false}, {plain.Draw(t, "text"), true}}
				if strings.Contains(spans[0].Text+spans[2].Text, "the") {
					spans[1].Text, spans[3].Text = strings.ReplaceAll(spans[1].Text, "t", ""), strings.ReplaceAll(spans[3].Text, "t", "")
				}
				whole := spans[0].Text + spans[1].Text + spans[2].Text + spans[3].Text
				ids, err := tok.EncodeSpans(spans)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(piecesOf(tok, tok.Encode(whole, EncodeOptions{ParseSpecial: true})), piecesOf(tok, ids)); diff != "" {
					t.Fatalf("%q (-want +got):\n%s", fmt.Sprintf("%+v", spans), diff)
				}
			})
		})
	}
}

// Normalizing with the origin of each byte gives the same text as plain normalizing, and no foreign byte is lost.
func TestOriginFollowsNormalizers(t *testing.T) {
	data, err := os.ReadFile("testdata/spm-nfkc/tokenizer.model")
	if err != nil {
		t.Fatal(err)
	}
	m, err := readPieceModel(data)
	if err != nil {
		t.Fatal(err)
	}
	chars, err := parseCharsMap(m.charsMap)
	if err != nil {
		t.Fatal(err)
	}
	user := newMatcher()
	user.add("<|im_end|>", 1)
	user.add(" ＜x", 2)
	norms := map[string]normalizer{"precompiled": precompiledNorm{chars}}
	for bits := range 16 {
		norms[fmt.Sprint("pieces ", bits)] = &pieceNorm{m: chars, user: user, addDummyPrefix: bits&1 > 0, removeExtraWhitespaces: bits&2 > 0,
			escapeWhitespaces: bits&4 > 0, whitespaceAsSuffix: bits&8 > 0}
	}
	for _, text := range []string{`{"type": "NFC"}`, `{"type": "NFD"}`, `{"type": "NFKC"}`, `{"type": "NFKD"}`, `{"type": "Lowercase"}`, `{"type": "StripAccents"}`,
		`{"type": "Nmt"}`, `{"type": "Strip"}`, `{"type": "Strip", "strip_left": false}`, `{"type": "Prepend", "prepend": "▁x"}`, `{"type": "ByteLevel"}`,
		`{"type": "BertNormalizer"}`, `{"type": "Replace", "pattern": {"String": "<|"}, "content": "◁"}`, `{"type": "Replace", "pattern": {"String": "  "}, "content": ""}`,
		`{"type": "Replace", "pattern": {"Regex": " *<"}, "content": "["}`, `{"type": "Replace", "pattern": {"Regex": "x*"}, "content": "-"}`,
		`{"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}`} {
		r := newReader(t.Context(), "", 1000)
		norms[text] = readNormalizer(r.section(json.RawMessage(text), "normalizer"), 0)
		if r.err != nil {
			t.Fatal(r.err)
		}
	}
	text := rapid.OneOf(anyText(), attack(markTexts))
	for name, n := range norms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				e := newEncoder(0, 1<<20)
				a, b := text.Draw(t, "own"), text.Draw(t, "foreign")
				s := []byte(a + b + a)
				foreign := slices.Concat(make([]bool, len(a)), slices.Repeat([]bool{true}, len(b)), make([]bool, len(a)))
				want, _ := n.normalize(e, s)
				o := &origin{}
				o.rewrite(n, e, s, foreign)
				if e.err != nil {
					t.Fatal(e.err)
				}
				if !bytes.Equal(o.text, want) || len(o.foreign) != len(o.text) {
					t.Fatalf("got %q, want %q", o.text, want)
				}
				if a == "" && b != "" && slices.Contains(o.foreign, false) {
					t.Fatalf("%q of %q is not all foreign", o.text, b)
				}
			})
		})
	}
}

func TestKindsOfAddedTokens(t *testing.T) {
	t.Parallel()
	for kind, texts := range map[int][]string{
		textSpace: {" ", "        ", "\n\n", "\t", "▁▁▁", "\u3000"},
		textRun:   {"0", "ö", "...", "----", "```", "😀", "###"},
		textWord:  {"sop", "COVID-19", "don't", " the", "▁user", "foo_bar", "你好", "2024", "<table>", "</h1>", "<em>"},
		textMark: {"<|im_end|>", "<think>", "</think>", "<tool_call>", "</s>", "<s>", "[INST]", "[/INST]", "<<SYS>>", "<｜User｜>", ">>TITLE<<", "▁<PRE>", "<unused7>",
			"<reserved_106>", "### End", "Human:", "\nUser:", "|||IP_ADDRESS|||", "<html>", "<0x41>", "[PAD]", "<script>"},
	} {
		for _, text := range texts {
			if got := kindOf(text); got != kind {
				t.Errorf("%q is of kind %d, want %d", text, got, kind)
			}
		}
	}
}

func TestMarksOfOneText(t *testing.T) {
	t.Parallel()
	tok, err := parseJSON(context.Background(), "made", []byte(`{"model": {"type": "BPE", "unk_token": "<eos>",
		"vocab": {"<eos>": 0, "s": 1, "o": 2, "p": 3, "so": 4, "sop": 5, "<": 6, "b": 7, ">": 8, "<b": 9, "<b>": 10, " ": 11, "  ": 12},
		"merges": [["s", "o"], ["so", "p"], ["<", "b"], ["<b", ">"], [" ", " "]]},
		"added_tokens": [{"id": 0, "content": "<eos>", "special": true}, {"id": 5, "content": "sop", "special": false}, {"id": 12, "content": "  ", "special": false}]}`))
	if err != nil {
		t.Fatal(err)
	}
	tok.eos = 0
	for _, c := range []struct {
		name  string
		own   string
		text  string
		marks []string
		want  []string
	}{
		{"a word that is not a mark", "b", "sop  ", nil, []string{"b", "sop", "  "}},
		{"a word of the format", "b", "sop", []string{"sop"}, []string{"b", "s", "o", "p"}},
		{"a word in the format's text", "sop ", "sop  ", nil, []string{"sop", " ", "s", "o", "p", "  "}},
		{"a tag", "b", "<b>", nil, []string{"b", "<b>"}},
		{"a tag of the format", "b", "<b>", []string{"<b>"}, []string{"b", "<", "b", ">"}},
		{"a tag in the format's text", "<b>", "<b>", nil, []string{"<b>", "<", "b", ">"}},
		{"half a tag of the format", "<b>  <", "b>", nil, []string{"<b>", "  ", "<", "b", ">"}},
		{"unknown characters when the unknown token is EOS", "b", "sÄo", nil, []string{"b", "s", "o"}},
	} {
		ids, err := tok.EncodeSpans([]Span{{Text: c.own}, {Text: c.text, Foreign: true}}, c.marks...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, piecesOf(tok, ids)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
