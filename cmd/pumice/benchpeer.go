package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pumice"
	"pumice/bench"
	"pumice/internal/loopback"
)

// A peerFlag is a value of bench's flag for peers.
type peerFlag struct {
	program string // llama-bench or llama-server, with a path; else "" and the address of a server on this machine
	path    string
	host    string
	port    int
	devices string // the devices that a program is started on, as visibleDevices wants them; "": it decides
}

// visibleDevices is the variable by which llama.cpp's Vulkan backend takes the devices of these numbers alone, in the loader's
// order. Without it the backend leaves CPU drivers aside, and the processor's own backend runs the model.
const visibleDevices = "GGML_VK_VISIBLE_DEVICES"

// numbers lists those of devices, as visibleDevices wants them.
func numbers(devices []*pumice.Device) string {
	var list []string
	for _, d := range devices {
		list = append(list, strconv.Itoa(d.Info().Index))
	}
	return strings.Join(list, ",")
}

// environment is that of a program which runs on the peer's devices, unless the user has chosen others.
func (f peerFlag) environment() []string {
	list := os.Environ()
	if _, chosen := os.LookupEnv(visibleDevices); !chosen && f.devices != "" {
		list = append(list, visibleDevices+"="+f.devices)
	}
	return list
}

const llamaBenchName = "llama-bench"

// parsePeer reads llama-bench=PATH, llama-server=PATH or http://HOST:PORT.
func parsePeer(text string) (peerFlag, error) {
	wrong := &usageError{fmt.Sprintf("--peer %q: want llama-bench=PATH, llama-server=PATH, or the address of a server on this machine, such as http://127.0.0.1:8080", text)}
	if name, path, ok := strings.Cut(text, "="); ok && path != "" && slices.Contains([]string{llamaBenchName, llamaServerName}, name) {
		return peerFlag{program: name, path: path}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" && strings.Trim(u.Path, "/") != "v1" {
		return peerFlag{}, wrong
	}
	port, err := strconv.Atoi(cmp.Or(u.Port(), "80"))
	if err != nil {
		return peerFlag{}, wrong
	}
	return peerFlag{host: u.Hostname(), port: port}, nil
}

// open makes the peer ready to measure a model in a context. end stops what it has started.
func (f peerFlag) open(ctx context.Context, model, modelType string, positions int) (peer bench.Peer, end func() error, err error) {
	setup := bench.Setup{Program: f.program, ModelFilename: model, ModelType: modelType}
	switch f.program {
	case llamaBenchName:
		return bench.Peer{Setup: setup, Warms: true, Measure: llamaBench{f, model}.measure}, func() error { return nil }, nil
	case llamaServerName:
		if setup.Backends, setup.GPUInfo, err = f.listDevices(ctx); err != nil {
			return peer, nil, err
		}
		client, end, err := startLlamaServer(ctx, f, model, positions)
		if err != nil {
			return peer, nil, err
		}
		return peerServer(ctx, client, setup), end, nil
	}
	client, err := loopback.New(f.host, f.port, os.Getenv("OPENAI_API_KEY"))
	if err != nil {
		return peer, nil, fmt.Errorf("--peer: %w", err)
	}
	setup.Program = client.Address()
	return peerServer(ctx, client, setup), func() error { return nil }, nil
}

// shared is the name of a file for other processes: one in memory has a name for this process only.
func shared(path string) string {
	if rest, ok := strings.CutPrefix(path, "/proc/self/"); ok {
		return fmt.Sprintf("/proc/%d/%s", os.Getpid(), rest)
	}
	return path
}

// llamaBench is llama.cpp's llama-bench with a model, which is started for each run and loads and warms up the model itself.
type llamaBench struct {
	flag  peerFlag
	model string
}

func (b llamaBench) measure(ctx context.Context, t bench.Test, _ []int) (bench.PeerRun, error) {
	args := []string{"-m", b.model, "-r", "1", "-o", "json", "-d", strconv.Itoa(t.Depth), "-p", strconv.Itoa(t.Prompt), "-n", strconv.Itoa(t.Gen)}
	if t.Prompt > 0 && t.Gen > 0 {
		args = append(args[:8], "-p", "0", "-n", "0", "-pg", fmt.Sprintf("%d,%d", t.Prompt, t.Gen))
	}
	c := exec.CommandContext(ctx, b.flag.path, args...)
	c.Env = b.flag.environment()
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return bench.PeerRun{}, peerError(ctx, err, &said)
	}
	var rows []bench.Result
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil {
		return bench.PeerRun{}, fmt.Errorf("what it has written is no list of results: %w", err)
	}
	i := slices.IndexFunc(rows, func(r bench.Result) bool { return r.Test() == t && len(r.SampleNS) > 0 })
	if i < 0 {
		return bench.PeerRun{}, fmt.Errorf("it has written no result of %s", t.Name())
	}
	return bench.PeerRun{Took: time.Duration(rows[i].SampleNS[0]), Setup: &rows[i].Setup}, nil
}

// peerError is an error of a peer's process with the end of what it has said.
func peerError(ctx context.Context, err error, said *bytes.Buffer) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := strings.TrimSpace(said.String())
	return fmt.Errorf("%w: %s", err, text[max(0, len(text)-2000):])
}

