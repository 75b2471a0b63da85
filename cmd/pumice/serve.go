package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/server"
	"pumice/store"
)

func (p *program) serveCommand() *cli.Command {
	flags := append(addressFlags("listen on"), // --port 0 takes a free one
		&cli.StringSliceFlag{Name: "api-key", EnvVars: env("api-key"), Usage: "answer only requests with `KEY`; may be repeated"},
		&cli.BoolFlag{Name: "no-webui", EnvVars: env("no-webui"), Usage: "leave out the page at /, a chat in the browser"},
		intFlag("max-requests", server.DefaultMaxRequests, "work on at most `N` requests at a time; others get status 503"),
		&cli.DurationFlag{Name: "ttl", EnvVars: env("ttl"), Usage: "unload a model that nobody has used for `TIME`, such as 10m; 0 keeps it"},
		&cli.DurationFlag{Name: "drain", EnvVars: env("drain"), Value: 30 * time.Second,
			Usage: "after SIGTERM, let answers in progress go on for `TIME`; a second signal ends them"},
	)
	return &cli.Command{
		Name:      "serve",
		Category:  ofTalk,
		Usage:     "answer requests of other programs over HTTP, as OpenAI's and Anthropic's APIs and llama-server do",
		ArgsUsage: "[[NAME=]MODEL...]",
		Description: "The first MODEL is loaded at once and answers requests that name none, the others when they are asked for. NAME is what\n" +
			"requests call a model; by default it is the file's name. On a loopback address no key is needed, and requests that reach\n" +
			"the server by a public name are refused without one. At / is a page to chat in the browser. With a --cache-dir of its\n" +
			"own, --kv-disk is 4G unless it is given. --port 0 takes a free one.",
		Flags:  slices.Concat(flags, modelFlags(), splitFlags(), windowFlags(), profileFlags()),
		Action: p.serve,
	}
}

// defaultKVDisk is --kv-disk of a server that is given a folder of its own.
const defaultKVDisk = 4 << 30

func (p *program) serve(c *cli.Context) error {
	o := server.Options{Keys: c.StringSlice("api-key"), NoPage: c.Bool("no-webui"), MaxRequests: c.Int("max-requests"), Idle: c.Duration("ttl"), Logger: p.log}
	if err := cmp.Or(checkAddress(c), checkProfile(c)); err != nil {
		return err
	}
	if o.MaxRequests < 1 {
		return &usageError{fmt.Sprintf("--max-requests %d: want 1 or more", o.MaxRequests)}
	}
	if c.Duration("drain") < 0 || o.Idle < 0 {
		return &usageError{"--drain and --ttl: want times such as 30s"}
	}
	name, names, err := modelArgs(c)
	if err != nil {
		return err
	}
	if err := p.fetchMissing(c, name); err != nil {
		return err
	}
	names = slices.Insert(names, 0, name)
	for _, arg := range names {
		name, path, ok := strings.Cut(arg, "=")
		if !ok {
			name, path = modelID(arg), arg
		}
		o.Models = append(o.Models, server.Model{Name: name, Open: func(ctx context.Context) (*pumice.Engine, error) {
			o := p.options(c)
			if dir := c.String("cache-dir"); dir != "auto" && dir != "none" && !c.IsSet("kv-disk") {
				o.KVDisk = defaultKVDisk
			}
			return p.load(ctx, path, o)
		}})
	}
	l, err := listen(c.String("host"), c.Int("port"))
	if err != nil {
		return err
	}
	return p.serveOn(c.Context, l, o, c.Duration("drain"), func(l net.Listener) string {
		if _, ok := l.Addr().(*net.TCPAddr); ok {
			return fmt.Sprintf("listening on http://%s", l.Addr())
		}
		return fmt.Sprintf("listening on %s", l.Addr())
	}, o.Models[0].Name+" is loaded")
}

// serveOn answers what comes to a listener, until ctx ends and for a while after, in which answers in progress go on. It says when
// it listens and when the first model, if there is one, is loaded.
func (p *program) serveOn(ctx context.Context, l net.Listener, o server.Options, drain time.Duration, listening func(net.Listener) string, loaded string) error {
	tcp, isTCP := l.Addr().(*net.TCPAddr)
	o.Local, o.Preload = isTCP && tcp.IP.IsLoopback(), true
	s, err := server.New(o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	h.RegisterOnShutdown(s.EndWatches)
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	p.interrupt.allow(drain)
	p.note("%s", listening(l))
	if len(o.Models) > 0 {
		if err = s.Load(ctx, ""); err == nil {
			p.note("%s", loaded)
		}
	}
	if err == nil {
		select {
		case err = <-served:
		case <-ctx.Done():
		}
	}
	late, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if h.Shutdown(late) != nil {
		err = errors.Join(err, h.Close())
	}
	return errors.Join(err, s.Close())
}

// modelID is what requests call a model that the command line gives no name.
func modelID(path string) string {
	if store.Named(path) {
		_, path, _ = strings.Cut(path, ":")
	}
	path = strings.TrimRight(path, "/")
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		path = path[i+1:]
	}
	return strings.TrimSuffix(path, ".gguf")
}

// listen listens on an address and a port, or on a unix socket, which nobody else may connect to.
func listen(host string, port int) (net.Listener, error) {
	if !strings.HasSuffix(host, ".sock") {
		return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	}
	if info, err := os.Lstat(host); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if c, err := net.Dial("unix", host); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s: another server listens there", host)
		}
		if err := os.Remove(host); err != nil { // left by a server that was killed
			return nil, err
		}
	}
	return net.Listen("unix", host)
}
