package pages

import (
	"context"
	"fmt"
	"testing"
)

// still is a Mover that moves nothing.
type still struct{}

func (still) Move(context.Context, []Move) error { return nil }

func benchPool(b *testing.B, o Options) *Pool {
	b.Helper()
	o.Mover = still{}
	p, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// evaluated returns a sequence with these tokens, in chunks of 512.
func evaluated(b *testing.B, p *Pool, tokens []int) *Sequence {
	b.Helper()
	s, err := p.Acquire(context.Background(), tokens, len(tokens), Batched)
	if err != nil {
		b.Fatal(err)
	}
	for rest := tokens[s.Len():]; len(rest) > 0; {
		n := min(512, len(rest))
		if _, err := s.Reserve(context.Background(), n); err != nil {
			b.Fatal(err)
		}
		if err := s.Commit(rest[:n]...); err != nil {
			b.Fatal(err)
		}
		rest = rest[n:]
	}
	return s
}

// A token's share of the accounts while its sequence decodes: 4096 tokens, beside 7 other sequences.
func BenchmarkDecode(b *testing.B) {
	for _, window := range []int{0, 1024} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			o := Options{Pages: [Groups]int{1024}, Window: window}
			if window > 0 {
				o.Pages[Local] = 512
			}
			p := benchPool(b, o)
			for i := range 7 {
				evaluated(b, p, count(1000*i, 1000))
			}
			s := evaluated(b, p, nil)
			ctx := context.Background()
			for i := 0; b.Loop(); i++ {
				if s.Len() == 4096 {
					s.Release()
					s = evaluated(b, p, nil)
				}
				if _, err := s.Reserve(ctx, 1); err != nil {
					b.Fatal(err)
				}
				if err := s.Commit(50000 + i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A prompt of 2000 tokens is looked up among 1000 cached sequences of 2000 tokens that have the first 1000 in common.
func BenchmarkAcquire(b *testing.B) {
	for _, window := range []int{0, 1024} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			o := Options{Pages: [Groups]int{20000}, Window: window}
			if window > 0 {
				o.Pages[Local] = 20000
			}
			p := benchPool(b, o)
			text := func(i int) []int { return join(count(0, 1000), count(10000+1000*i, 1000)) }
			for i := range 1000 {
				evaluated(b, p, text(i)).Release()
			}
			tokens := text(500)
			for b.Loop() {
				s, err := p.Acquire(context.Background(), tokens, 1999, Batched)
				if err != nil || s.Len() != 1999 {
					b.Fatal(s.Len(), err)
				}
				s.Release()
			}
		})
	}
}

// A page is evicted for each page that a new sequence takes: 2000 tokens in a pool that is full of cached ones.
func BenchmarkEvict(b *testing.B) {
	p := benchPool(b, Options{Pages: [Groups]int{20000}})
	for i := range 700 {
		evaluated(b, p, count(10000*i, 2000)).Release()
	}
	for i := 0; b.Loop(); i++ {
		evaluated(b, p, count(-10000*(i+1), 2000)).Release()
	}
}
