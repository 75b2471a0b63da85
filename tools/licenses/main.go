// Licenses writes the notices of the modules that bin/pumice is linked from into internal/licenses/modules, and NOTICE.
// Run it from the top of the repository after a change of go.mod: make licenses.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"pumice/internal/licenses"
)

const (
	moduleDir = "internal/licenses/modules"
	worksDir  = "internal/licenses/works"
)

func main() {
	files, err := generate(".")
	if err == nil {
		err = write(files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

// write replaces what an earlier run has written.
func write(files map[string][]byte) error {
	if err := os.RemoveAll(moduleDir); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the files that belong to the module in the folder top, by their names in it.
func generate(top string) (map[string][]byte, error) {
	modules, err := linked(top)
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile(filepath.Join(top, "LICENSE"))
	if err != nil {
		return nil, err
	}
	list := []licenses.Work{{Name: "pumice", License: "Apache-2.0", Use: "this program", Text: string(own)}}
	for _, m := range modules {
		w, err := m.work()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", m.Path, m.Version, err)
		}
		list = append(list, w)
	}
	files := map[string][]byte{}
	for _, w := range list {
		files[moduleDir+"/"+w.Name+".txt"] = w.Encode()
	}
	followed, err := licenses.Read(os.DirFS(filepath.Join(top, worksDir)))
	if err != nil {
		return nil, err
	}
	files["NOTICE"] = notice(append(list[1:], followed...))
	return files, nil
}

// A module is one that packages of the program come from.
type module struct {
	Path, Version, Dir string
	folders            []string // of its packages that are linked, and those above them
}

// linked lists the modules that the programs are linked from, with their windows, of all systems that they are written for.
func linked(top string) ([]*module, error) {
	byPath := map[string]*module{}
	for _, system := range []string{"linux", "windows", "darwin"} {
		cmd := exec.Command("go", "list", "-tags=window", "-deps", "-json=Dir,Module", "./cmd/pumice", "./cmd/pumice-window")
		cmd.Dir = top
		cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "CGO_ENABLED=1", "GOFLAGS=-mod=readonly")
		var messages bytes.Buffer
		cmd.Stderr = &messages
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w: %s", err, messages.Bytes())
		}
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				Dir    string
				Module *struct {
					Path, Version, Dir string
					Main               bool
				}
			}
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			if p.Module == nil || p.Module.Main { // the standard library, which works/go.txt is about, and ours
				continue
			}
			m := byPath[p.Module.Path]
			if m == nil {
				m = &module{Path: p.Module.Path, Version: p.Module.Version, Dir: p.Module.Dir}
				byPath[m.Path] = m
			}
			for dir := p.Dir; len(dir) >= len(m.Dir); dir = filepath.Dir(dir) {
				if !slices.Contains(m.folders, dir) {
					m.folders = append(m.folders, dir)
				}
			}
		}
	}
	var list []*module
	for _, m := range byPath {
		slices.Sort(m.folders)
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *module) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// noticeFile is a file with a licence or what must go with it.
var noticeFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|copyright|notice|attrib|patents)[^/]*$`)

// work reads a module's notices.
func (m *module) work() (licenses.Work, error) {
	w := licenses.Work{Name: m.Path, Version: m.Version, Use: "linked"}
	var names []string
	for _, dir := range m.folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return w, err
		}
		for _, e := range entries {
			if e.Type().IsRegular() && noticeFile.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" {
				names = append(names, filepath.Join(dir, e.Name()))
			}
		}
	}
	var text strings.Builder
	for i, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return w, err
		}
		short, err := filepath.Rel(m.Dir, name)
		if err != nil {
			return w, err
		}
		if i > 0 {
			fmt.Fprintf(&text, "\n---- %s\n\n", filepath.ToSlash(short))
		}
		text.WriteString(strings.TrimSpace(strings.ReplaceAll(string(content), "\r\n", "\n")) + "\n")
	}
	w.Text = text.String()
	w.License = identify(w.Text)
	if w.License == "" {
		return w, fmt.Errorf("none of the licences that tools/licenses knows in %q", names)
	}
	return w, nil
}

// kinds are phrases that a licence has and no other one.
var kinds = []struct{ id, phrase string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"BSD-3-Clause", "endorse or promote products derived from this software without"},
	{"BSD-2-Clause", "Redistribution and use in source and binary forms, with or without modification"},
	{"MPL-2.0", "Mozilla Public License Version 2.0"},
}

// identify returns the SPDX identifiers of the known licences in a text, or "".
func identify(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n,>", r) }), " ")
	var found []string
	for _, k := range kinds {
		if k.id == "BSD-2-Clause" && slices.Contains(found, "BSD-3-Clause") { // which has its words, too
			continue
		}
		if strings.Contains(text, strings.ReplaceAll(k.phrase, ",", "")) {
			found = append(found, k.id)
		}
	}
	return strings.Join(found, " AND ")
}

// notice is the file NOTICE.
func notice(works []licenses.Work) []byte {
	var b strings.Builder
	b.WriteString(`pumice
Copyright the pumice authors. Licensed under the Apache License, Version 2.0: see LICENSE.

Written by tools/licenses: after a change of go.mod, or of internal/licenses/works, run make licenses. The licences' texts are
in internal/licenses and in the program: pumice licenses --full.

The program is linked from, and its code follows, these works:
`)
	slices.SortFunc(works, func(a, b licenses.Work) int { return strings.Compare(a.Name, b.Name) })
	for _, w := range works {
		fmt.Fprintf(&b, "\n%s\n  %s: %s\n", strings.TrimSpace(w.Name+" "+w.Version), w.License, w.Use)
		for _, line := range copyrights(w.Text) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	b.WriteString(`
Test data that is in the source and not in the program:

chat/testdata/templates/qwen3.jinja
  Apache-2.0: the chat template of Qwen3, by the Qwen team, Alibaba Cloud
chat/testdata/templates/smollm2.jinja, tokenizer/testdata/smollm2
  Apache-2.0: the chat template and the tokenizer of SmolLM2, by Hugging Face

Everything else under testdata was made for this project: see the README of each folder.
`)
	return []byte(b.String())
}

// copyrightLine is a notice of who holds the copyright, not the word in a sentence.
var copyrightLine = regexp.MustCompile(`(?m)^[>\s]*((?:Software )?Copyright (?:\(c\)|\(C\)|©|[0-9]).*?)\s*$`)

// copyrights lists the copyright notices of a text, each once.
func copyrights(text string) []string {
	var list []string
	for _, m := range copyrightLine.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(list, m[1]) {
			list = append(list, m[1])
		}
	}
	return list
}
