package constrain

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// largeVocabulary is Qwen3's, if its tokenizer is at hand, and otherwise as many made-up tokens. index finds tokens.
func largeVocabulary(tb testing.TB) (v *Vocabulary, index map[string]int) {
	tb.Helper()
	const size = 151936
	tokens := make([]string, size)
	if text, err := os.ReadFile(filepath.Join("..", "..", "shared", "tokenizers", "qwen3", "tokenizer.json")); err == nil {
		var file struct {
			Model struct{ Vocab map[string]int }
		}
		if err := json.Unmarshal(text, &file); err != nil {
			tb.Fatal(err)
		}
		for piece, id := range file.Model.Vocab {
			tokens[id] = byteLevel(piece)
		}
	} else {
		tb.Log("no tokenizer of Qwen3: the vocabulary is made up")
		madeUp(tokens)
	}
	index = map[string]int{}
	for id, s := range tokens {
		if s != "" {
			index[s] = id
		}
	}
	v, err := NewVocabulary(tokens, []int{size - 1})
	if err != nil {
		tb.Fatal(err)
	}
	return v, index
}

// byteLevel is the bytes of a token of a byte-level tokenizer: each character stands for a byte, those that can be printed
// for themselves.
func byteLevel(piece string) string {
	var out []byte
	for _, r := range piece {
		switch {
		case r < 256:
			out = append(out, byte(r))
		case r < 256+33: // 0 to space
			out = append(out, byte(r-256))
		case r < 256+33+34: // 0x7F to 0xA0
			out = append(out, byte(r-256-33+0x7F))
		default:
			out = append(out, 0xAD)
		}
	}
	return string(out)
}

// madeUp fills a vocabulary: all bytes, and words with and without a space, in several scripts, some with punctuation as it
// is in code.
func madeUp(tokens []string) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	marks := []string{`"`, `",`, `":`, `("`, "\n", "();", `\n`, ",", ".", "='", "\t", `"}`}
	for i := range len(tokens) - 1 {
		if i < 256 {
			tokens[i] = string([]byte{byte(i)})
			continue
		}
		for tokens[i] == "" || seen[tokens[i]] {
			var b strings.Builder
			if rng.IntN(2) == 0 {
				b.WriteByte(' ')
			}
			first := []rune{'a', 'a', 'a', 'A', 'а', '一'}[rng.IntN(6)]
			for range 1 + rng.IntN(8) {
				b.WriteRune(first + rune(rng.IntN(26)))
			}
			if rng.IntN(12) == 0 {
				b.WriteString(marks[rng.IntN(len(marks))])
			}
			tokens[i] = b.String()
		}
		seen[tokens[i]] = true
	}
}

// largeSchema is a schema of about 5 kB, as of a tool that books something.
func largeSchema() []byte {
	var b strings.Builder
	b.WriteString(`{"type":"object","$defs":{"address":{"type":"object","properties":{"street":{"type":"string","maxLength":80},` +
		`"city":{"type":"string"},"zip":{"type":"string","pattern":"^[0-9]{5}(-[0-9]{4})?$"},"country":{"enum":["DE","FR","US","JP"]}},` +
		`"required":["street","city"],"additionalProperties":false}},"properties":{`)
	for i := range 8 {
		fmt.Fprintf(&b, `"name_%d":{"type":"string","description":"The name of guest %d, as it is in the passport."},`, i, i)
		fmt.Fprintf(&b, `"age_%d":{"type":"integer","minimum":0,"maximum":130,"description":"The age in years."},`, i)
		fmt.Fprintf(&b, `"arrival_%d":{"type":"string","format":"date-time","description":"When the guest is expected."},`, i)
		fmt.Fprintf(&b, `"address_%d":{"$ref":"#/$defs/address"},`, i)
		fmt.Fprintf(&b, `"tags_%d":{"type":"array","items":{"type":"string","minLength":1,"maxLength":20},"maxItems":8},`, i)
		fmt.Fprintf(&b, `"code_%d":{"type":"string","pattern":"^[A-Za-z0-9 _-]{1,120}$","minLength":3},`, i)
		fmt.Fprintf(&b, `"price_%d":{"type":["number","null"],"exclusiveMinimum":0,"multipleOf":0.01},`, i)
	}
	b.WriteString(`"note":{"type":"string"}},"required":["name_0","age_0"],"additionalProperties":false}`)
	return []byte(b.String())
}

