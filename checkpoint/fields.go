package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Fields reads the key-value pairs of a config.json or of a GGUF file
// strictly: it is an error if a value has another type, or if a number is not
// finite, out of range, or not integral where an integer is read. Errors name
// file and key. The first error sticks and is shared with the objects nested in
// this one; later reads return zero values. A JSON null counts as absent.
// A number with a fraction of zero is an integer, and a single value may stand
// for a list of one. Only one goroutine at a time may use a Fields.
type Fields struct {
	file   string
	prefix string // of keys in errors: "rope_scaling."
	source source
	first  *error // the sticky error, shared with nested objects
}

// source holds the pairs of one object. A value is nil (absent), a bool, string
// or number, or a placeholder that describes an array or object.
type source interface {
	keys() []string
	// value returns the value of key and its offset in the file.
	value(key string) (v any, offset int64, err error)
	// each calls f for the elements of a list in order until f returns false,
	// or for the value itself if it is not a list. An absent key has no elements.
	each(key string, limit int, f func(v any) bool) error
	// length returns an upper bound of the elements that each would visit, or 0 if it is not known.
	length(key string) int
	object(key string) (source, error)
}

// number is an integer or a float.
type number struct {
	integer bool
	i       int64
	f       float64
}

// placeholder describes a value that is not a scalar: "a list", "an object".
type placeholder string

// maxList bounds the elements of one list. The longest lists of real models are
// vocabularies (262144 in Gemma) and their merges.
const maxList = 1 << 22

// own returns the same fields without the sticky error, or nil for nil.
func (f *Fields) own() *Fields {
	if f == nil {
		return nil
	}
	own := *f
	own.first = new(error)
	return &own
}

// File returns the path that the fields were read from.
func (f *Fields) File() string { return f.file }

// Err returns the first error.
func (f *Fields) Err() error { return *f.first }

// Fail records an error about the value of key, unless there is one already.
func (f *Fields) Fail(key, format string, args ...any) {
	_, offset, _ := f.source.value(key)
	f.fail(badFormat(f.file, offset, "%s: %s", f.prefix+key, fmt.Sprintf(format, args...)))
}

func (f *Fields) fail(err error) {
	if *f.first == nil {
		*f.first = err
	}
}

// Keys returns the keys in file order.
func (f *Fields) Keys() []string { return f.source.keys() }

// Has reports whether key is present and not null.
func (f *Fields) Has(key string) bool {
	v, _, err := f.source.value(key)
	return v != nil || err != nil
}

// get returns the value of key, or nil if there was an error or the key is absent.
func (f *Fields) get(key string) any {
	if *f.first != nil {
		return nil
	}
	v, offset, err := f.source.value(key)
	if err != nil {
		f.failValue(key, offset, err)
		return nil
	}
	return v
}

// failValue records an error about a value; a typed error keeps its type.
func (f *Fields) failValue(key string, offset int64, err error) {
	var unsupported *UnsupportedError
	var format *FormatError
	if errors.As(err, &unsupported) || errors.As(err, &format) {
		f.fail(err)
		return
	}
	f.fail(badFormat(f.file, offset, "%s: %v", f.prefix+key, err))
}

// scalar returns the value of key as a T, or def if it is absent.
func scalar[T any](f *Fields, key string, def *T, convert func(any) (T, error)) T {
	var zero T
	v := f.get(key)
	switch {
	case *f.first != nil:
		return zero
	case v == nil && def == nil:
		f.fail(badFormat(f.file, -1, "%s: the key is missing", f.prefix+key))
		return zero
	case v == nil:
		return *def
	}
	t, err := convert(v)
	if err != nil {
		f.Fail(key, "%v", err)
		return zero
	}
	return t
}

// list returns the values of key as Ts, or nil if it is absent.
func list[T any](f *Fields, key string, convert func(any) (T, error)) []T {
	if f.get(key) == nil {
		return nil
	}
	n := f.source.length(key)
	if n > maxList {
		f.Fail(key, "%d elements, at most %d are read", n, maxList)
		return nil
	}
	ts := make([]T, 0, n)
	err := f.source.each(key, maxList, func(v any) bool {
		t, err := convert(v)
		if err != nil {
			f.Fail(key, "element %d: %v", len(ts), err)
			return false
		}
		ts = append(ts, t)
		return true
	})
	if err != nil {
		_, offset, _ := f.source.value(key)
		f.failValue(key, offset, err)
	}
	if *f.first != nil {
		return nil
	}
	return ts
}

// Int returns the integer of key, which must be present.
func (f *Fields) Int(key string) int { return scalar(f, key, nil, toInt) }

// IntOr returns the integer of key, or def if it is absent.
func (f *Fields) IntOr(key string, def int) int { return scalar(f, key, &def, toInt) }

// Float returns the finite number of key, which must be present.
func (f *Fields) Float(key string) float64 { return scalar(f, key, nil, toFloat) }

