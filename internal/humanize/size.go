package humanize

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Size is a number of bytes that people write: a number with nothing, B, K, M, G or T behind it, where K, KB and KiB are
// 1024 bytes, in any case. It is a flag.Value.
type Size int64

// Set parses a size.
func (s *Size) Set(text string) error {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.ToUpper(strings.TrimSpace(text[len(number):]))
	scale := 1.0
	if i := strings.IndexByte("KMGTP", (unit + " ")[0]); i >= 0 {
		scale = math.Pow(1024, float64(i+1))
		unit = unit[1:]
		unit = strings.TrimPrefix(unit, "I")
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if n *= scale; err != nil || unit != "" && unit != "B" || !(n >= 0) || n >= math.MaxInt64 {
		return fmt.Errorf("%q is no size: want a number such as 512M or 2G", text)
	}
	*s = Size(n)
	return nil
}

// String is the plain number of bytes.
func (s *Size) String() string {
	if s == nil || *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}
