package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/bench"
	"pumice/internal/loopback"
	"pumice/server"
)

// benchLoad measures requests of many at a time, with sessions of the engine and through a server on it.
func (p *program) benchLoad(c *cli.Context, lengths bench.Options) error {
	atOnce, err := counts("load", givenCounts(c, "load"))
	if err != nil {
		return err
	}
	o := bench.LoadOptions{Prompt: lengths.Prompt[0], Gen: lengths.Gen[0], Load: atOnce, Rate: c.Float64("rate"), Text: lengths.Text, Power: lengths.Power}
	switch {
	case min(o.Prompt, o.Gen, slices.Min(atOnce)) < 1:
		return &usageError{"--load, -p and -n: with --load none of them is 0"}
	case o.Rate < 0:
		return &usageError{fmt.Sprintf("--rate %v: want 0 or more", o.Rate)}
	case c.IsSet("parallel") || len(lengths.Both) > 0 || slices.Max(lengths.Depth) > 0 || lengths.Profile:
		return &usageError{"--load can't be combined with -np, -pg, -d and --profile"}
	case slices.Max(atOnce) > server.DefaultMaxRequests:
		return &usageError{fmt.Sprintf("--load %d: the server works on at most %d requests at a time", slices.Max(atOnce), server.DefaultMaxRequests)}
	}
	return benchWith(p, c, benchmark[bench.LoadResult]{
		context: o.Context(),
		run: func(ctx context.Context, engines []*pumice.Engine, j benchJob[bench.LoadResult]) (err error) {
			ask, end, err := p.askServer(engines[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			o.Name, o.Stamping, o.Progress, o.Asker = j.name, j.stamping, j.progress, ask
			return bench.RunLoad(ctx, engines[0], o, j.each)
		},
		head: bench.LoadHead, row: bench.LoadRow, foot: bench.LoadFoot,
	})
}

// askServer starts the server of pumice serve on an engine, at a port of this machine that the system chooses, and asks it as its
// clients do. end stops it, and closes the engine.
func (p *program) askServer(e *pumice.Engine) (ask bench.Asker, end func() error, err error) {
	s, err := server.New(server.Options{
		Models: []server.Model{{Name: "bench", Open: func(context.Context) (*pumice.Engine, error) { return e, nil }}},
		Local:  true, NoPage: true, Logger: p.log,
	})
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	end = func() error {
		err := h.Close()
		if failed := <-served; !errors.Is(failed, http.ErrServerClosed) {
			err = errors.Join(err, failed)
		}
		return errors.Join(err, s.Close())
	}
	client, err := loopback.New("127.0.0.1", l.Addr().(*net.TCPAddr).Port, "")
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return askOver(client), end, nil
}

// askOver asks a server that speaks OpenAI's protocol.
func askOver(client *loopback.Client) bench.Asker {
	return func(ctx context.Context, prompt []int, n int, each func()) (tokens int, err error) {
		question := map[string]any{
			"prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": true, "stream": true,
			"stream_options": map[string]bool{"include_usage": true},
		}
		came := false
		err = client.Stream(ctx, "/v1/completions", question, func(event []byte) error {
			var part struct {
				Choices []struct{ Text string }
				Usage   *struct {
					Completion int `json:"completion_tokens"`
				}
			}
			if err := json.Unmarshal(event, &part); err != nil {
				return err
			}
			if part.Usage != nil {
				tokens = part.Usage.Completion
			}
			if len(part.Choices) > 0 && part.Choices[0].Text != "" { // not the beginning of a character
				came = true
				each()
			}
			return nil
		})
		if err == nil && !came { // tokens without a text
			each()
		}
		return tokens, err
	}
}
