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

// parsePeer reads llama-bench=PATH, llama-server=PATH or http://HOST:PORT, which may have llama-server= before it too.
func parsePeer(text string) (peerFlag, error) {
	wrong := &usageError{fmt.Sprintf("--peer %q: want llama-bench=PATH, llama-server=PATH, or the address of a server on this machine, such as http://127.0.0.1:8080", text)}
	text = strings.Replace(text, llamaServerName+"=http://", "http://", 1)
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

// server reports whether the peer answers requests, many at a time.
func (f peerFlag) server() bool { return f.program != llamaBenchName }

// openPeers makes the peers ready to measure an engine's model in sequences of so many positions, and so many of them at once. end
// stops what it has started.
func openPeers(ctx context.Context, peers []peerFlag, e *pumice.Engine, positions, sequences int) (list []bench.Peer, end func() error, err error) {
	var ends []func() error
	end = func() (err error) {
		for _, end := range ends {
			err = errors.Join(err, end())
		}
		return err
	}
	for _, f := range peers {
		f.devices = numbers(e.Devices())
		peer, endOne, err := f.open(ctx, shared(e.Source().Path), bench.ModelType(e), positions, sequences)
		if err != nil {
			return nil, nil, errors.Join(err, end())
		}
		list, ends = append(list, peer), append(ends, endOne)
	}
	return list, end, nil
}

// open makes the peer ready to measure a model in sequences of so many positions, and so many of them at once. end stops what it
// has started.
func (f peerFlag) open(ctx context.Context, model, modelType string, positions, sequences int) (peer bench.Peer, end func() error, err error) {
	setup := bench.Setup{Program: f.program, ModelFilename: model, ModelType: modelType}
	switch f.program {
	case llamaBenchName:
		return bench.Peer{Setup: setup, Warms: true, Measure: llamaBench{f, model}.measure}, func() error { return nil }, nil
	case llamaServerName:
		if setup.Backends, setup.GPUInfo, err = f.listDevices(ctx); err != nil {
			return peer, nil, err
		}
		server, err := startLlamaServer(ctx, f, model, positions, sequences)
		if err != nil {
			return peer, nil, err
		}
		return newPeerServer(ctx, server.client, server.why).peer(setup), server.end, nil
	}
	client, err := loopback.New(f.host, f.port, os.Getenv("OPENAI_API_KEY"))
	if err != nil {
		return peer, nil, fmt.Errorf("--peer: %w", err)
	}
	s := newPeerServer(ctx, client, func(_ context.Context, err error) error { return err })
	if s.unreachable != nil {
		return peer, nil, fmt.Errorf("--peer: %w", s.unreachable)
	}
	setup.Program = client.Address()
	return s.peer(setup), func() error { return nil }, nil
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

// lastWords is how much of what a peer's process has said last is part of an error.
const lastWords = 600

// peerError is an error of a peer's process with the end of what it has said, as one line.
func peerError(ctx context.Context, err error, said *bytes.Buffer) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := strings.TrimSpace(said.String())
	if text = strings.ToValidUTF8(text[max(0, len(text)-lastWords):], ""); text == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; "))
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

// A runningServer is llama.cpp's llama-server, started for a run.
type runningServer struct {
	client *loopback.Client
	name   string
	cancel context.CancelFunc
	ended  chan struct{} // closed when the process has ended, with err
	err    error
	said   bytes.Buffer
}

// startLlamaServer starts llama.cpp's llama-server with a model and a slot for each of so many sequences, and waits until it answers.
func startLlamaServer(ctx context.Context, f peerFlag, model string, positions, sequences int) (*runningServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := &runningServer{name: filepath.Base(f.path), ended: make(chan struct{})}
	if s.client, err = loopback.New("127.0.0.1", port, ""); err != nil {
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	c := exec.CommandContext(ctx, f.path, "-m", model, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "-c", strconv.Itoa(slotContext(positions)*sequences),
		"-np", strconv.Itoa(sequences), "-ngl", "99")
	c.Env = f.environment()
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	c.Stdout, c.Stderr = &s.said, &s.said
	if err := c.Start(); err != nil {
		s.cancel()
		return nil, fmt.Errorf("--peer: %w", err)
	}
	go func() {
		s.err = cmp.Or(c.Wait(), errors.New("it ended"))
		close(s.ended)
	}()
	deadline := time.Now().Add(peerStart)
	for {
		var health any
		if s.client.Get(ctx, "/health", &health) == nil {
			return s, nil
		}
		select {
		case <-s.ended:
			s.cancel()
			return nil, fmt.Errorf("--peer: %s did not start: %w", s.name, peerError(context.WithoutCancel(ctx), s.err, &s.said))
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.end())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("--peer: %s did not answer within %v", s.name, peerStart), s.end())
		}
	}
}

// slotContext is the context of a slot of llama-server, which shares its own out in multiples of 256.
func slotContext(positions int) int { return max(512, (positions+255)/256*256) }

func (s *runningServer) end() error {
	s.cancel()
	<-s.ended // it was told to
	return nil
}

// why is the error of a request; of a server that has ended, it is why that has.
func (s *runningServer) why(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.As(err, new(*loopback.StatusError)) {
		return err
	}
	select {
	case <-s.ended:
		return fmt.Errorf("it has ended in the middle: %w", peerError(ctx, s.err, &s.said))
	case <-time.After(time.Second): // which a process that crashes may take
		return err
	}
}

// A peerServer is a server that speaks OpenAI's protocol.
type peerServer struct {
	client      *loopback.Client
	why         func(context.Context, error) error // explains the error of a request
	model       string                             // that requests name; "": none
	build       string                             // that it tells of itself
	unreachable error                              // why it did not answer
}

func newPeerServer(ctx context.Context, client *loopback.Client, why func(context.Context, error) error) *peerServer {
	s := &peerServer{client: client, why: why}
	var models struct{ Data []struct{ ID string } }
	err := client.Get(ctx, "/v1/models", &models)
	if errors.As(err, new(*net.OpError)) {
		s.unreachable = err
	}
	if err == nil && len(models.Data) > 0 {
		s.model = models.Data[0].ID
	}
	var props struct {
		Build string `json:"build_info"`
	}
	if client.Get(ctx, "/props", &props) == nil {
		s.build = props.Build
	}
	return s
}

func (s *peerServer) peer(setup bench.Setup) bench.Peer {
	setup.BuildCommit = s.build
	return bench.Peer{Setup: setup, Measure: s.measure, Ask: s.answer, Sequence: s.sequence}
}

// ask is complete with the server's model, and explains an error.
func (s *peerServer) ask(ctx context.Context, prompt []int, n int, more map[string]any, piece func()) (completed, error) {
	if s.model != "" {
		more["model"] = s.model
	}
	x, err := complete(ctx, s.client, prompt, n, more, piece)
	if err = s.why(ctx, err); errors.As(err, new(*loopback.StatusError)) {
		err = fmt.Errorf("%w: %w", bench.ErrRefused, err)
	}
	return x, err
}

// measure runs a test. Times are the server's own where it tells them, as llama-server does, else those that the client sees.
func (s *peerServer) measure(ctx context.Context, t bench.Test, prompt []int) (bench.PeerRun, error) {
	if t.Depth > 0 {
		if _, err := s.ask(ctx, prompt[:t.Depth], 1, map[string]any{"cache_prompt": true}, nil); err != nil {
			return bench.PeerRun{}, err
		}
	}
	start := time.Now()
	var first, last time.Time
	x, err := s.ask(ctx, prompt, t.Gen+1, map[string]any{"cache_prompt": t.Depth > 0}, func() {
		if last = time.Now(); first.IsZero() {
			first = last
		}
	})
	if err != nil {
		return bench.PeerRun{}, err
	}
	if !x.timed {
		if first.IsZero() { // tokens without a text
			first, last = time.Now(), time.Now()
		}
		x.prompt, x.gen = first.Sub(start), last.Sub(first)
	}
	switch {
	case t.Prompt > 0 && t.Gen > 0:
		return bench.PeerRun{Took: x.prompt + x.gen, Prompt: x.prompt, Gen: x.gen}, nil
	case t.Gen > 0:
		return bench.PeerRun{Took: x.gen}, nil
	}
	return bench.PeerRun{Took: x.prompt}, nil
}

// answer is an Asker, without the server's prompt cache.
func (s *peerServer) answer(ctx context.Context, prompt []int, n int, each func()) (int, error) {
	x, err := askFor(each, func(piece func()) (completed, error) {
		return s.ask(ctx, prompt, n, map[string]any{"cache_prompt": false}, piece)
	})
	return x.tokens, err
}

// sequence is a Sequence, in a slot of its own where the server has slots.
func (s *peerServer) sequence(ctx context.Context, i int, prompt []int, n int) (int, error) {
	x, err := s.ask(ctx, prompt, n, map[string]any{"cache_prompt": true, "id_slot": i}, nil)
	if err == nil && x.evaluated < 0 {
		err = errors.New("it does not tell how many tokens of a prompt it has kept: it can't be measured with -np")
	}
	return x.evaluated, err
}
