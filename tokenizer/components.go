package tokenizer

import (
	"encoding/base64"
	"math"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func readNormalizer(s section, depth int) normalizer {
	switch kind := s.needText("type"); kind {
	case "Sequence":
		var n normSequence
		for _, p := range s.components("normalizers", depth) {
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
		n := bertNorm{clean: s.flag("clean_text", true), chinese: s.flag("handle_chinese_chars", true), lower: s.flag("lowercase", true)}
		n.strip = s.flag("strip_accents", n.lower)
		return n.sequence()
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
		start := time.Now()
		re, err := compilePattern(expr)
		if s.r.patterns += time.Since(start); err == nil && s.r.patterns > 2*probeTimeout {
			err = errSlowPattern
		}
		if err != nil {
			s.r.unsupported(p.at("Regex"), "pattern %q: %q", expr[:min(len(expr), 100)], err)
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
		for _, p := range s.components("pretokenizers", depth) {
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
		return bertSplit()
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

// decoderReader reads a decoder and determines whether it is local. With a local decoder the text
// of tokens never changes when more tokens follow, so a Stream can forget them.
type decoderReader struct {
	fused bool // the decoders so far leave one token
	local bool
}

func (d *decoderReader) read(s section, depth int) decoder {
	switch kind := s.needText("type"); kind {
	case "Sequence":
		var l decSequence
		for _, p := range s.components("decoders", depth) {
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
