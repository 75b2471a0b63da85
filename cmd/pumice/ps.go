package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"pumice/internal/humanize"
	"pumice/internal/loopback"
)

// addressFlags say where a server is.
func addressFlags(verb string) []cli.Flag {
	return []cli.Flag{
		stringFlag("host", "127.0.0.1", verb+" `ADDRESS`, or the unix socket at a path that ends with .sock"),
		intFlag("port", 8080, verb+" port `N`"),
	}
}

func (p *program) psCommand() *cli.Command {
	return &cli.Command{
		Name:     "ps",
		Category: ofModels,
		Usage:    "list the models of a pumice serve on this machine",
		Description: "REQUESTS is how many are being answered. MEMORY is on the device, with the KV cache. A model that is unloaded is loaded again\n" +
			"when it is asked for.",
		Flags:  append(addressFlags("ask the server at"), jsonFlag()),
		Action: p.ps,
	}
}

// running is what ps --json writes for each model.
type running struct {
	Name     string   `json:"name"`
	State    string   `json:"state"`        // unloaded, loading or loaded
	Bytes    int64    `json:"device_bytes"` // on its devices; 0 unless it is loaded
	Context  int      `json:"context"`
	Requests int      `json:"requests"`
	Devices  []string `json:"devices"`
}

func (p *program) ps(c *cli.Context) error {
	if err := noMoreArgs(c, 0); err != nil {
		return err
	}
	client, err := askServer(c)
	if err != nil {
		return err
	}
	var list struct {
		Data []struct {
			ID     string
			Status struct{ Value string }
			Meta   struct {
				DeviceBytes int64 `json:"device_bytes"`
				Context     int   `json:"n_ctx"`
				Sessions    int
				Devices     []string
			}
		}
	}
	if err := client.Get(c.Context, "/v1/models", &list); err != nil {
		return asked(client, err)
	}
	all := []running{}
	for _, m := range list.Data {
		r := running{m.ID, m.Status.Value, m.Meta.DeviceBytes, m.Meta.Context, m.Meta.Sessions, m.Meta.Devices}
		if r.Devices == nil {
			r.Devices = []string{}
		}
		all = append(all, r)
	}
	if c.Bool("json") {
		return p.writeJSON(all)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tMEMORY\tCONTEXT\tREQUESTS\tDEVICE")
	for _, r := range all {
		if r.State != "loaded" {
			fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\n", r.Name, r.State)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", r.Name, r.State, humanize.Bytes(r.Bytes), r.Context, r.Requests, strings.Join(r.Devices, ", "))
	}
	return w.Flush()
}

func (p *program) stopCommand() *cli.Command {
	return &cli.Command{
		Name:      "stop",
		Category:  ofModels,
		Usage:     "unload models of a pumice serve on this machine",
		ArgsUsage: "NAME...",
		Description: "NAME is as ps lists it. A model that is answering a request is not unloaded. The server goes on: SIGTERM ends it. With --json\n" +
			"the names are written.",
		Flags:  append(addressFlags("ask the server at"), stringFlag("api-key", "", "show the server `KEY`, where it wants one"), jsonFlag()),
		Action: p.stop,
	}
}

func (p *program) stop(c *cli.Context) error {
	if c.NArg() == 0 {
		return &usageError{"stop: want the name of a model; pumice ps lists them"}
	}
	client, err := askServer(c)
	if err != nil {
		return err
	}
	for _, name := range c.Args().Slice() {
		var done struct{ Success bool }
		if err := client.Post(c.Context, "/models/unload", map[string]string{"model": name}, &done); err != nil {
			return asked(client, err)
		}
		if !c.Bool("json") {
			if err := p.printf("%s is unloaded\n", name); err != nil {
				return err
			}
		}
	}
	if c.Bool("json") {
		return p.writeJSON(c.Args().Slice())
	}
	return nil
}

// askServer is a client of the server that the flags name.
func askServer(c *cli.Context) (*loopback.Client, error) {
	if err := checkAddress(c); err != nil {
		return nil, err
	}
	client, err := loopback.New(c.String("host"), c.Int("port"), c.String("api-key"))
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--host %q: want an address of this machine: no other is asked", c.String("host"))}
	}
	return client, nil
}

// checkAddress refuses addresses that can't be meant: to listen on "" is to listen on all.
func checkAddress(c *cli.Context) error {
	if c.String("host") == "" {
		return &usageError{"--host: the address is empty"}
	}
	if c.Int("port") < 0 || c.Int("port") > 65535 {
		return &usageError{fmt.Sprintf("--port %d: want 0 to 65535", c.Int("port"))}
	}
	return nil
}

// asked is an error of asking a server, with what would help.
func asked(client *loopback.Client, err error) error {
	var answer *loopback.StatusError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer) && answer.Message != "":
		return fmt.Errorf("the server at %s: %s", client.Address(), answer.Message)
	case errors.As(err, &answer):
		return fmt.Errorf("the server at %s answers with status %d: it is no pumice serve", client.Address(), answer.Status)
	}
	return fmt.Errorf("no server answers at %s: start one with pumice serve, or name its --host and --port: %w", client.Address(), err)
}
