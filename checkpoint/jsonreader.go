package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
)

// objectReader reads a JSON text of known form token by token, so that it never
// builds more than its caller asks for. The first error sticks.
type objectReader struct {
	ctx  context.Context // checked before each key
	file string
	base int64 // offset of the text in the file
	dec  *json.Decoder
	err  error
}

func newObjectReader(ctx context.Context, file string, base int64, text []byte) *objectReader {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return &objectReader{ctx: ctx, file: file, base: base, dec: dec}
}

func (r *objectReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = badFormat(r.file, r.base+r.dec.InputOffset(), format, args...)
	}
}

func (r *objectReader) token() json.Token {
	if r.err != nil {
		return nil
	}
	t, err := r.dec.Token()
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		r.fail("the JSON text is cut off")
	} else if err != nil {
		r.fail("%v", err)
	}
	return t
}

// object reads an object. It calls value after each key to read its value.
func (r *objectReader) object(value func(key string)) {
	if t := r.token(); t != json.Delim('{') {
		r.fail("want a JSON object")
	}
	for r.err == nil && r.dec.More() {
		if r.err = r.ctx.Err(); r.err != nil {
			return
		}
		if key, ok := r.token().(string); ok {
			value(key)
		}
	}
	r.token() // the closing brace, or the error that made More return false
}

func (r *objectReader) str() string {
	s, ok := r.token().(string)
	if !ok {
		r.fail("want a string")
	}
	return s
}

// ints reads an array of at most limit integers.
func (r *objectReader) ints(limit int) []int {
	if t := r.token(); t != json.Delim('[') {
		r.fail("want an array of integers")
	}
	list := []int{}
	for r.err == nil && r.dec.More() {
		number, ok := r.token().(json.Number)
		i, err := number.Int64()
		if !ok || err != nil || int64(int(i)) != i || len(list) == limit {
			r.fail("want at most %d integers", limit)
			return nil
		}
		list = append(list, int(i))
	}
	r.token()
	return list
}

// end checks that only white space follows. Headers are padded with it.
func (r *objectReader) end() {
	if r.err != nil {
		return
	}
	if _, err := r.dec.Token(); err != io.EOF {
		r.fail("text follows the JSON object")
	}
}

// skip skips one value.
func (r *objectReader) skip() {
	if r.err != nil {
		return
	}
	var v json.RawMessage
	if err := r.dec.Decode(&v); err != nil {
		r.fail("%v", err)
	}
}
