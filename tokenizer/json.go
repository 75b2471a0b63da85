package tokenizer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The reader of Hugging Face's tokenizer.json, in its current and older spellings.
// Fields that the format doesn't define are ignored, as the reference library does;
// component types and values that are not known are errors.

const (
	maxDepth  = 16      // of Sequence in Sequence
	maxAdded  = 1 << 12 // bytes of an added token
	maxVocab  = 1 << 24 // ids
	maxPiece  = 1 << 9  // bytes of a SentencePiece piece that takes part in merging
	maxLength = 1 << 20 // numbers such as Strip's counts
	spareIDs  = 1 << 16 // how far ids may lie beyond the number of tokens
)

// reader carries the file name and the first error through the nested sections.
type reader struct {
	file string
	err  error
}

// section is one JSON object and where it is. A section of an absent or null value has no fields.
type section struct {
	r      *reader
	path   string
	fields map[string]json.RawMessage
}

func (r *reader) fail(path, format string, args ...any) {
	if r.err == nil {
		r.err = &FormatError{File: r.file, Path: path, Msg: fmt.Sprintf(format, args...)}
	}
}

func (r *reader) unsupported(path, format string, args ...any) {
	if r.err == nil {
		r.err = &UnsupportedError{File: r.file, Path: path, Feature: fmt.Sprintf(format, args...)}
	}
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func (r *reader) section(raw json.RawMessage, path string) section {
	s := section{r: r, path: path}
	if isNull(raw) {
		return s
	}
	if err := json.Unmarshal(raw, &s.fields); err != nil {
		r.fail(path, "want an object")
	}
	return s
}

func (s section) at(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

func (s section) has(key string) bool { return !isNull(s.fields[key]) }

func (s section) section(key string) section { return s.r.section(s.fields[key], s.at(key)) }

// into decodes a field if it is there and not null, and reports whether it was.
func (s section) into(key string, v any, want string) bool {
	if !s.has(key) {
		return false
	}
	if err := json.Unmarshal(s.fields[key], v); err != nil {
		s.r.fail(s.at(key), "want %s", want)
		return false
	}
	return true
}

func (s section) text(key string, def string) string {
	s.into(key, &def, "a string")
	return def
}

func (s section) needText(key string) string {
	if !s.has(key) {
		s.r.fail(s.at(key), "missing")
	}
	return s.text(key, "")
}

// shortText reads a text that is put into others, so its length is bounded.
func (s section) shortText(key string) string {
	text := s.needText(key)
	if len(text) > maxPiece {
		s.r.fail(s.at(key), "%d bytes", len(text))
	}
	return text
}

func (s section) flag(key string, def bool) bool {
	s.into(key, &def, "true or false")
	return def
}

func (s section) number(key string, def int) int {
	v := float64(def)
	if s.into(key, &v, "a number") && (v != math.Trunc(v) || math.Abs(v) > math.MaxInt32) {
		s.r.fail(s.at(key), "want an integer, got %g", v)
		return def
	}
	return int(v)
}

func (s section) list(key string) []json.RawMessage {
	var l []json.RawMessage
	s.into(key, &l, "a list")
	return l
}

// parts returns the components of a Sequence.
func (s section) parts(key string, depth int) []section {
	if depth >= maxDepth {
		s.r.fail(s.at(key), "nested more than %d deep", maxDepth)
		return nil
	}
	var parts []section
	for i, raw := range s.list(key) {
		parts = append(parts, s.r.section(raw, fmt.Sprintf("%s[%d]", s.at(key), i)))
	}
	return parts
}

// parseJSON builds a tokenizer from the contents of a tokenizer.json.
func parseJSON(file string, data []byte) (*Tokenizer, error) {
	r := &reader{file: file}
	if !utf8.Valid(data) {
		return nil, &FormatError{File: file, Msg: "not UTF-8"}
	}
	top := section{r: r}
	if err := json.Unmarshal(data, &top.fields); err != nil {
		return nil, &FormatError{File: file, Msg: fmt.Sprintf("not a JSON object: %v", err)}
	}
	t := newTokenizer(file)
	if !top.has("model") {
		r.fail("model", "missing")
	}
	added := readAdded(top)
	m := top.section("model")
	t.model = readModel(t, m)
	if r.err != nil {
		return nil, r.err
	}
	if top.has("normalizer") {
		t.normalizer = readNormalizer(top.section("normalizer"), 0)
	}
	if top.has("pre_tokenizer") {
		t.pre = readPreTokenizer(top.section("pre_tokenizer"), 0)
	}
	if top.has("post_processor") {
		readPostProcessor(t, top.section("post_processor"), 0)
	}
	if top.has("decoder") {
		d := decoderReader{local: true}
		t.decoder = d.read(top.section("decoder"), 0)
		t.local = d.local
	} else {
		t.local = true
	}
	if r.err != nil {
		return nil, r.err
	}
	for i, a := range added {
		if id, ok := t.ids[a.Content]; ok {
			a.ID = int(id) // the model's id counts, as in the reference library
		}
		if a.ID > len(t.pieces)+spareIDs {
			r.fail(fmt.Sprintf("added_tokens[%d].id", i), "%d is far beyond the vocabulary of %d", a.ID, len(t.pieces))
		}
		t.addToken(r, a, fmt.Sprintf("added_tokens[%d]", i))
	}
	for _, id := range slices.Concat(t.prefix, t.suffix) {
		if id >= len(t.pieces) || t.flags[id]&flagToken == 0 {
			r.fail("post_processor", "adds id %d, which is no token", id)
		}
	}
	t.buildAdded(r)
	t.useRawBytes()
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

func readAdded(top section) []AddedToken {
	var added []AddedToken
	for i, raw := range top.list("added_tokens") {
		s := top.r.section(raw, fmt.Sprintf("added_tokens[%d]", i))
		if !s.has("id") {
			top.r.fail(s.at("id"), "missing")
		}
		a := AddedToken{
			ID: s.number("id", -1), Content: s.needText("content"), Special: s.flag("special", false),
			SingleWord: s.flag("single_word", false), LStrip: s.flag("lstrip", false), RStrip: s.flag("rstrip", false),
		}
		a.Normalized = s.flag("normalized", !a.Special)
		added = append(added, a)
		if top.r.err != nil {
			return nil
		}
	}
	return added
}

// readModel builds the model and enters its vocabulary into t. Files written before
// models had a type are told by their fields, as the reference library does.
func readModel(t *Tokenizer, s section) model {
	kind := s.text("type", "")
	if kind == "" {
		switch {
		case s.has("merges"):
			kind = "BPE"
		case s.has("unk_id"):
			kind = "Unigram"
		case s.has("continuing_subword_prefix") && s.has("max_input_chars_per_word"):
			kind = "WordPiece"
		case s.has("vocab") && s.has("unk_token"):
			kind = "WordLevel"
		}
	}
	switch kind {
	case "BPE":
		return readBPE(t, s)
	case "Unigram":
		return readUnigram(t, s)
	case "WordPiece":
		vocab := readVocab(t, s)
		m := &wordPiece{t: t, vocab: vocab, prefix: s.text("continuing_subword_prefix", "##"),
			maxChars: s.number("max_input_chars_per_word", 100)}
		for text := range vocab {
			m.longest = max(m.longest, len(text))
		}
		if m.maxChars < 0 || m.maxChars > maxPiece {
			s.r.fail(s.at("max_input_chars_per_word"), "%d is out of range", m.maxChars)
		}
		m.unk = readUnknown(s, vocab, "[UNK]")
		if m.unk < 0 {
			s.r.fail(s.at("unk_token"), "not in the vocabulary")
		}
		return m
	case "WordLevel":
		vocab := readVocab(t, s)
		return &wordLevel{t: t, vocab: vocab, unk: readUnknown(s, vocab, "<unk>")}
	case "":
		s.r.fail(s.at("type"), "missing")
	default:
		s.r.unsupported(s.at("type"), "model %q", kind)
	}
	return nil
}

func readUnknown(s section, vocab map[string]int32, def string) int32 {
	if id, ok := vocab[s.text("unk_token", def)]; ok {
		return id
	}
	return -1
}

// readVocab reads a vocabulary written as an object from token to id.
func readVocab(t *Tokenizer, s section) map[string]int32 {
	var raw map[string]int64
	if !s.into("vocab", &raw, "an object of token ids") {
		s.r.fail(s.at("vocab"), "missing")
		return nil
	}
	vocab := make(map[string]int32, len(raw))
	for text, id := range raw {
		if id < 0 || id >= maxVocab || id > int64(len(raw)+spareIDs) {
			s.r.fail(s.at("vocab"), "token %q has id %d, out of range for %d tokens", text, id, len(raw))
			return nil
		}
		vocab[text] = int32(id)
		t.setPiece(s.r, int(id), text, s.at("vocab"))
	}
	return vocab
}

// mergePair is an entry of merges: "a b" or ["a", "b"].
type mergePair [2]string

func (p *mergePair) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var l []string
		if err := json.Unmarshal(b, &l); err != nil {
			return err
		}
		if len(l) != 2 {
			return fmt.Errorf("pair of %d", len(l))
		}
		p[0], p[1] = l[0], l[1]
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var ok bool
	p[0], p[1], ok = strings.Cut(s, " ")
	if !ok || strings.Contains(p[1], " ") {
		return fmt.Errorf("merge %q is not two tokens", s)
	}
	return nil
}

func readBPE(t *Tokenizer, s section) model {
	m := newBPE(t)
	vocab := readVocab(t, s)
	if s.r.err != nil {
		return nil
	}
	if s.has("dropout") {
		var p float64
		if s.into("dropout", &p, "a number"); p != 0 {
			s.r.unsupported(s.at("dropout"), "BPE dropout %g", p)
		}
	}
	m.prefix, m.suffix = s.text("continuing_subword_prefix", ""), s.text("end_of_word_suffix", "")
	m.fallback, m.fuse = s.flag("byte_fallback", false), s.flag("fuse_unk", false)
	if s.has("unk_token") {
		if m.unk = readUnknown(s, vocab, ""); m.unk < 0 {
			s.r.fail(s.at("unk_token"), "%q is not in the vocabulary", s.text("unk_token", ""))
		}
	}
	if s.flag("ignore_merges", false) {
		m.whole = vocab
	}
	m.findBytes(func(b string) (int32, bool) { id, ok := vocab[b]; return id, ok })
	if m.prefix != "" || m.suffix != "" {
		m.vocab = vocab
	}
	for text, id := range vocab {
		if r, n := utf8.DecodeRuneInString(text); n == len(text) && n > 0 {
			m.setRune(r, id)
		}
	}
	if !s.has("merges") {
		s.r.fail(s.at("merges"), "missing")
		return nil
	}
	readMerges(m, s, vocab)
	return m
}

func readMerges(m *bpe, s section, vocab map[string]int32) {
	var merges []mergePair
	if err := json.Unmarshal(s.fields["merges"], &merges); err != nil {
		// Find the culprit for the message.
		for i, raw := range s.list("merges") {
			var p mergePair
			if err := json.Unmarshal(raw, &p); err != nil {
				s.r.fail(fmt.Sprintf("%s[%d]", s.at("merges"), i), "%v", err)
			}
		}
		s.r.fail(s.at("merges"), "%v", err)
		return
	}
	special := map[int32]bool{m.unk: true}
	for _, id := range m.byteIDs {
		special[id] = true
	}
	m.pairs = newPairTable(len(merges))
	joins := new(pairFilter)
	for i, p := range merges {
		a, okA := vocab[p[0]]
		b, okB := vocab[p[1]]
		tail, okP := strings.CutPrefix(p[1], m.prefix)
		id, ok := vocab[p[0]+tail]
		if !okA || !okB || !okP || !ok {
			s.r.fail(fmt.Sprintf("%s[%d]", s.at("merges"), i), "%q + %q: not in the vocabulary", p[0], p[1])
			return
		}
		if p[0] == "" || tail == "" {
			s.r.fail(fmt.Sprintf("%s[%d]", s.at("merges"), i), "merges an empty token")
			return
		}
		m.pairs.put(a, b, merge{int32(i), id})
		if special[a] || special[b] {
			joins = nil // bytes of one character may join another's
		}
		if joins != nil {
			joins.add(p[0] + tail)
		}
	}
	if m.vocab == nil && (!m.fallback || m.allBytes) {
		m.joins = joins
	}
}

func readUnigram(t *Tokenizer, s section) model {
	m := &unigram{t: t, trie: newByteTrie(), unk: -1}
	var vocab [][2]json.RawMessage
	if !s.into("vocab", &vocab, "a list of [token, score]") {
		s.r.fail(s.at("vocab"), "missing")
		return nil
	}
	if len(vocab) > maxVocab {
		s.r.fail(s.at("vocab"), "%d tokens", len(vocab))
		return nil
	}
	low := math.Inf(1)
	byText := make(map[string]int32, len(vocab))
	for id, entry := range vocab {
		var text string
		var score float64
		if json.Unmarshal(entry[0], &text) != nil || json.Unmarshal(entry[1], &score) != nil {
			s.r.fail(fmt.Sprintf("%s[%d]", s.at("vocab"), id), "want [token, score]")
			return nil
		}
		low = min(low, score)
		m.scores = append(m.scores, score)
		m.trie.add(text, int32(id))
		byText[text] = int32(id)
		t.setPiece(s.r, id, text, s.at("vocab"))
	}
	m.unkScore = low - unkPenalty
	if s.has("unk_id") {
		unk := s.number("unk_id", -1)
		if unk < 0 || unk >= len(vocab) {
			s.r.fail(s.at("unk_id"), "%d is outside the vocabulary of %d", unk, len(vocab))
			return nil
		}
		m.unk = int32(unk)
	}
	m.fallback = s.flag("byte_fallback", false)
	for b := range m.byteIDs {
		m.byteIDs[b] = -1
		if id, ok := byText[byteToken(byte(b))]; ok {
			m.byteIDs[b] = id
		}
	}
	return m
}

func readNormalizer(s section, depth int) normalizer {
	switch kind := s.needText("type"); kind {
	case "Sequence":
		var n normSequence
		for _, p := range s.parts("normalizers", depth) {
			if q := readNormalizer(p, depth+1); q != nil {
				n = append(n, q)
			}
		}
		return n
	case "NFC":
		return unicodeNorm{norm.NFC}
	case "NFD":
		return unicodeNorm{norm.NFD}
	case "NFKC":
		return unicodeNorm{norm.NFKC}
	case "NFKD":
		return unicodeNorm{norm.NFKD}
	case "Lowercase":
		return mapNorm(lowercase)
	case "StripAccents":
		return mapNorm(stripAccents)
	case "Nmt":
		return mapNorm(nmt)
	case "Strip":
		return stripNorm{s.flag("strip_left", true), s.flag("strip_right", true)}
	case "Prepend":
		return prependNorm{[]byte(s.shortText("prepend"))}
	case "ByteLevel":
		return byteLevelNorm{}
	case "Replace":
		old, re := readPattern(s)
		content := []byte(s.shortText("content"))
		if re != nil {
			return replaceRegexNorm{re, content}
		}
		return replaceNorm{[]byte(old), content}
	case "BertNormalizer":
		var n normSequence
		if s.flag("clean_text", true) {
			n = append(n, mapNorm(bertClean))
		}
		if s.flag("handle_chinese_chars", true) {
			n = append(n, mapNorm(bertChinese))
		}
		lower := s.flag("lowercase", true)
		if s.flag("strip_accents", lower) {
			n = append(n, unicodeNorm{norm.NFD}, mapNorm(bertAccents))
		}
		if lower {
			n = append(n, mapNorm(lowercase))
		}
		return n
	case "Precompiled":
		blob, err := base64.StdEncoding.DecodeString(s.text("precompiled_charsmap", ""))
		if err != nil {
			s.r.fail(s.at("precompiled_charsmap"), "%v", err)
			return nil
		}
		if len(blob) == 0 {
			return normSequence{}
		}
		m, err := parseCharsMap(blob)
		if err != nil {
			s.r.fail(s.at("precompiled_charsmap"), "%v", err)
			return nil
		}
		return precompiledNorm{m}
	default:
		s.r.unsupported(s.at("type"), "normalizer %q", kind)
	}
	return nil
}

// readPattern reads {"String": ...} or {"Regex": ...}, or the bare string of old files.
func readPattern(s section) (literal string, re *pattern) {
	if !s.has("pattern") {
		s.r.fail(s.at("pattern"), "missing")
		return "", nil
	}
	if s.fields["pattern"][0] == '"' {
		return s.text("pattern", ""), nil
	}
	p := s.section("pattern")
	if p.has("Regex") {
		expr := p.text("Regex", "")
		re, err := compilePattern(expr)
		if err != nil {
			s.r.unsupported(p.at("Regex"), "pattern %q: %v", expr, err)
		}
		return expr, re
	}
	return p.needText("String"), nil
}

func (s section) behavior(def behavior) behavior {
	name := s.text("behavior", "")
	if name == "" {
		return def
	}
	b, ok := behaviors[name]
	if !ok {
		s.r.unsupported(s.at("behavior"), "behavior %q", name)
	}
	return b
}

func readPreTokenizer(s section, depth int) []preTokenizer {
	switch kind := s.needText("type"); kind {
	case "Sequence":
		var l []preTokenizer
		for _, p := range s.parts("pretokenizers", depth) {
			l = append(l, readPreTokenizer(p, depth+1)...)
		}
		return l
	case "ByteLevel":
		return []preTokenizer{byteLevelSplit{addPrefixSpace: s.flag("add_prefix_space", true), useRegex: s.flag("use_regex", true)}}
	case "Metaspace":
		p, prepend := readMetaspace(s)
		return []preTokenizer{metaspaceSplit{p, prepend, s.flag("split", true)}}
	case "Split":
		return []preTokenizer{readSplit(s)}
	case "Digits":
		if s.flag("individual_digits", false) {
			return []preTokenizer{classSplit{class: classNumber, how: isolated}}
		}
		return []preTokenizer{classSplit{class: classNumber, how: contiguous}}
	case "Punctuation":
		return []preTokenizer{classSplit{class: classPunct, how: s.behavior(isolated)}}
	case "Whitespace":
		return []preTokenizer{wordSplit{}}
	case "WhitespaceSplit":
		return []preTokenizer{classSplit{class: classSpace, how: removed}}
	case "BertPreTokenizer":
		return []preTokenizer{classSplit{class: classSpace, how: removed}, classSplit{class: classPunct, how: isolated}}
	case "CharDelimiterSplit":
		d := s.needText("delimiter")
		if utf8.RuneCountInString(d) != 1 {
			s.r.fail(s.at("delimiter"), "want one character, got %q", d)
		}
		r, _ := utf8.DecodeRuneInString(d)
		return []preTokenizer{charSplit{r}}
	case "UnicodeScripts":
		return []preTokenizer{scriptSplit{}}
	case "FixedLength":
		n := s.number("length", 5)
		if n <= 0 {
			s.r.fail(s.at("length"), "%d", n)
			n = 1
		}
		return []preTokenizer{fixedSplit{n}}
	default:
		s.r.unsupported(s.at("type"), "pre-tokenizer %q", kind)
	}
	return nil
}

// readMetaspace reads the fields that the pre-tokenizer and the decoder share:
// prepend_scheme, or add_prefix_space in older files.
func readMetaspace(s section) (replacement string, prepend uint8) {
	replacement = s.text("replacement", spaceSymbol)
	if utf8.RuneCountInString(replacement) != 1 {
		s.r.fail(s.at("replacement"), "want one character, got %q", replacement)
	}
	prepend = prependAlways
	if s.has("add_prefix_space") && !s.flag("add_prefix_space", true) {
		prepend = prependNever
	}
	switch scheme := s.text("prepend_scheme", ""); scheme {
	case "":
	case "always":
		prepend = prependAlways
	case "first":
		prepend = prependFirst
	case "never":
		prepend = prependNever
	default:
		s.r.unsupported(s.at("prepend_scheme"), "prepend scheme %q", scheme)
	}
	return replacement, prepend
}

func readSplit(s section) preTokenizer {
	how, invert := s.behavior(isolated), s.flag("invert", false)
	if !s.has("behavior") {
		s.r.fail(s.at("behavior"), "missing")
	}
	if p := s.section("pattern"); p.has("Regex") {
		if q := knownSplit(p.text("Regex", ""), how, invert); q != nil {
			return q
		}
	}
	literal, re := readPattern(s)
	if re != nil {
		return regexSplit{re, how, invert}
	}
	return stringSplit{[]byte(literal), how, invert}
}

// knownSplit returns the hand-written form of a pattern, or nil.
func knownSplit(expr string, how behavior, invert bool) preTokenizer {
	if scan := coverScanners[expr]; scan != nil {
		return scanSplit{scan, how, invert}
	}
	switch expr {
	case `\p{N}`:
		return digitSplit{max: 1, how: how, invert: invert}
	case `\p{N}+`:
		return digitSplit{max: math.MaxInt, how: how, invert: invert}
	case `\p{N}{1,3}`:
		return digitSplit{max: 3, how: how, invert: invert}
	case `[0-9]`:
		return digitSplit{max: 1, ascii: true, how: how, invert: invert}
	case `[0-9][0-9][0-9]`:
		return digitSplit{max: 3, ascii: true, exact: true, how: how, invert: invert}
	}
	return nil
}

// readPostProcessor adds what the processor puts around a single text.
func readPostProcessor(t *Tokenizer, s section, depth int) {
	around := func(before, after []int) {
		t.prefix = slices.Concat(before, t.prefix)
		t.suffix = slices.Concat(t.suffix, after)
	}
	switch kind := s.needText("type"); kind {
	case "Sequence":
		for _, p := range s.parts("processors", depth) {
			readPostProcessor(t, p, depth+1)
		}
	case "ByteLevel": // only trims offsets
	case "BertProcessing", "RobertaProcessing":
		around([]int{tokenPair(s, "cls")}, []int{tokenPair(s, "sep")})
	case "TemplateProcessing":
		before, after := readTemplate(s)
		around(before, after)
	default:
		s.r.unsupported(s.at("type"), "post-processor %q", kind)
	}
}

// tokenPair reads ["[CLS]", 101].
func tokenPair(s section, key string) int {
	l := s.list(key)
	var id float64
	if len(l) != 2 || json.Unmarshal(l[1], &id) != nil || id != math.Trunc(id) || id < 0 || id >= maxVocab {
		s.r.fail(s.at(key), "want [token, id]")
	}
	return int(id)
}

func readTemplate(s section) (before, after []int) {
	special := s.section("special_tokens")
	seen := false
	for i, raw := range s.list("single") {
		p := s.r.section(raw, fmt.Sprintf("%s[%d]", s.at("single"), i))
		switch {
		case p.has("Sequence"):
			if id := p.section("Sequence").text("id", ""); id != "A" || seen {
				s.r.unsupported(p.at("Sequence"), "sequence %q in the template of a single text", id)
			}
			seen = true
		case p.has("SpecialToken"):
			name := p.section("SpecialToken").needText("id")
			var ids []float64
			if !special.section(name).into("ids", &ids, "a list of ids") {
				s.r.fail(special.at(name), "missing")
			}
			for _, id := range ids {
				if id != math.Trunc(id) || id < 0 || id >= maxVocab {
					s.r.fail(special.at(name), "id %g", id)
					continue
				}
				if seen {
					after = append(after, int(id))
				} else {
					before = append(before, int(id))
				}
			}
		default:
			s.r.unsupported(p.path, "template item")
		}
	}
	if !seen {
		s.r.unsupported(s.at("single"), "template without the text")
	}
	return before, after
}

// decoderReader reads a decoder and works out whether it is local: whether the text
// of tokens never changes when more follow, which lets a Stream forget them.
type decoderReader struct {
	fused bool // one token is left
	local bool
}

func (d *decoderReader) read(s section, depth int) decoder {
	switch kind := s.needText("type"); kind {
	case "Sequence":
		var l decSequence
		for _, p := range s.parts("decoders", depth) {
			if q := d.read(p, depth+1); q != nil {
				l = append(l, q)
			}
		}
		return l
	case "ByteLevel":
		d.local = d.local && !d.fused
		d.fused = true
		return byteLevelDecoder{}
	case "ByteFallback":
		return byteFallbackDecoder{}
	case "Fuse":
		d.fused = true
		return fuseDecoder{}
	case "Replace":
		old, re := readPattern(s)
		content := s.shortText("content")
		d.local = d.local && !(d.fused && (re != nil || utf8.RuneCountInString(old) > 1))
		if re != nil {
			return regexReplaceDecoder{replaceRegexNorm{re, []byte(content)}}
		}
		return replaceDecoder{old, content}
	case "Metaspace":
		d.local = d.local && !d.fused
		replacement, prepend := readMetaspace(s)
		return metaspaceDecoder{replacement, prepend != prependNever}
	case "Strip":
		p := stripDecoder{s.needText("content"), s.number("start", 0), s.number("stop", 0), d.fused}
		if p.start < 0 || p.stop < 0 || p.start > maxLength || p.stop > maxLength || p.content == "" {
			s.r.fail(s.path, "strip %q from %d to %d", p.content, p.start, p.stop)
		}
		d.local = d.local && !(d.fused && p.stop > 0)
		return p
	case "WordPiece":
		d.local = d.local && !d.fused
		return wordPieceDecoder{s.text("prefix", "##"), s.flag("cleanup", true)}
	case "BPEDecoder":
		d.local = false
		return bpeDecoder{s.text("suffix", "</w>")}
	case "CTC":
		d.local = false
		return ctcDecoder{s.text("pad_token", "<pad>"), s.text("word_delimiter_token", "|"), s.flag("cleanup", true)}
	default:
		s.r.unsupported(s.at("type"), "decoder %q", kind)
	}
	return nil
}