// largeDocument is a text that fits largeSchema.
func largeDocument(rng *rand.Rand) string {
	words := strings.Fields("the quick brown fox jumps over a lazy dog und läuft dann nach Hause 東京 where 12 friends-of-friends \\\"wait\\\" (quietly).")
	phrase := func(n int) string {
		var list []string
		for range 1 + rng.IntN(n) {
			list = append(list, words[rng.IntN(len(words))])
		}
		return strings.Join(list, " ")
	}
	var members []string
	for i := range 8 {
		members = append(members,
			fmt.Sprintf(`"name_%d": "%s"`, i, phrase(4)),
			fmt.Sprintf(`"age_%d": %d`, i, rng.IntN(131)),
			fmt.Sprintf(`"arrival_%d": "20%02d-%02d-%02dT%02d:30:00Z"`, i, rng.IntN(100), 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(24)),
			fmt.Sprintf(`"address_%d": {"street": "%s", "city": "%s", "zip": "%05d", "country": "JP"}`, i, phrase(2), phrase(2), rng.IntN(100000)),
			fmt.Sprintf(`"tags_%d": ["%s", "%s"]`, i, words[rng.IntN(9)], words[rng.IntN(9)]),
			fmt.Sprintf(`"code_%d": "%s order no 12 of the brown box"`, i, words[rng.IntN(9)]),
			fmt.Sprintf(`"price_%d": %d.%02d`, i, 1+rng.IntN(500), rng.IntN(100)))
	}
	members = append(members, fmt.Sprintf(`"note": "%s"`, phrase(40)))
	rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ", ") + "}"
}

// longest splits a text into the longest tokens.
func longest(index map[string]int, text string) []int {
	var ids []int
	for len(text) > 0 {
		for n := min(len(text), 64); ; n-- {
			if id, ok := index[text[:n]]; ok {
				ids = append(ids, id)
				text = text[n:]
				break
			}
		}
	}
	return ids
}

// BenchmarkMask finds the masks of documents, of which no two have their members in the same order. It reports the time of a
// mask together with that of accepting the token, in nanoseconds.
func BenchmarkMask(b *testing.B) {
	v, index := largeVocabulary(b)
	g, err := CompileSchema(v, largeSchema(), SchemaOptions{})
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	mask := make([]uint32, (v.size+31)/32)
	var times []time.Duration
	for b.Loop() {
		b.StopTimer()
		ids := longest(index, largeDocument(rng))
		m := g.Matcher()
		b.StartTimer()
		for _, id := range ids {
			start := time.Now()
			if err := m.Mask(mask); err != nil {
				b.Fatal(err)
			}
			if mask[id/32]>>(id%32)&1 == 0 {
				b.Fatalf("token %q is not allowed", v.tokens[id])
			}
			if err := m.Accept(id); err != nil {
				b.Fatal(err)
			}
			times = append(times, time.Since(start))
		}
		if !m.MayEnd() {
			b.Fatal("the document is not complete")
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2]), "p50-ns/token")
	b.ReportMetric(float64(times[len(times)*99/100]), "p99-ns/token")
	b.ReportMetric(float64(times[len(times)*999/1000]), "p99.9-ns/token")
}

func BenchmarkCompile(b *testing.B) {
	v, _ := largeVocabulary(b)
	schema := largeSchema()
	b.SetBytes(int64(len(schema)))
	for b.Loop() {
		v.kept = nil
		if _, err := CompileSchema(v, schema, SchemaOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVocabulary(b *testing.B) {
	v, _ := largeVocabulary(b)
	for b.Loop() {
		if _, err := NewVocabulary(v.tokens, v.ends); err != nil {
			b.Fatal(err)
		}
	}
}