// FloatOr returns the finite number of key, or def if it is absent.
func (f *Fields) FloatOr(key string, def float64) float64 { return scalar(f, key, &def, toFloat) }

// Bool returns the boolean of key, which must be present.
func (f *Fields) Bool(key string) bool { return scalar(f, key, nil, toBool) }

// BoolOr returns the boolean of key, or def if it is absent.
func (f *Fields) BoolOr(key string, def bool) bool { return scalar(f, key, &def, toBool) }

// String returns the string of key, which must be present.
func (f *Fields) String(key string) string { return scalar(f, key, nil, toString) }

// StringOr returns the string of key, or def if it is absent.
func (f *Fields) StringOr(key, def string) string { return scalar(f, key, &def, toString) }

// Ints returns the integers of key, a list or a single one, or nil if it is absent.
func (f *Fields) Ints(key string) []int { return list(f, key, toInt) }

// Strings returns the strings of key, a list or a single one, or nil if it is absent.
func (f *Fields) Strings(key string) []string { return list(f, key, toString) }

// Floats returns the numbers of key, a list or a single one, or nil if it is absent.
func (f *Fields) Floats(key string) []float32 { return list(f, key, toFloat32) }

// Bytes returns the bytes of key, a list of integers from -128 to 255 or a single one, or nil if it is absent.
func (f *Fields) Bytes(key string) []byte { return list(f, key, toByte) }

// Object returns the nested object of key, or nil if it is absent.
func (f *Fields) Object(key string) *Fields {
	if f.get(key) == nil {
		return nil
	}
	src, err := f.source.object(key)
	if err != nil {
		_, offset, _ := f.source.value(key)
		f.failValue(key, offset, err)
		return nil
	}
	return &Fields{f.file, f.prefix + key + ".", src, f.first}
}

// Describe returns the value of key in a short form for people to read, or ""
// if it is absent. It records no error.
func (f *Fields) Describe(key string) string {
	if o, ok := f.source.(*jsonObject); ok {
		return o.describe(key)
	}
	v, _, err := f.source.value(key)
	if err != nil {
		return err.Error()
	}
	if n := f.source.length(key); kind(v) == fmt.Sprintf("a list of %d", n) && n <= shortList {
		var list []string
		if err := f.source.each(key, n, func(v any) bool { list = append(list, describe(v)); return true }); err != nil {
			return err.Error()
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	return describe(v)
}

// shortList is the length of the longest list that Describe writes out.
const shortList = 64

// describe returns a value in a short form, or "" for nil.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case number:
		if v.integer {
			return fmt.Sprint(v.i)
		}
		return fmt.Sprint(v.f)
	case string:
		return quote(v)
	case placeholder:
		return string(v)
	}
	return fmt.Sprint(v)
}

func toInt(v any) (int, error) {
	n, ok := v.(number)
	switch {
	case !ok:
		return 0, fmt.Errorf("want an integer, got %s", kind(v))
	case !n.integer:
		return 0, fmt.Errorf("want an integer, got %v", n.f)
	case int64(int(n.i)) != n.i:
		return 0, fmt.Errorf("%d is out of range", n.i)
	}
	return int(n.i), nil
}

func toByte(v any) (byte, error) {
	i, err := toInt(v)
	if err != nil {
		return 0, err
	}
	if i < math.MinInt8 || i > math.MaxUint8 {
		return 0, fmt.Errorf("%d is not a byte", i)
	}
	return byte(i), nil // llama.cpp's files also have byte arrays of signed type
}

func toFloat(v any) (float64, error) {
	n, ok := v.(number)
	switch {
	case !ok:
		return 0, fmt.Errorf("want a number, got %s", kind(v))
	case math.IsNaN(n.f) || math.IsInf(n.f, 0):
		return 0, fmt.Errorf("want a finite number, got %v", n.f)
	}
	return n.f, nil
}

func toFloat32(v any) (float32, error) {
	f, err := toFloat(v)
	if err == nil && math.Abs(f) > math.MaxFloat32 {
		err = fmt.Errorf("%v is out of range", f)
	}
	return float32(f), err
}

func toBool(v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("want true or false, got %s", kind(v))
	}
	return b, nil
}

func toString(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("want a string, got %s", kind(v))
	}
	return s, nil
}

// kind names the type of a value.
func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case number:
		return "a number"
	case placeholder:
		return string(v)
	}
	return fmt.Sprintf("%T", v)
}

// integerNumber and floatNumber keep a number both as integer and as float, so
// that 1e4 and 10000.0 are integers as well.
func integerNumber(i int64) number { return number{true, i, float64(i)} }

func floatNumber(f float64) number {
	const exact = 1 << 53
	if f == math.Trunc(f) && math.Abs(f) <= exact {
		return number{true, int64(f), f}
	}
	return number{false, 0, f}
}
