package tokenizer

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pumice/internal/bounded"
)

// jsonOf writes a tokenizer.json of the tiny model with other fields.
func jsonOf(t testing.TB, fields map[string]any) []byte {
	t.Helper()
	if fields["model"] == nil {
		fields["model"] = json.RawMessage(tinyModel)
	}
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type object = map[string]any

// chain returns a Sequence of n times the same component.
func chain(list string, n int, component object) object {
	parts := make([]object, n)
	for i := range parts {
		parts[i] = component
	}
	return object{"type": "Sequence", list: parts}
}

// hostileJSON returns tokenizer.json files of about n bytes that, without limits, take all memory or most of a minute,
// and whether they open.
func hostileJSON(t testing.TB, n int) map[string]struct {
	data  []byte
	opens bool
} {
	many := func(s string) string { return strings.Repeat(s, n/len(s)+1) }
	words := func(each func(i int) string) string { // the items of a list
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(each(i))
		}
		return b.String()
	}
	added := func(content func(i int) string) string {
		return words(func(i int) string { return fmt.Sprintf(`{"id":%d,"content":%q}`, i+3, content(i)) })
	}
	raw := func(format string, args ...any) json.RawMessage { return json.RawMessage(fmt.Sprintf(format, args...)) }
	split := func(expr string) object {
		return object{"type": "Split", "pattern": object{"Regex": expr}, "behavior": "Isolated"}
	}
	charsmap := make([]byte, 4+4*4, 4+4*4+n) // a trie with a cycle: every byte leads back to the same node
	binary.LittleEndian.PutUint32(charsmap, 16)
	for i := range 4 {
		binary.LittleEndian.PutUint32(charsmap[4+4*i:], uint32('a')|1<<8)
	}
	all := map[string]struct {
		data  []byte
		opens bool
	}{}
	put := func(name string, opens bool, fields object) {
		all[name] = struct {
			data  []byte
			opens bool
		}{jsonOf(t, fields), opens}
	}
	put("ByteLevel chain", true, object{"pre_tokenizer": chain("pretokenizers", 40, object{"type": "ByteLevel", "use_regex": false})})
	put("ByteLevel chain by regex", true, object{"pre_tokenizer": chain("pretokenizers", 100, object{"type": "ByteLevel"})})
	put("Metaspace chain", true, object{"pre_tokenizer": chain("pretokenizers", 100, object{"type": "Metaspace", "replacement": " "})})
	put("nested chains", true, object{"pre_tokenizer": chain("pretokenizers", 2, chain("pretokenizers", 2, chain("pretokenizers", 2,
		chain("pretokenizers", 4, object{"type": "ByteLevel", "use_regex": false}))))})
	put("ByteLevel normalizers", true, object{"normalizer": chain("normalizers", 100, object{"type": "ByteLevel"})})
	put("doubling Replace", true, object{"normalizer": chain("normalizers", 100, object{"type": "Replace", "pattern": object{"String": "a"}, "content": "aa"})})
	put("doubling Replace by regex", true, object{"normalizer": chain("normalizers", 100, object{"type": "Replace", "pattern": object{"Regex": "a"}, "content": "aa"})})
	put("Prepend chain", true, object{"normalizer": chain("normalizers", 100, object{"type": "Prepend", "prepend": strings.Repeat("x", 512)})})
	put("long Prepend", false, object{"normalizer": object{"type": "Prepend", "prepend": many("x")}})
	put("doubling decoder", true, object{"decoder": chain("decoders", 100, object{"type": "Replace", "pattern": object{"String": "a"}, "content": "aa"})})
	put("doubling decoder by regex", true, object{"decoder": chain("decoders", 100, object{"type": "Replace", "pattern": object{"Regex": "a"}, "content": "aa"})})
	put("too many stages", false, object{"normalizer": chain("normalizers", n/16, object{"type": "NFC"})})
	put("invalid stages", false, object{"normalizer": object{"type": "Sequence",
		"normalizers": raw("[%s0]", many("0,"))}})
	put("template of many", false, object{"post_processor": object{"type": "TemplateProcessing", "single": raw(`[{"Sequence":{"id":"A"}}%s]`,
		many(`,{"SpecialToken":{"id":"x"}}`)), "special_tokens": object{"x": object{"ids": []int{0}}}}})
	put("template of many ids", false, object{"post_processor": object{"type": "TemplateProcessing", "single": raw(`[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"x"}}]`),
		"special_tokens": object{"x": object{"ids": raw("[%s0]", many("0,"))}}}})
	put("template chain", false, object{"post_processor": chain("processors", 100, object{"type": "TemplateProcessing",
		"single": raw(`[%s{"Sequence":{"id":"A"}}]`, strings.Repeat(`{"SpecialToken":{"id":"x"}},`, 10)), "special_tokens": object{"x": object{"ids": []int{0}}}})})
	put("long added token", false, object{"added_tokens": []object{{"id": 3, "content": many("a")}}})
	put("many added tokens", true, object{"added_tokens": raw("[%s]", added(func(i int) string { return strings.Repeat("a", i%3000+1) + strconv.Itoa(i) }))})
	put("added token that nearly fits", true, object{"added_tokens": []object{{"id": 3, "content": strings.Repeat("a", 4000) + "b"}}})
	put("long token", false, object{"model": raw(`{"type":"BPE","vocab":{"a":0,"%s":1},"merges":[]}`, many("b"))})
	put("long word", false, object{"model": raw(`{"type":"WordLevel","vocab":{"a":0,"%s":1},"unk_token":"a"}`, many("b"))})
	put("long word piece", false, object{"model": raw(`{"type":"WordPiece","vocab":{"a":0,"%s":1},"unk_token":"a"}`, many("b"))})
	put("long unigram", false, object{"model": raw(`{"type":"Unigram","unk_id":0,"vocab":[["a",0],["%s",0]]}`, many("b"))})
	put("deep unigram", true, object{"model": raw(`{"type":"Unigram","unk_id":0,"vocab":[["b",0],["%s",0]]}`, strings.Repeat("a", 4000))})
	put("word pieces in vain", true, object{"model": raw(`{"type":"WordPiece","vocab":{"u":0,"a":1,"##a":2,"##%s":3},"unk_token":"u","max_input_chars_per_word":512}`,
		strings.Repeat("a", 500)+"b")})
	put("one token many times", true, object{"model": raw(`{"type":"BPE","vocab":{"a":0},"merges":[]}`), "added_tokens": raw("[%s]", added(func(i int) string { return "b" }))})
	put("many merges", true, object{"model": raw(`{"type":"BPE","vocab":{"a":0,"aa":1},"merges":[%s"a a"]}`, many(`"a a",`))})
	put("many broken merges", false, object{"model": raw(`{"type":"BPE","vocab":{"a":0,"aa":1},"merges":[%s"a a"]}`, many(`0,`))})
	put("merge of many", false, object{"model": raw(`{"type":"BPE","vocab":{"a":0,"aa":1},"merges":[[%s"a"]]}`, many(`"a",`))})
	put("many fields", false, object{"normalizer": raw(`{%s"type":"NFC"}`, words(func(i int) string { return fmt.Sprintf(`"%d":0`, i) })+",")})
	put("slow patterns", false, object{"pre_tokenizer": chain("pretokenizers", 20, split(`(a|aa|aaa)*b|(x+x+)+y|(\s+\s+)+z`))})
	put("huge pattern", false, object{"pre_tokenizer": split(many("a"))})
	put("circular charsmap", true, object{"normalizer": object{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(charsmap)}})
	all["deep"] = struct {
		data  []byte
		opens bool
	}{[]byte(`{"normalizer":` + many(`{"a":`)), false}
	all["escapes"] = struct {
		data  []byte
		opens bool
	}{[]byte(`{"model":` + tinyModel + `,"x":"` + many(`\\`) + `"}`), true}
	return all
}

