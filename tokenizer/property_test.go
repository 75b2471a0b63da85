package tokenizer

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// anyText draws text that mixes the classes of characters that the patterns distinguish.
func anyText() *rapid.Generator[string] {
	unit := rapid.OneOf(
		rapid.SampledFrom([]string{" ", "  ", "\n", "\r\n", "\t", "'", "'s", "'LL", "'re", "a", "Zürich", "é", "e\u0301", "1", "2023", "Ⅷ", "٣",
			"你好", "。", "!", "…", "--", "\u00a0", "\u2028", "\u3000", "😀", "\x00", "▁", "<|endoftext|>", "<0x41>", "_", "\ufffd", "İ"}),
		rapid.StringN(0, 4, -1),
	)
	return rapid.Map(rapid.SliceOfN(unit, 0, 30), func(s []string) string { return strings.ToValidUTF8(strings.Join(s, ""), "\ufffd") })
}

// hanText draws sequences of common ideographs, and bytes that interrupt them.
func hanText() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.OneOf(rapid.SampledFrom([]rune("的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年你好世界é😀ひА")), rapid.RuneFrom(nil, unicode.Han)), 0, 40, -1)
}

// The scanners fold case as the reference library does; regexp2 doesn't fold U+017F to s.
func TestScannersMatchRegexp(t *testing.T) {
	for expr, scan := range coverScanners {
		re := regexp2.MustCompile(expr, regexp2.None)
		t.Run(expr[:20], func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				text := strings.ReplaceAll(anyText().Draw(t, "text"), "ſ", "")
				var want, got []string
				found, err := re.FindAllStringIndex(text, -1)
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range found {
					want = append(want, text[at[0]:at[1]])
				}
				for s := []byte(text); len(s) > 0; {
					n := scan(s)
					got = append(got, string(s[:n]))
					s = s[n:]
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%q (-want +got):\n%s", text, diff)
				}
			})
		})
	}
}

func TestDigitSplitsMatchRegexp(t *testing.T) {
	for _, expr := range []string{`\p{N}`, `\p{N}+`, `\p{N}{1,3}`, `[0-9]`, `[0-9][0-9][0-9]`} {
		re, err := compilePattern(expr)
		if err != nil {
			t.Fatal(err)
		}
		for name, how := range behaviors {
			rapid.Check(t, func(t *rapid.T) {
				text := []byte(anyText().Draw(t, "text"))
				invert := rapid.Bool().Draw(t, "invert")
				list := func(p preTokenizer) (pieces []string) {
					p.split(newEncoder(0, len(text)), 0, text, true, func(s []byte, _ bool) { pieces = append(pieces, string(s)) })
					return pieces
				}
				want := list(regexSplit{re: re, how: how, invert: invert})
				if got := list(knownSplit(expr, how, invert)); !slices.Equal(got, want) {
					t.Fatalf("%s %s: got %q, want %q", expr, name, got, want)
				}
			})
		}
	}
}

// mergeSlowly follows the definition: it joins the leftmost pair of the lowest rank until there is none.
func mergeSlowly(t *pairTable, ids []int32) []int32 {
	for {
		best, at := merge{noRank, -1}, -1
		for i := 0; i+1 < len(ids); i++ {
			if m := t.get(ids[i], ids[i+1]); m.rank < best.rank {
				best, at = m, i
			}
		}
		if at < 0 {
			return ids
		}
		ids = slices.Concat(ids[:at], []int32{best.id}, ids[at+2:])
	}
}

func TestMergingMatchesDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newPairTable(4)
		n := rapid.Int32Range(2, 12).Draw(t, "symbols")
		sum := func(a, b int32) int32 { return a*31 + b + n } // any new symbol that is not made of itself
		for range rapid.IntRange(0, 60).Draw(t, "merges") {
			a, b := rapid.Int32Range(0, n-1).Draw(t, "a"), rapid.Int32Range(0, n-1).Draw(t, "b")
			table.put(a, b, merge{rapid.Int32Range(0, 9).Draw(t, "rank"), sum(a, b)})
			c := rapid.Int32Range(0, n-1).Draw(t, "c")
			table.put(sum(a, b), c, merge{rapid.Int32Range(0, 9).Draw(t, "rank"), sum(sum(a, b), c)})
			table.put(c, sum(a, b), merge{rapid.Int32Range(0, 9).Draw(t, "rank"), sum(c, sum(a, b))})
		}
		ids := rapid.SliceOfN(rapid.Int32Range(0, n-1), 0, 200).Draw(t, "word")
		want := mergeSlowly(table, slices.Clone(ids))
		var g merger
		for range 2 { // the second time the working memory is reused
			if got := g.mergeAll(table, slices.Clone(ids)); !slices.Equal(got, want) {
				t.Fatalf("mergeAll: got %v, want %v", got, want)
			}
			if len(ids) > 1 {
				if got := g.mergeLong(table, slices.Clone(ids)); !slices.Equal(got, want) {
					t.Fatalf("mergeLong: got %v, want %v", got, want)
				}
			}
		}
	})
}

