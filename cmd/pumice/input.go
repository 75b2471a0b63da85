package main

import (
	"context"
	"os"
)

// An input is a file whose reads end when ctx ends, even while a pipe is empty or its other end is not open.
type input struct {
	ctx  context.Context
	name string // "-" for standard input
	in   *os.File
	got  chan result
	rest []byte // read and not yet handed over
	err  error
}

// A result is the outcome of one read.
type result struct {
	data []byte
	err  error
}

func (p *program) input(name string) *input {
	i := &input{ctx: p.interrupt.ctx, name: name, got: make(chan result, 1)}
	if name == "-" {
		i.in = p.stdin
	}
	return i
}

// Read implements io.Reader. After the context has ended the file may still be read from, until the program ends.
func (i *input) Read(b []byte) (int, error) {
	if len(i.rest) == 0 && i.err == nil {
		go func() { i.got <- i.read() }()
		select {
		case <-i.ctx.Done():
			i.err = i.ctx.Err()
		case r := <-i.got:
			i.rest, i.err = r.data, r.err
		}
	}
	if len(i.rest) == 0 {
		return 0, i.err
	}
	n := copy(b, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

func (i *input) read() result {
	if i.in == nil {
		var err error
		if i.in, err = os.Open(i.name); err != nil {
			return result{nil, err}
		}
	}
	b := make([]byte, 64<<10)
	n, err := i.in.Read(b)
	if err != nil && i.name != "-" {
		i.in.Close()
	}
	return result{b[:n], err}
}
