//go:build window

// Command pumice-window shows in a window what a pumice serve on this machine does.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/loopback"
	"pumice/internal/monitor"
)

func init() { runtime.LockOSThread() } // macOS has windows on the first thread only

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &cli.App{
		Name:      "pumice-window",
		Usage:     "show what a pumice serve on this machine does",
		ArgsUsage: "[URL]",
		Description: "URL is the server's, http://127.0.0.1:8080 unless it is given, or the path of its unix socket. Space pauses, S writes a\n" +
			"screenshot into the working directory, Escape and Q close the window, and the mouse shows numbers. A shows weights of\n" +
			"attention: up and down choose a layer, left and right a head, M the mean of all heads.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "api-key", EnvVars: []string{"PUMICE_API_KEY"}, Usage: "show the server `KEY`, where it wants one"},
			&cli.StringFlag{Name: "model", Usage: "watch the model that the server calls `NAME` (default: its first)"},
			&cli.StringFlag{Name: "device", EnvVars: []string{"PUMICE_DEVICE"}, Usage: "draw on the device with this `INDEX`, part of a name, or UUID"},
			&cli.BoolFlag{Name: "validation", EnvVars: []string{"PUMICE_VALIDATION"}, Usage: "load Vulkan's validation layer and log its messages"},
		},
		HideHelpCommand: true,
		Action:          show,
		ExitErrHandler:  func(*cli.Context, error) {},
	}
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "pumice-window:", err)
		os.Exit(status(err))
	}
}

// errUsage is a mistake in the command line.
var errUsage = errors.New("mistake in the command line")

// status is the exit status of an error, as pumice has it.
func status(err error) int {
	switch {
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, pumice.ErrNoDevice):
		return 3
	}
	return 1
}

func show(c *cli.Context) (err error) {
	if c.NArg() > 1 {
		return fmt.Errorf("%w: unexpected argument %q", errUsage, c.Args().Get(1))
	}
	client, err := server(c.Args().First(), c.String("api-key"))
	if err != nil {
		return err
	}
	d, err := pumice.OpenDevice(pumice.Options{Device: c.String("device"), Validation: c.Bool("validation"), Surfaces: true,
		Logger: zerolog.New(os.Stderr).With().Timestamp().Logger().Level(zerolog.WarnLevel)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	ctx, cancel := context.WithCancel(c.Context)
	model := c.String("model")
	var state monitor.State
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	state.Asks(func(ctx context.Context, c monitor.Choice) error {
		q := url.Values{"model": {model}, "layer": {strconv.Itoa(c.Layer)}, "head": {strconv.Itoa(c.Head)}}
		return client.Events(ctx, "/watch/attention?"+q.Encode(), state.Receive)
	})
	wait.Go(func() {
		state.End(client.Events(ctx, "/watch?model="+url.QueryEscape(model), state.Receive))
	})
	return monitor.Show(ctx, d.Vulkan(), &state, func() {}, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
}

// server returns a client of the server at a URL, or at a unix socket.
func server(address, key string) (*loopback.Client, error) {
	host, port := address, 8080
	if u, err := url.Parse(address); err == nil && u.Scheme == "http" {
		if host = u.Hostname(); u.Port() != "" {
			port, _ = strconv.Atoi(u.Port()) // url.Parse has looked at it
		} else {
			port = 80
		}
	} else if address == "" {
		host = "127.0.0.1"
	}
	client, err := loopback.New(host, port, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not http://ADDRESS:PORT or the path of a unix socket of this machine", errUsage, address)
	}
	return client, nil
}