// listDevices asks llama-server for its backends and devices. Where it has no device, the processors run the model.
func (f peerFlag) listDevices(ctx context.Context) (backends, devices string, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerStart)
	defer cancel()
	c := exec.CommandContext(ctx, f.path, "--list-devices")
	var said bytes.Buffer
	c.Env, c.Stderr = f.environment(), &said
	out, err := c.Output()
	if err != nil {
		return "", "", fmt.Errorf("--peer: %s --list-devices: %w", f.path, peerError(ctx, err, &said))
	}
	var names, kinds []string
	for line := range strings.Lines(string(out)) { // "  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24000 MiB free)"
		name, description, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if kind := strings.TrimRight(name, "0123456789"); ok && kind != name {
			description, _, _ = strings.Cut(description, " MiB")
			if i := strings.LastIndexByte(description, '('); i > 0 {
				description = strings.TrimSpace(description[:i])
			}
			names = append(names, description)
			if !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	return cmp.Or(strings.Join(kinds, ","), "CPU"), strings.Join(names, " + "), nil
}

// peerStart is how long a server may take to load a model.
const peerStart = 5 * time.Minute

// startLlamaServer starts llama.cpp's llama-server with a model, and waits until it answers.
func startLlamaServer(ctx context.Context, f peerFlag, model string, positions int) (_ *loopback.Client, end func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		return nil, nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, nil, err
	}
	client, err := loopback.New("127.0.0.1", port, "")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := exec.CommandContext(ctx, f.path, "-m", model, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "-c", strconv.Itoa(positions), "-np", "1", "-ngl", "99")
	c.Env = f.environment()
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		cancel()
		return nil, nil, fmt.Errorf("--peer: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	end = func() error {
		cancel()
		<-ended // it was told to
		return nil
	}
	deadline := time.Now().Add(peerStart)
	for {
		var health any
		if client.Get(ctx, "/health", &health) == nil {
			return client, end, nil
		}
		select {
		case err := <-ended:
			cancel()
			return nil, nil, fmt.Errorf("--peer: %s did not start: %w", filepath.Base(f.path), peerError(context.WithoutCancel(ctx), cmp.Or(err, errors.New("it ended")), &said))
		case <-ctx.Done():
			return nil, nil, errors.Join(ctx.Err(), end())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, nil, errors.Join(fmt.Errorf("--peer: %s did not answer within %v", filepath.Base(f.path), peerStart), end())
		}
	}
}

// peerServer measures a server that speaks OpenAI's protocol. Times are its own where it tells them, as llama-server does, else
// those that the client sees.
func peerServer(ctx context.Context, client *loopback.Client, setup bench.Setup) bench.Peer {
	var models struct{ Data []struct{ ID string } }
	model := ""
	if client.Get(ctx, "/v1/models", &models) == nil && len(models.Data) > 0 {
		model = models.Data[0].ID
	}
	var props struct {
		Build string `json:"build_info"`
	}
	if client.Get(ctx, "/props", &props) == nil {
		setup.BuildCommit = props.Build
	}
	measure := func(ctx context.Context, t bench.Test, prompt []int) (bench.PeerRun, error) {
		if t.Depth > 0 {
			if _, err := askPeer(ctx, client, model, prompt[:t.Depth], 1, true); err != nil {
				return bench.PeerRun{}, err
			}
		}
		x, err := askPeer(ctx, client, model, prompt, t.Gen+1, t.Depth > 0)
		if err != nil {
			return bench.PeerRun{}, err
		}
		run := bench.PeerRun{Took: x.prompt}
		switch {
		case t.Prompt > 0 && t.Gen > 0:
			run = bench.PeerRun{Took: x.prompt + x.gen, Prompt: x.prompt, Gen: x.gen}
		case t.Gen > 0:
			run.Took = x.gen
		}
		return run, nil
	}
	return bench.Peer{Setup: setup, Measure: func(ctx context.Context, t bench.Test, prompt []int) (run bench.PeerRun, err error) {
		prompt = slices.Clone(prompt)
		for range 10 { // llama-server may refuse the text that follows tokens at random
			if run, err = measure(ctx, t, prompt); !errors.As(err, new(*loopback.StatusError)) {
				return run, err
			}
			for i := range prompt {
				prompt[i] = max(1, prompt[i]*2/3)
			}
		}
		return run, err
	}}
}

// peerTimes are what a request took: until its first token, and from there to its last.
type peerTimes struct{ prompt, gen time.Duration }

// askPeer has a server evaluate a prompt and generate n tokens.
func askPeer(ctx context.Context, client *loopback.Client, model string, prompt []int, n int, cached bool) (x peerTimes, err error) {
	question := map[string]any{
		"prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": true, "cache_prompt": cached, "stream": true,
		"stream_options": map[string]bool{"include_usage": true},
	}
	if model != "" {
		question["model"] = model
	}
	start := time.Now()
	var first, last time.Time
	tokens, timed := 0, false
	err = client.Stream(ctx, "/v1/completions", question, func(event []byte) error {
		var part struct {
			Choices []struct{ Text string }
			Usage   *struct {
				Completion int `json:"completion_tokens"`
			}
			Timings *struct {
				Prompt    float64 `json:"prompt_ms"`
				Predicted float64 `json:"predicted_ms"`
			}
		}
		if err := json.Unmarshal(event, &part); err != nil {
			return err
		}
		if part.Usage != nil {
			tokens = part.Usage.Completion
		}
		if part.Timings != nil {
			timed = true
			x = peerTimes{time.Duration(part.Timings.Prompt * 1e6), time.Duration(part.Timings.Predicted * 1e6)}
		}
		if len(part.Choices) > 0 && part.Choices[0].Text != "" {
			last = time.Now()
			if first.IsZero() {
				first = last
			}
		}
		return nil
	})
	if err == nil && tokens != n {
		err = fmt.Errorf("%d tokens were asked for, %d came", n, tokens)
	}
	if err != nil || timed {
		return x, err
	}
	if first.IsZero() { // tokens without a text
		first, last = time.Now(), time.Now()
	}
	return peerTimes{first.Sub(start), last.Sub(first)}, nil
}
