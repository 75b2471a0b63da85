package tokenizer

import (
	"encoding/binary"
	"os"
	"syscall"
	"testing"
	"time"
)

// BenchmarkThroughput encodes the file PUMICE_BENCH_TEXT as one text with the tokenizer PUMICE_BENCH_TOKENIZER.
// cpu-MB/s counts the process's processor time, garbage collection included: other processes on the same cores disturb
// it less than MB/s by the clock. If PUMICE_BENCH_IDS is set, the ids are written to it as little-endian 32-bit
// numbers. tools/bench-tokenizers.py runs it beside another library.
func BenchmarkThroughput(b *testing.B) {
	dir, path := os.Getenv("PUMICE_BENCH_TOKENIZER"), os.Getenv("PUMICE_BENCH_TEXT")
	if dir == "" || path == "" {
		b.Skip("set PUMICE_BENCH_TOKENIZER and PUMICE_BENCH_TEXT")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	text, tok := string(data), open(b, dir, Options{})
	o := EncodeOptions{ParseSpecial: true}
	ids := tok.Encode(text, o) // warms up
	if out := os.Getenv("PUMICE_BENCH_IDS"); out != "" {
		raw := make([]byte, 0, 4*len(ids))
		for _, id := range ids {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
		}
		if err := os.WriteFile(out, raw, 0o666); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	start := processorTime(b)
	for b.Loop() {
		tok.Encode(text, o)
	}
	b.ReportMetric(float64(b.N)*float64(len(text))/1e6/(processorTime(b)-start).Seconds(), "cpu-MB/s")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