// Opening a file and encoding a text, whether they succeed or not, take bounded time and memory.
func TestHostileTokenizersAreBounded(t *testing.T) {
	text := strings.Repeat("aé ", 2_000) + strings.Repeat("a", 8_000) + "\n" + strings.Repeat("x", 3000)
	for name, c := range hostileJSON(t, 200_000) {
		t.Run(name, func(t *testing.T) {
			var tok *Tokenizer
			bounded.Run(t, len(c.data), func(ctx context.Context) {
				var err error
				tok, err = parseJSON(ctx, "hostile", c.data)
				if errors.Is(err, context.Canceled) {
					return
				}
				checkOpened(t, c.opens, err)
			})
			if tok != nil {
				encodeBounded(t, tok, text)
			}
		})
	}
}

func checkOpened(t *testing.T, opens bool, err error) {
	t.Helper()
	var format *FormatError
	var unsupported *UnsupportedError
	if err != nil && !errors.As(err, &format) && !errors.As(err, &unsupported) {
		t.Errorf("error of type %T: %v", err, err)
	}
	if (err == nil) != opens {
		t.Errorf("opens: %v, want %v: %v", err == nil, opens, err)
	}
	if err != nil && len(err.Error()) > 5000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// encodeBounded checks that a tokenizer keeps the limits for one text.
func encodeBounded(t *testing.T, tok *Tokenizer, text string) {
	t.Helper()
	for _, text := range []string{text, "héé"} {
		var ids []int
		bounded.Run(t, len(text), func(context.Context) {
			var err error
			var e *EncodeError
			if ids, err = tok.TryEncode(text, EncodeOptions{ParseSpecial: true, AddSpecial: true}); err != nil && !errors.As(err, &e) {
				t.Errorf("error of type %T: %v", err, err)
			}
		})
		bounded.Run(t, len(text), func(context.Context) { tok.Decode(ids, true) })
	}
	some := make([]int, 500)
	for i := range some {
		some[i] = i % tok.VocabSize()
	}
	bounded.Run(t, 0, func(context.Context) { tok.Decode(some, false) })
}

// protoPiece is an entry of a SentencePiece model.
func protoPiece(text string, score float32, kind pieceType) []byte {
	p := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(text)))
	p = binary.LittleEndian.AppendUint32(append(append(p, text...), 2<<3|5), math.Float32bits(score))
	p = append(p, 3<<3, byte(kind))
	return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(p))), p...)
}

