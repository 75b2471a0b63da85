package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// benchLoad measures requests of many at a time, with sessions of the engine, through a server on it, and through peers.
func (p *program) benchLoad(c *cli.Context, lengths bench.Options, peers []peerFlag) error {
	atOnce, err := counts("load", givenCounts(c, "load"))
	if err != nil {
		return err
	}
	o := bench.LoadOptions{Prompt: lengths.Prompt[0], Gen: lengths.Gen[0], Load: atOnce, Rate: c.Float64("rate"), Text: lengths.Text,
		Reps: lengths.Reps, SpreadLimit: lengths.SpreadLimit, Power: lengths.Power}
	switch {
	case len(lengths.Prompt) > 1 || len(lengths.Gen) > 1:
		return &usageError{"--load: want one -p and one -n"}
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
			if engines[0].Tokenizer() == nil {
				return errors.New("--load: the model has no tokenizer, and a server's clients see the times of texts")
			}
			ask, end, err := p.askServer(engines[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			o.Name, o.Stamping, o.Progress, o.Partial, o.Asker = j.name, j.stamping, j.progress, j.partial, ask
			list, stop, err := openPeers(ctx, peers, engines[0], o.Context(), slices.Max(atOnce))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stop()) }()
			o.Peers = list
			return bench.RunLoad(ctx, engines[0], o, j.each)
		},
		table: loadTable,
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
	return func(ctx context.Context, prompt []int, n int, each func()) (int, error) {
		x, err := askFor(each, func(piece func()) (completed, error) {
			return complete(ctx, client, prompt, n, map[string]any{}, piece)
		})
		return x.tokens, err
	}
}

// askFor has each called for each piece of an answer, and at the end of one whose tokens have no text.
func askFor(each func(), ask func(piece func()) (completed, error)) (completed, error) {
	came := false
	x, err := ask(func() {
		came = true
		each()
	})
	if err == nil && !came {
		each()
	}
	return x, err
}

// A completed is what a server tells of an answer.
type completed struct {
	tokens      int           // generated
	evaluated   int           // of the prompt; -1: it does not tell
	timed       bool          // it tells the times
	prompt, gen time.Duration // until the first token, and from there to the last
}

// complete has a server that speaks OpenAI's protocol generate n tokens after a prompt, greedily and without regard to end tokens.
// piece is called for each piece of the answer that has a text, which the beginning of a character has not; it may be nil.
func complete(ctx context.Context, client *loopback.Client, prompt []int, n int, more map[string]any, piece func()) (x completed, err error) {
	question := map[string]any{
		"prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": true, "stream": true,
		"stream_options": map[string]bool{"include_usage": true},
	}
	maps.Copy(question, more)
	x.evaluated = -1
	err = client.Stream(ctx, "/v1/completions", question, func(event []byte) error {
		var part struct {
			Error   *struct{ Message string }
			Choices []struct{ Text string }
			Usage   *struct {
				Completion int `json:"completion_tokens"`
				Prompt     int `json:"prompt_tokens"`
				Details    *struct {
					Cached *int `json:"cached_tokens"`
				} `json:"prompt_tokens_details"`
			}
			Timings *struct {
				Evaluated int     `json:"prompt_n"`
				Prompt    float64 `json:"prompt_ms"`
				Predicted float64 `json:"predicted_ms"`
			}
		}
		if err := json.Unmarshal(event, &part); err != nil {
			return err
		}
		if part.Error != nil {
			return &loopback.StatusError{Status: http.StatusOK, Message: part.Error.Message}
		}
		if u := part.Usage; u != nil {
			x.tokens = u.Completion
			if u.Details != nil && u.Details.Cached != nil {
				x.evaluated = u.Prompt - *u.Details.Cached
			}
		}
		if t := part.Timings; t != nil {
			x.timed, x.evaluated = true, t.Evaluated
			x.prompt, x.gen = time.Duration(t.Prompt*1e6), time.Duration(t.Predicted*1e6)
		}
		if piece != nil && len(part.Choices) > 0 && part.Choices[0].Text != "" {
			piece()
		}
		return nil
	})
	if err == nil && x.tokens != n {
		err = fmt.Errorf("%d tokens were asked for, %d came", n, x.tokens)
	}
	return x, err
}
