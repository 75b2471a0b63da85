package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

const (
	maxConfigBytes = 16 << 20
	maxConfigKeys  = 1 << 14
)

// ReadFields reads a file with one JSON object, such as config.json.
func ReadFields(path string) (*Fields, error) {
	text, err := readFile(path, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	return NewFields(path, text)
}

// ReadList reads a file with one JSON array of objects, such as sentence-transformers' modules.json. The first error of
// any of them sticks to all.
func ReadList(path string) ([]*Fields, error) {
	text, err := readFile(path, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	return parseList(path, text)
}

func parseList(file string, text []byte) ([]*Fields, error) {
	r := newObjectReader(context.Background(), file, 0, text)
	if t := r.token(); t != json.Delim('[') {
		r.fail("want a JSON array")
	}
	list, first := []*Fields{}, new(error)
	for r.err == nil && r.dec.More() {
		if len(list) == maxConfigKeys {
			r.fail("more than %d elements", maxConfigKeys)
			break
		}
		var v json.RawMessage
		if err := r.dec.Decode(&v); err != nil {
			r.fail("%v", err)
			break
		}
		object, err := parseObject(file, r.dec.InputOffset()-int64(len(v)), v)
		if err != nil {
			return nil, err
		}
		list = append(list, &Fields{file, fmt.Sprintf("[%d].", len(list)), object, first})
	}
	r.token() // the closing bracket
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	return list, nil
}

// NewFields reads one JSON object from text. Errors name file.
func NewFields(file string, text []byte) (*Fields, error) {
	if len(text) > maxConfigBytes {
		return nil, badFormat(file, -1, "%d bytes, at most %d are read", len(text), maxConfigBytes)
	}
	body := bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark, which some editors write
	object, err := parseObject(file, int64(len(text)-len(body)), body)
	if err != nil {
		return nil, err
	}
	return &Fields{file: file, source: object, first: new(error)}, nil
}

// jsonObject is one JSON object. Its values are kept as text and decoded when
// they are read, so that a value that is never read costs nothing.
type jsonObject struct {
	file   string
	order  []string
	values map[string]jsonValue
}

type jsonValue struct {
	text   json.RawMessage // valid JSON
	offset int64
}

// parseObject reads the keys of the object in text, which begins at byte base
// of the file. If a key appears twice, the last value counts, as in Python.
func parseObject(file string, base int64, text []byte) (*jsonObject, error) {
	r := newObjectReader(context.Background(), file, base, text)
	o := &jsonObject{file: file, values: map[string]jsonValue{}}
	r.object(func(key string) {
		if len(o.order) == maxConfigKeys {
			r.fail("more than %d keys", maxConfigKeys)
			return
		}
		var v json.RawMessage
		if err := r.dec.Decode(&v); err != nil {
			r.fail("%s: %v", quote(key), err)
			return
		}
		if _, ok := o.values[key]; !ok {
			o.order = append(o.order, key)
		}
		o.values[key] = jsonValue{v, base + r.dec.InputOffset() - int64(len(v))}
	})
	r.end()
	if r.err != nil {
		return nil, r.err
	}
	return o, nil
}

func (o *jsonObject) keys() []string { return o.order }

func (o *jsonObject) value(key string) (any, int64, error) {
	v, ok := o.values[key]
	if !ok {
		return nil, -1, nil
	}
	x, err := jsonScalar(v.text)
	return x, v.offset, err
}

// describe returns the JSON text of a value without line breaks.
func (o *jsonObject) describe(key string) string {
	var b bytes.Buffer
	if v, ok := o.values[key]; !ok || json.Compact(&b, v.text) != nil {
		return ""
	}
	return shorten(b.String())
}

func (o *jsonObject) length(string) int { return 0 } // not known before the list is read

func (o *jsonObject) each(key string, limit int, f func(any) bool) error {
	v := o.values[key]
	if len(v.text) == 0 {
		return nil
	}
	if v.text[0] != '[' {
		x, err := jsonScalar(v.text)
		if err == nil && x != nil {
			f(x)
		}
		return err
	}
	r := newObjectReader(context.Background(), o.file, v.offset, v.text)
	r.token()
	for n := 0; r.err == nil && r.dec.More(); n++ {
		var text json.RawMessage
		if err := r.dec.Decode(&text); err != nil {
			return err
		}
		if n == limit {
			return fmt.Errorf("more than %d elements", limit)
		}
		x, err := jsonScalar(text)
		if err != nil {
			return err
		}
		if !f(x) {
			return nil
		}
	}
	return r.err
}

func (o *jsonObject) object(key string) (source, error) {
	v := o.values[key]
	if v.text[0] != '{' {
		x, err := jsonScalar(v.text)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("want an object, got %s", kind(x))
	}
	return parseObject(o.file, v.offset, v.text)
}

// jsonScalar returns the value of a valid JSON text, or a placeholder for a list or object.
func jsonScalar(text json.RawMessage) (any, error) {
	switch text[0] {
	case 'n':
		return nil, nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case '[':
		return placeholder("a list"), nil
	case '{':
		return placeholder("an object"), nil
	case '"':
		var s string
		err := json.Unmarshal(text, &s)
		return s, err
	}
	if i, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return integerNumber(i), nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("the number %s is out of range", shorten(string(text)))
	}
	return floatNumber(f), nil
}
