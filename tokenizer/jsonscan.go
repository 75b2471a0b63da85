package tokenizer

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// This file scans JSON that is known to be valid, without copies: encoding/json makes maps and lists of everything,
// which take many times the memory of the file, and can't be cancelled.

// members calls yield with each member of a JSON object, in order, until yield returns false, the reader has failed or
// its context has ended.
func (r *reader) members(raw []byte, yield func(key string, value json.RawMessage) bool) {
	for n, i := 0, 1; r.going(n); n++ {
		i = skipSpace(raw, i)
		if i < len(raw) && raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
		if i >= len(raw) || raw[i] == '}' {
			return
		}
		end := skipValue(raw, i)
		key, _ := jsonText(raw[i:end])
		i = skipSpace(raw, skipSpace(raw, end)+1) // the colon
		end = skipValue(raw, i)
		if !yield(key, raw[i:end:end]) {
			return
		}
		i = end
	}
}

// elements calls yield with each element of a JSON array as members does.
func (r *reader) elements(raw []byte, yield func(i int, value json.RawMessage) bool) {
	for n, i := 0, 1; r.going(n); n++ {
		i = skipSpace(raw, i)
		if i < len(raw) && raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
		if i >= len(raw) || raw[i] == ']' {
			return
		}
		end := skipValue(raw, i)
		if !yield(n, raw[i:end:end]) {
			return
		}
		i = end
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the value that starts at b[i].
func skipValue(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ' ', '\n', '\t', '\r', ':':
			if depth == 0 {
				return i
			}
			continue
		default:
			if depth > 0 {
				continue
			}
			for i+1 < len(b) && b[i+1] > ' ' && b[i+1] != ',' && b[i+1] != '}' && b[i+1] != ']' {
				i++
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// skipString returns the end of the string that starts at b[i].
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(b)
}

// jsonText decodes a JSON string, and reports whether it was one. Bytes that are not UTF-8 become U+FFFD.
func jsonText(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if body := raw[1 : len(raw)-1]; bytes.IndexByte(body, '\\') < 0 && utf8.Valid(body) {
		return string(body), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}
