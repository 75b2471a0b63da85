package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pumice/internal/regular"
)

// Sources of models.
const (
	Hub    = "hub"    // in the Hub's cache
	Ollama = "ollama" // in ollama's folder
)

// A Model is a model that Find would find.
type Model struct {
	Name       string
	Bytes      int64 // of its files
	Modified   time.Time
	Source     string // Hub or Ollama
	Path       string // what Find returns; "" where it is incomplete
	Incomplete bool   // some of it is missing
}

// List lists the models that are on this machine, by name.
func List() ([]Model, error) {
	c, err := HubCache()
	if err != nil {
		return nil, err
	}
	all, err := c.List()
	if err != nil {
		return nil, err
	}
	ollama, err := listOllama()
	if err != nil {
		return nil, err
	}
	return append(all, ollama...), nil
}

// List lists the models in the cache: each GGUF model and each directory of each snapshot, and what a fetch has begun.
func (c Cache) List() ([]Model, error) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store: %w", err)
	}
	var all []Model
	for _, e := range entries {
		repo, ok := strings.CutPrefix(e.Name(), repoPrefix)
		repo = strings.ReplaceAll(repo, "--", "/")
		if !ok || !validRepo(repo) {
			continue
		}
		models, err := c.listRepo(repo)
		if err != nil {
			return nil, err
		}
		all = append(all, models...)
	}
	return all, nil
}

func (c Cache) listRepo(repo string) ([]Model, error) {
	commits, err := c.commits(repo)
	if err != nil {
		return nil, err
	}
	revisions, err := c.revisions(repo)
	if err != nil {
		return nil, err
	}
	var all []Model
	for _, commit := range commits {
		names, err := c.files(repo, commit)
		if err != nil {
			return nil, err
		}
		r := Ref{Repo: repo, Revision: commit}
		if known := revisions[commit]; len(known) > 0 {
			r.Revision = known[0]
		}
		add := func(files []string, first string) {
			r.File = first
			m := Model{Name: r.String(), Source: Hub, Path: filepath.Join(c.snapshot(repo, commit), filepath.FromSlash(first))}
			if complete(files, names) != nil {
				m.Path, m.Incomplete = "", true
			}
			for _, name := range files {
				if info, err := os.Stat(filepath.Join(c.snapshot(repo, commit), filepath.FromSlash(name))); err == nil {
					m.Bytes += info.Size()
					m.Modified = later(m.Modified, info.ModTime())
				}
			}
			all = append(all, m)
		}
		if files := directory(names); files != nil {
			add(files, "")
		}
		for _, m := range ggufModels(names) {
			if language(m) {
				add(m, m[0])
			}
		}
	}
	if begun := c.begun(repo); begun.Bytes > 0 {
		all = append(all, begun)
	}
	return all, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// begun is what fetches have begun of a repository.
func (c Cache) begun(repo string) Model {
	m := Model{Name: Ref{Repo: repo}.String(), Source: Hub, Incomplete: true}
	entries, _ := os.ReadDir(filepath.Join(c.repo(repo), "blobs")) // a repository without blobs has begun nothing
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(e.Name(), incompleteSuffix) {
			m.Bytes += info.Size()
			m.Modified = later(m.Modified, info.ModTime())
		}
	}
	return m
}

// commits lists the snapshots of a repository.
func (c Cache) commits(repo string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.repo(repo), "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store: %w", err)
	}
	var commits []string
	for _, e := range entries {
		if e.IsDir() && CommitHash.MatchString(e.Name()) {
			commits = append(commits, e.Name())
		}
	}
	return commits, nil
}

// revisions lists the branches and tags of each commit, main first.
func (c Cache) revisions(repo string) (map[string][]string, error) {
	top := filepath.Join(c.repo(repo), "refs")
	all := map[string][]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		text, err := regular.ReadFile(path, 1<<10)
		if err != nil || !CommitHash.MatchString(strings.TrimSpace(string(text))) || !PlainPath(filepath.ToSlash(name)) {
			return nil // no reference
		}
		commit := strings.TrimSpace(string(text))
		all[commit] = append(all[commit], filepath.ToSlash(name))
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store: %w", err)
	}
	for _, names := range all {
		slices.SortFunc(names, func(a, b string) int {
			if (a == DefaultRevision) != (b == DefaultRevision) {
				if a == DefaultRevision {
					return -1
				}
				return 1
			}
			return strings.Compare(a, b)
		})
	}
	return all, nil
}
