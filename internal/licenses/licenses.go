// Package licenses holds the notices and licences of the works that are linked into pumice or that its code follows.
// Each Work has its own text file. tools/licenses (make licenses) writes the files under modules; those under works are
// written by hand.
package licenses

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Files holds the files of all works. A file has a line each for Name, Version, License and Use, an empty line, and the
// text.
//
//go:embed modules works
var Files embed.FS

// A Work is a work by others that is linked into the program or that its code follows, or the program itself.
type Work struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // "" if no particular version is linked
	License string `json:"license"`           // SPDX identifiers
	Use     string `json:"use"`               // how pumice uses it
	Text    string `json:"text,omitempty"`    // copyright notices and licence
}

// Encode returns the content of the work's file.
func (w Work) Encode() []byte {
	return fmt.Appendf(nil, "Name: %s\nVersion: %s\nLicense: %s\nUse: %s\n\n%s", w.Name, w.Version, w.License, w.Use, w.Text)
}

// decode parses the content of a work's file.
func decode(content string) (w Work, err error) {
	head, text, ok := strings.Cut(content, "\n\n")
	w.Text = text
	fields := map[string]*string{"Name": &w.Name, "Version": &w.Version, "License": &w.License, "Use": &w.Use}
	for _, line := range strings.Split(head, "\n") {
		key, value, found := strings.Cut(line, ":")
		field := fields[key]
		if !found || field == nil {
			return w, fmt.Errorf("the line %q is not a field of a work", line)
		}
		*field = strings.TrimSpace(value)
		delete(fields, key)
	}
	if !ok || len(fields) > 0 || w.Name == "" || w.License == "" || w.Use == "" || strings.TrimSpace(w.Text) == "" {
		return w, fmt.Errorf("a field or the text is missing")
	}
	return w, nil
}

// Read returns the works of a tree such as Files, sorted by name.
func Read(tree fs.FS) ([]Work, error) {
	var works []Work
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		w, err := decode(string(content))
		if err != nil {
			return fmt.Errorf("licenses: %s: %w", path, err)
		}
		works = append(works, w)
		return nil
	})
	slices.SortFunc(works, func(a, b Work) int { return strings.Compare(a.Name, b.Name) })
	return works, err
}
