package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Removed says what Remove removed.
type Removed struct {
	Files int   // of snapshots
	Bytes int64 // of contents that no other snapshot has
}

// Remove removes a model of the Hub's cache: all of a repository where the name has neither file nor revision, else those files,
// or all files, of one snapshot. Contents that another snapshot has stay. What another process is fetching is not removed, which
// is an error, and models of ollama are ollama's to remove.
func Remove(name string) (Removed, error) {
	if isOllama(name) {
		return Removed{}, fmt.Errorf("store: %q is ollama's: ollama rm removes it", name)
	}
	r, err := ParseRef(name)
	if err != nil {
		return Removed{}, err
	}
	c, err := HubCache()
	if err != nil {
		return Removed{}, err
	}
	return c.Remove(r)
}

// Remove is Remove for this cache.
func (c Cache) Remove(r Ref) (Removed, error) {
	if _, err := os.Stat(c.repo(r.Repo)); errors.Is(err, fs.ErrNotExist) {
		return Removed{}, &NotFoundError{Name: r.String(), Msg: "it is not in " + c.Dir}
	}
	commits, err := c.commits(r.Repo)
	if err != nil {
		return Removed{}, err
	}
	all := r.File == "" && r.Revision == ""
	if !all {
		commit, err := c.commit(r)
		if err != nil {
			return Removed{}, err
		}
		if commit == "" {
			return Removed{}, &NotFoundError{Name: r.String(), Msg: "it is not in " + c.Dir}
		}
		commits = []string{commit}
	}
	links := map[string]string{} // path of a file of a snapshot -> its blob
	for _, commit := range commits {
		names, err := c.links(r.Repo, commit)
		if err != nil {
			return Removed{}, err
		}
		if r.File != "" {
			choice, err := choose(slices.Collect(maps.Keys(names)), r.File)
			if err != nil {
				return Removed{}, &NotFoundError{Name: r.String(), Msg: err.Error()}
			}
			for name := range names {
				if !slices.Contains(choice.Files, name) {
					delete(names, name)
				}
			}
		}
		for name, blob := range names {
			links[filepath.Join(c.snapshot(r.Repo, commit), filepath.FromSlash(name))] = blob
		}
	}
	return c.remove(r.Repo, commits, links, all)
}

// links lists a snapshot's files, with the name of the blob of each; "" for one that is no link to a blob.
func (c Cache) links(repo, commit string) (map[string]string, error) {
	top := c.snapshot(repo, commit)
	names := map[string]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		blob := ""
		if target, err := os.Readlink(path); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(path), target)
			}
			if filepath.Dir(target) == filepath.Dir(c.Blob(repo, "x")) {
				blob = filepath.Base(target)
			}
		}
		names[filepath.ToSlash(name)] = blob
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return names, nil
}

// remove removes files of snapshots, the snapshots that are empty then, and the blobs that no snapshot has any more. all says that
// the repository goes, with what fetches have begun.
func (c Cache) remove(repo string, commits []string, links map[string]string, all bool) (done Removed, err error) {
	blobs := map[string]bool{}
	for _, blob := range links {
		if blob != "" {
			blobs[blob] = true
		}
	}
	if all {
		entries, err := os.ReadDir(filepath.Join(c.repo(repo), "blobs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, fmt.Errorf("store: %w", err)
		}
		for _, e := range entries {
			blobs[e.Name()] = true
		}
	}
	unlock, err := c.lockAll(repo, blobs)
	if err != nil {
		return done, err
	}
	defer unlock()
	for path, blob := range links {
		if info, err := os.Lstat(path); err == nil && blob == "" && info.Mode().IsRegular() { // a copy, where there are no links
			done.Bytes += info.Size()
		}
		if err := os.Remove(path); err != nil {
			return done, fmt.Errorf("store: %w", err)
		}
		done.Files++
	}
	for _, commit := range commits {
		if err := c.removeSnapshot(repo, commit); err != nil {
			return done, err
		}
	}
	used, err := c.used(repo)
	if err != nil {
		return done, err
	}
	for blob := range blobs {
		if used[blob] {
			continue
		}
		path := c.Blob(repo, blob)
		info, err := os.Lstat(path)
		if err != nil {
			continue // the link led nowhere
		}
		if err := os.Remove(path); err != nil {
			return done, fmt.Errorf("store: %w", err)
		}
		if info.Mode().IsRegular() { // what repositories share stays for them
			done.Bytes += info.Size()
		}
	}
	if left, err := c.commits(repo); err != nil || len(left) > 0 {
		return done, err
	}
	return done, errors.Join(os.RemoveAll(c.repo(repo)), os.RemoveAll(filepath.Join(c.Dir, ".locks", repoFolder(repo))))
}

// lockAll takes the locks of blobs. If another process has one, it fetches that blob.
func (c Cache) lockAll(repo string, blobs map[string]bool) (unlock func(), err error) {
	var held []func()
	unlock = func() {
		for _, u := range held {
			u()
		}
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	hashes := map[string]bool{}
	for blob := range blobs { // HASH, HASH.incomplete, or HASH.RANDOM.incomplete of another program
		hash, _, _ := strings.Cut(strings.TrimPrefix(blob, "."), ".")
		hashes[hash] = true
	}
	for hash := range hashes {
		u, err := c.Lock(now, repo, hash, nil)
		if err != nil {
			unlock()
			if errors.Is(err, context.Canceled) {
				return nil, fmt.Errorf("store: %s: another process is fetching it", repo)
			}
			return nil, err
		}
		held = append(held, u)
	}
	return unlock, nil
}

// removeSnapshot removes a snapshot that has no files, and what refers to it.
func (c Cache) removeSnapshot(repo, commit string) error {
	names, err := c.links(repo, commit)
	if err != nil || len(names) > 0 {
		return err
	}
	revisions, err := c.revisions(repo)
	if err != nil {
		return err
	}
	for _, revision := range revisions[commit] {
		if err := os.Remove(filepath.Join(c.repo(repo), "refs", filepath.FromSlash(revision))); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	// huggingface_hub keeps lists of a commit's files, and of files that it does not have.
	return errors.Join(os.RemoveAll(c.snapshot(repo, commit)), os.RemoveAll(filepath.Join(c.repo(repo), "trees", commit+".json")),
		os.RemoveAll(filepath.Join(c.repo(repo), ".no_exist", commit)))
}

// used lists the blobs that snapshots of a repository have.
func (c Cache) used(repo string) (map[string]bool, error) {
	commits, err := c.commits(repo)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, commit := range commits {
		names, err := c.links(repo, commit)
		if err != nil {
			return nil, err
		}
		for _, blob := range names {
			used[blob] = true
		}
	}
	return used, nil
}