// hostilePieces returns vocabularies of about n bytes for both kinds of SentencePiece models.
func hostilePieces(n int) map[string]struct {
	pieces []piece
	opens  bool
} {
	unk := piece{"<unk>", 0, pieceUnknown}
	grow := func(kind pieceType, step, most int) []piece {
		list := []piece{unk, {"a", 0, pieceNormal}}
		for k, total := 2, 0; total < n && k <= most; k += step {
			list = append(list, piece{strings.Repeat("a", k), float32(-k), kind})
			total += k
		}
		return list
	}
	random := func(kind pieceType, length int) []piece {
		list := []piece{unk, {"a", 0, pieceNormal}}
		for total := 0; total < n; total += length {
			text := fmt.Sprintf("%0*x", length, total)
			list = append(list, piece{text[len(text)-length:], 0, kind})
		}
		return list
	}
	return map[string]struct {
		pieces []piece
		opens  bool
	}{
		"long normal":       {[]piece{unk, {strings.Repeat("a", n), 0, pieceNormal}}, false},
		"long user-defined": {[]piece{unk, {strings.Repeat("a", n), 0, pieceUserDefined}}, false},
		"long unused":       {[]piece{unk, {strings.Repeat("a", n), 0, pieceUnused}}, false},
		"long control":      {[]piece{unk, {strings.Repeat("a", n), 0, pieceControl}}, false},
		"long unknown":      {[]piece{{strings.Repeat("a", n), 0, pieceUnknown}}, false},
		"growing user":      {grow(pieceUserDefined, 1, maxPiece), true},
		"growing normal":    {grow(pieceNormal, 4, maxMerged), true},
		"growing unused":    {grow(pieceUnused, 1, maxUnused), true},
		"user in vain":      {[]piece{unk, {"a", 0, pieceNormal}, {strings.Repeat("a", 4000) + "b", 0, pieceUserDefined}}, true},
		"many user":         {random(pieceUserDefined, 4000), true},
		"many normal":       {random(pieceNormal, 500), true},
		"many unused":       {random(pieceUnused, 120), true},
	}
}

func TestHostilePieceModelsAreBounded(t *testing.T) {
	text := strings.Repeat("aé ", 2_000) + strings.Repeat("a", 8_000)
	for name, c := range hostilePieces(200_000) {
		var entries []byte
		v := GGUFVocab{File: "hostile", BOS: -1, EOS: -1, UNK: -1, PAD: -1}
		for _, p := range c.pieces {
			entries = append(entries, protoPiece(p.text, p.score, p.kind)...)
			v.Tokens, v.Scores, v.Types = append(v.Tokens, p.text), append(v.Scores, p.score), append(v.Types, int32(p.kind))
		}
		open := map[string]func(context.Context) (*Tokenizer, error){}
		for kind, spec := range map[string][]byte{"unigram": {2<<3 | 2, 2, 3 << 3, 1}, "BPE": {2<<3 | 2, 2, 3 << 3, 2}} {
			data := append(slices.Clone(entries), spec...)
			open[kind] = func(ctx context.Context) (*Tokenizer, error) { return parsePiece(ctx, "hostile", data, false) }
		}
		for _, model := range []string{"llama", "t5"} {
			v := v
			v.Model = model
			open["GGUF "+model] = func(ctx context.Context) (*Tokenizer, error) { return NewGGUF(ctx, v) }
		}
		for kind, open := range open {
			t.Run(name+"/"+kind, func(t *testing.T) {
				var tok *Tokenizer
				bounded.Run(t, len(entries), func(ctx context.Context) {
					var err error
					if tok, err = open(ctx); !errors.Is(err, context.Canceled) {
						checkOpened(t, c.opens, err)
					}
				})
				if tok != nil {
					encodeBounded(t, tok, text)
				}
			})
		}
	}
}

