package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice/bench"
	"pumice/internal/atomicfile"
)

// What pumice bench does with files of results.

// benchFiles reads the files that the command line names after the subcommand.
func benchFiles(c *cli.Context, least int) (files []*bench.File, err error) {
	what, names := c.Args().First(), c.Args().Tail()
	if len(names) < least {
		return nil, &usageError{fmt.Sprintf("bench %s: want files of results, at least %d, which -o json or -o jsonl writes", what, least)}
	}
	for _, name := range names {
		f, failed := bench.ReadFile(name)
		files, err = append(files, f), errors.Join(err, failed)
	}
	if err != nil {
		return nil, err
	}
	return files, nil
}

func (p *program) benchCompare(c *cli.Context) error {
	files, err := benchFiles(c, 2)
	if err != nil {
		return err
	}
	comparison := bench.Compare(files[0], files[1:]...)
	if c.Bool("json") {
		return p.writeJSON(comparison)
	}
	return p.printf("%s", comparison.Table())
}

func (p *program) benchHTML(c *cli.Context) error {
	files, err := benchFiles(c, 1)
	if err != nil {
		return err
	}
	return bench.WritePage(p.stdout, "pumice bench", nil, files...)
}

// benchShow writes the rows of files in a format.
func (p *program) benchShow(c *cli.Context) error {
	files, err := benchFiles(c, 1)
	if err != nil {
		return err
	}
	format, err := p.benchFormat(c)
	if err != nil {
		return err
	}
	if format == "html" {
		return bench.WritePage(p.stdout, "pumice bench", nil, files...)
	}
	var all bench.File
	for _, f := range files {
		all.Results, all.Parallel, all.Load = append(all.Results, f.Results...), append(all.Parallel, f.Parallel...), append(all.Load, f.Load...)
	}
	switch n, parallel, load := len(all.Results), len(all.Parallel), len(all.Load); {
	case n > 0 && parallel+load > 0 || parallel > 0 && load > 0:
		return errors.New("bench show: the rows are of several kinds, of -np, of --load or of neither: give files with one kind")
	case parallel > 0:
		return showRows(p, format, parallelTable, all.Parallel)
	case load > 0:
		return showRows(p, format, loadTable, all.Load)
	}
	return showRows(p, format, plainTable, all.Results)
}

func showRows[R bench.Row](p *program, format string, t table[R], rows []R) error {
	if format == "svg" && (t.svg == nil || t.svg(rows) == "") {
		return errors.New("bench show: -o svg draws a roofline, which rows have that --profile has measured")
	}
	out := benchWriter[R]{p: p, format: format, table: t, csv: csv.NewWriter(p.stdout)}
	for _, r := range rows {
		if out.add(r); out.err != nil {
			return out.err
		}
	}
	return out.end()
}

// benchValidate reports every mistake, and what a file has.
func (p *program) benchValidate(c *cli.Context) error {
	names := c.Args().Tail()
	if len(names) == 0 {
		return &usageError{"bench validate: want files of results"}
	}
	var wrong error
	for _, name := range names {
		f, err := bench.ReadFile(name)
		if err != nil {
			wrong = errors.Join(wrong, err)
			continue
		}
		rows, struck, noisy := f.Marked()
		text := fmt.Sprintf("%s: %d rows, %d struck, %d noisy", name, rows, struck, noisy)
		if f.Cut {
			text += "; the end of the list is missing"
		}
		if err := p.printf("%s\n", text); err != nil {
			return err
		}
	}
	return wrong
}

// benchSite writes index.html, of all files of results in a folder, and a page for each of them beside it.
func (p *program) benchSite(c *cli.Context) error {
	if c.NArg() != 2 {
		return &usageError{"bench site: want one folder, with files that -o json or -o jsonl has written"}
	}
	dir := c.Args().Get(1)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var files []*bench.File
	var links []string
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); !slices.Contains([]string{".json", ".jsonl"}, ext) || !entry.Type().IsRegular() {
			continue
		}
		f, err := bench.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		files = append(files, f)
		links = append(links, entry.Name()+".html")
		if err := writePage(filepath.Join(dir, entry.Name()+".html"), entry.Name(), nil, f); err != nil {
			return err
		}
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: there are no *.json and *.jsonl files", dir)
	}
	index := filepath.Join(dir, "index.html")
	if err := writePage(index, "pumice bench", links, files...); err != nil {
		return err
	}
	return p.printf("%s: %s\n", index, strings.Join(links, ", "))
}

func writePage(path, title string, links []string, files ...*bench.File) error {
	return atomicfile.Write(path, func(f *os.File) error { return bench.WritePage(f, title, links, files...) })
}
