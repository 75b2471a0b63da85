package humanize

import (
	"math"
	"testing"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "1k": 1 << 10, "1KB": 1 << 10, "1.5 KiB": 1536, "512M": 512 << 20, "2g": 2 << 30, "1T": 1 << 40,
		"": -1, "G": -1, "-1": -1, "1X": -1, "1GG": -1, "1e30": -1, "NaN": -1, "9000P": -1,
	} {
		var s Size
		err := s.Set(text)
		if (want < 0) != (err != nil) || err == nil && int64(s) != want {
			t.Errorf("%q: %d, %v; want %d", text, s, err, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"}, {1, "1 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"},
		{1<<20 - 53, "1023.9 KiB"}, {1<<20 - 51, "1.0 MiB"}, {1<<20 - 1, "1.0 MiB"}, {1 << 20, "1.0 MiB"},
		{300 << 20, "300.0 MiB"}, {1<<30 - 1, "1.0 GiB"}, {16 << 30, "16.0 GiB"}, {5 << 40, "5.0 TiB"},
		{1 << 50, "1.0 PiB"}, {math.MaxInt64, "8.0 EiB"},
	} {
		if got := Bytes(c.n); got != c.want {
			t.Errorf("%d is %q, want %q", c.n, got, c.want)
		}
	}
}