// stages has a component of every type that a tokenizer.json can name, configured to grow a text as much as possible.
var stages = map[string]map[string]string{
	"normalizer": {
		"NFC": "{}", "NFD": "{}", "NFKC": "{}", "NFKD": "{}", "Lowercase": "{}", "StripAccents": "{}", "Nmt": "{}", "Strip": "{}",
		"Prepend": `{"prepend": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}`, "ByteLevel": "{}",
		"Replace":        `{"pattern": {"Regex": "."}, "content": "é aé a"}`,
		"BertNormalizer": "{}", "Precompiled": `{"precompiled_charsmap": ""}`,
	},
	"pre_tokenizer": {
		"ByteLevel": `{"use_regex": false}`, "Metaspace": `{"replacement": " "}`, "Split": `{"pattern": {"Regex": "."}, "behavior": "Isolated"}`,
		"Digits": `{"individual_digits": true}`, "Punctuation": "{}", "Whitespace": "{}", "WhitespaceSplit": "{}", "BertPreTokenizer": "{}",
		"CharDelimiterSplit": `{"delimiter": "a"}`, "UnicodeScripts": "{}", "FixedLength": `{"length": 1}`,
	},
	"decoder": {
		"ByteLevel": "{}", "ByteFallback": "{}", "Fuse": "{}", "Replace": `{"pattern": {"String": "a"}, "content": "aaaaaaaaaaaaaa"}`,
		"Metaspace": `{"replacement": "é"}`, "Strip": `{"content": "b", "start": 1000, "stop": 1000}`, "WordPiece": "{}", "BPEDecoder": `{"suffix": "a"}`,
		"CTC": "{}",
	},
}

// A chain of any component takes bounded time and memory. A new component without an entry in stages fails the test.
func TestEveryStageIsBounded(t *testing.T) {
	functions := map[string]string{"readNormalizer": "normalizer", "readPreTokenizer": "pre_tokenizer", "read": "decoder"}
	lists := map[string]string{"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
	file, err := parser.ParseFile(gotoken.NewFileSet(), "components.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || functions[f.Name.Name] == "" {
			continue
		}
		part := functions[f.Name.Name]
		for _, s := range f.Body.List {
			choice, ok := s.(*ast.SwitchStmt)
			if !ok {
				continue
			}
			for _, c := range choice.Body.List {
				for _, x := range c.(*ast.CaseClause).List {
					name, err := strconv.Unquote(x.(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					if name != "Sequence" && stages[part][name] == "" {
						t.Errorf("%s %s has no entry in stages", part, name)
					}
					kinds[part]++
				}
			}
		}
	}
	text := strings.Repeat("aé a1.Б ", 2_000)
	for part, entries := range stages {
		if kinds[part] != len(entries)+1 {
			t.Errorf("%d entries for the %d kinds of %s", len(entries), kinds[part]-1, part)
		}
		for name, fields := range entries {
			t.Run(part+" "+name, func(t *testing.T) {
				var component object
				if err := json.Unmarshal([]byte(fields), &component); err != nil {
					t.Fatal(err)
				}
				component["type"] = name
				n := 100
				if strings.Contains(fields, "Regex") {
					n = 10 // each pattern is tested when it is read
				}
				data := jsonOf(t, object{part: chain(lists[part], n, component)})
				tok, err := parseJSON(t.Context(), name, data)
				if err != nil {
					t.Fatal(err)
				}
				encodeBounded(t, tok, text)
			})
		}
	}
}

func TestCancelledOpeningStops(t *testing.T) {
	t.Parallel()
	done, stop := context.WithCancel(t.Context())
	stop()
	for _, name := range []string{"bbpe-qwen2", "spm-llama", "spm-unigram", "xverse-a"} {
		if _, err := Open(done, filepath.Join("testdata", name)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewGGUF(done, vocabOf(t, "testdata/bbpe-llama3", "llama-bpe")); !errors.Is(err, context.Canceled) {
		t.Errorf("GGUF: %v", err)
	}
}

func TestScanningJSONMatchesEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `[]`, `{"a":1}`, ` { "a" : [1, {"b": "}]"}] , "c\n\u0041\\\"" : "x\\" , "d":null,"e":-1.5e3,"f":{"g":[[],[[]]]} } `,
		`[1,"a,b",[2,3],{"a":{}},true,null,-0.5e-7]`, "{\"\xff\":\"\xff\"}", `{"a":1,"a":2}`,
	} {
		r := newReader(t.Context(), "test", 0)
		data := bytes.TrimSpace([]byte(text))
		if data[0] == '{' {
			var want map[string]json.RawMessage
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			got := map[string]json.RawMessage{}
			r.members(data, func(key string, value json.RawMessage) bool { got[key] = value; return true })
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("%s: got %q, want %q", text, got, want)
			}
		} else {
			var want, got []json.RawMessage
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			r.elements(data, func(i int, value json.RawMessage) bool { got = append(got, value); return i == len(got)-1 })
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("%s: got %q, want %q", text, got, want)
			}
		}
	}
}