// Cutting a word where no token can cross the cut does not change its tokens.
func TestCuttingWordsChangesNothing(t *testing.T) {
	for _, name := range []string{"xverse-a", "xverse-b", "spm-llama", "spm-internlm", "spm-suffix", "bbpe-llama3", "bbpe-qwen2"} {
		tok := open(t, filepath.Join("testdata", name), Options{})
		m := tok.model.(*bpe)
		if m.joins == nil {
			t.Fatalf("%s: words are not cut", name)
		}
		whole := *m
		whole.joins = nil
		rapid.Check(t, func(t *rapid.T) {
			text := strings.Repeat(anyText().Draw(t, "text"), 2) + hanText().Draw(t, "han")
			got := tok.Encode(text, EncodeOptions{})
			tok.model = &whole
			tok.idle = nil // drop the cache, which has the chunks
			defer func() { tok.model = m }()
			if want := tok.Encode(text, EncodeOptions{}); !slices.Equal(got, want) {
				t.Fatalf("%s: %q: got %v, want %v", name, text, got, want)
			}
		})
	}
}

func TestByteLevelRoundTrip(t *testing.T) {
	for _, name := range []string{"bbpe-llama3", "bbpe-falcon"} { // no normalizer, all 256 bytes
		tok := open(t, filepath.Join("testdata", name), Options{})
		rapid.Check(t, func(t *rapid.T) {
			text := anyText().Draw(t, "text")
			for _, parse := range []bool{false, true} {
				ids := tok.Encode(text, EncodeOptions{ParseSpecial: parse})
				if got := tok.Decode(ids, false); got != text {
					t.Fatalf("%s: %q became %q", name, text, got)
				}
			}
		})
	}
}

// Streaming any tokens, valid text or not, gives valid UTF-8 that joins to Decode.
func TestStreamJoinsToDecode(t *testing.T) {
	for _, name := range testdataNames {
		tok := open(t, filepath.Join("testdata", name), Options{})
		rapid.Check(t, func(t *rapid.T) {
			ids := tok.Encode(anyText().Draw(t, "text"), EncodeOptions{ParseSpecial: rapid.Bool().Draw(t, "parse")})
			s, skip := tok.Stream(), true
			if rapid.Bool().Draw(t, "special") {
				s, skip = tok.StreamSpecial(), false
			}
			var b strings.Builder
			for _, id := range ids {
				part := s.Next(id)
				if !utf8.ValidString(part) {
					t.Fatalf("%s: token %d gave %q", name, id, part)
				}
				b.WriteString(part)
			}
			b.WriteString(s.Flush())
			if want := tok.Decode(ids, skip); b.String() != want {
				t.Fatalf("%s: streamed %q, want %q", name, b.String(), want)
			}
		})
		rapid.Check(t, func(t *rapid.T) {
			s := tok.Stream()
			for _, id := range rapid.SliceOfN(rapid.IntRange(-2, tok.VocabSize()+2), 0, 50).Draw(t, "ids") {
				if part := s.Next(id); !utf8.ValidString(part) {
					t.Fatalf("%s: token %d gave %q", name, id, part)
				}
			}
			if part := s.Flush(); !utf8.ValidString(part) {
				t.Fatalf("%s: flush gave %q", name, part)
			}
		})
	}
}

// The text of special tokens stays text without ParseSpecial.
func TestSpecialTokensOfTextStayText(t *testing.T) {
	for _, name := range testdataNames {
		t.Run(name, func(t *testing.T) {
			tok := open(t, filepath.Join("testdata", name), Options{ChatGLM: name == "spm-chatglm2"})
			n := 0
			for id := range tok.VocabSize() {
				if !tok.IsSpecial(id) || tok.Piece(id) == "" {
					continue
				}
				n++
				text := "a " + tok.Piece(id) + " b"
				for _, got := range tok.Encode(text, EncodeOptions{}) {
					if tok.IsSpecial(got) && got != unknownOf(tok) {
						t.Errorf("%q has special token %q", text, tok.Piece(got))
					}
				}
				if got := tok.Encode(text, EncodeOptions{ParseSpecial: true}); !slices.Contains(got, id) {
					t.Errorf("%q: got %v, want %d in it", text, got, id)
				}
			}
			if n == 0 {
				t.Error("no special tokens")
			}
		})
	}
}

func unknownOf(tok *Tokenizer) int {
	switch m := tok.model.(type) {
	case *bpe:
		return int(m.unk)
	case *unigram:
		return int(m.unk)
	}
	return -1
}

func TestOneLetterLineIsLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("encodes 10 MB lines")
	}
	for _, name := range []string{"bbpe-llama3", "xverse-a", "xverse-b", "spm-llama", "spm-nfkc", "bbpe-neox"} {
		tok := open(t, filepath.Join("testdata", name), Options{})
		for _, unit := range []string{"a", " ", "你"} {
			text := strings.Repeat(unit, 2_000_000/len(unit))
			start := time.Now()
			ids := tok.Encode(text, EncodeOptions{})
			took := time.Since(start)
			t.Logf("%s: 2 MB of %q: %d tokens, %v", name, unit, len(ids), took.Round(time.Millisecond))
			if took > 20*time.Second { // a quadratic algorithm takes hours
				t.Errorf("%s: 2 MB of %q took %v", name, unit, took)
			}
		}
	}
}

func TestConcurrentEncode(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "bbpe-llama3"), Options{})
	vs := readVectors(t, filepath.Join("testdata", "bbpe-llama3"))
	done := make(chan string)
	for range 8 {
		go func() {
			for _, v := range vs {
				if got := tok.Encode(v.Text, EncodeOptions{ParseSpecial: true}); !slices.Equal(got, v.IDs) {
					done <- v.Text
					return
				}
			}
			done <- ""
		}()
	}
	for range 8 {
		if text := <-done; text != "" {
			t.Errorf("%q differs", text)
		}
	}
}
