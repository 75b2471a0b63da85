package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"pumice/internal/atomicfile"
	"pumice/internal/regular"
)

// A Cache is the Hub's cache, in the layout of huggingface_hub 2.4.0 (and since 0.8):
//
//	models--OWNER--NAME/blobs/HASH              the content: HASH is the SHA-256 of an LFS file, or git's SHA-1 of others
//	models--OWNER--NAME/blobs/HASH.incomplete   its beginning
//	models--OWNER--NAME/snapshots/COMMIT/FILE   a symbolic link to the content
//	models--OWNER--NAME/refs/REVISION           the commit of a branch or a tag
//	.locks/models--OWNER--NAME/HASH.lock        locked (flock) while the content is fetched
//
// A blob may itself be a symbolic link to one that several repositories share (Dir/blobs).
type Cache struct{ Dir string }

// HubCache returns the user's cache: HF_HUB_CACHE, or hub in HF_HOME, which is $XDG_CACHE_HOME/huggingface or
// ~/.cache/huggingface if it is not set. It need not exist.
func HubCache() (Cache, error) {
	if dir := os.Getenv("HF_HUB_CACHE"); dir != "" {
		return Cache{dir}, nil
	}
	home, err := HubHome()
	return Cache{filepath.Join(home, "hub")}, err
}

// HubHome returns HF_HOME.
func HubHome() (string, error) {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "huggingface"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return filepath.Join(home, ".cache", "huggingface"), nil
}

const repoPrefix = "models--"

func repoFolder(repo string) string { return repoPrefix + strings.ReplaceAll(repo, "/", "--") }

func (c Cache) repo(repo string) string { return filepath.Join(c.Dir, repoFolder(repo)) }

func (c Cache) snapshot(repo, commit string) string {
	return filepath.Join(c.repo(repo), "snapshots", commit)
}

// Blob returns the path of a content.
func (c Cache) Blob(repo, hash string) string { return filepath.Join(c.repo(repo), "blobs", hash) }

// Incomplete returns the path of the beginning of a content, which the program that has its lock writes.
func (c Cache) Incomplete(repo, hash string) string { return c.Blob(repo, hash) + incompleteSuffix }

const incompleteSuffix = ".incomplete"

// CommitHash matches a commit, and git's hash of a file.
var CommitHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Lock waits until no other process or goroutine has a content's lock, and takes it. busy is called once if it has to wait.
func (c Cache) Lock(ctx context.Context, repo, hash string, busy func()) (unlock func(), err error) {
	dir := filepath.Join(c.Dir, ".locks", repoFolder(repo))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for waited := false; ; {
		f, err := os.OpenFile(filepath.Join(dir, hash+".lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o664)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENOTSUP) { // a file system without locks
			return func() { f.Close() }, nil
		}
		if err == nil && isAt(f) {
			return func() { f.Close() }, nil
		}
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(&fs.PathError{Op: "lock", Path: f.Name(), Err: err}, f.Close())
		}
		f.Close()
		if !waited && busy != nil {
			busy()
		}
		waited = true
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// isAt reports whether an open file still has its name: who removes a model removes its locks.
func isAt(f *os.File) bool {
	there, err := os.Lstat(f.Name())
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(there, info)
}

// Make makes a repository's folders and a snapshot's, so that other programs recognise them.
func (c Cache) Make(repo, commit string) error {
	for _, dir := range []string{filepath.Join(c.repo(repo), "blobs"), filepath.Join(c.repo(repo), "refs"), c.snapshot(repo, commit)} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// Link makes a file of a snapshot a link to its content.
func (c Cache) Link(repo, commit, file, hash string) error {
	if !PlainPath(file) {
		return &NameError{file, "it leads out of the snapshot"}
	}
	link := filepath.Join(c.snapshot(repo, commit), filepath.FromSlash(file))
	if err := os.MkdirAll(filepath.Dir(link), 0o777); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	target, err := filepath.Rel(filepath.Dir(link), c.Blob(repo, hash))
	if err != nil {
		return err
	}
	if now, err := os.Readlink(link); err == nil && now == target {
		return nil
	}
	fresh := filepath.Join(c.repo(repo), "blobs", fmt.Sprintf(".%s.%d.link", hash, os.Getpid()))
	os.Remove(fresh)
	if err := os.Symlink(target, fresh); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := os.Rename(fresh, link); err != nil {
		return errors.Join(fmt.Errorf("store: %w", err), os.Remove(fresh))
	}
	return nil
}

// SetRevision says which commit a branch or a tag is at. A commit needs no such file.
func (c Cache) SetRevision(repo, revision, commit string) error {
	if revision == commit {
		return nil
	}
	if !PlainPath(revision) {
		return &NameError{revision, "no such revision can exist"}
	}
	path := filepath.Join(c.repo(repo), "refs", filepath.FromSlash(revision))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return atomicfile.WriteBytes(path, []byte(commit))
}

// commit returns the commit of a Ref's revision, or "" if there is none here.
func (c Cache) commit(r Ref) (string, error) {
	revision := r.RevisionOrDefault()
	text, err := regular.ReadFile(filepath.Join(c.repo(r.Repo), "refs", filepath.FromSlash(revision)), 1<<10)
	commit := strings.TrimSpace(string(text))
	switch {
	case errors.Is(err, fs.ErrNotExist) && CommitHash.MatchString(revision):
		commit = revision
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("store: %w", err)
	case !CommitHash.MatchString(commit):
		return "", fmt.Errorf("store: %s: revision %q: %q is not a commit", r.Repo, revision, clip(commit))
	}
	if _, err := os.Stat(c.snapshot(r.Repo, commit)); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return commit, nil
}

func clip(text string) string {
	if len(text) > 200 {
		return text[:200] + "..."
	}
	return text
}

// files lists a snapshot's files whose content is there, relative to it.
func (c Cache) files(repo, commit string) ([]string, error) {
	top := c.snapshot(repo, commit)
	var names []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil // its content is gone
		}
		name, err := filepath.Rel(top, path)
		if name = filepath.ToSlash(name); err == nil && PlainPath(name) { // others cannot be named
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// Find returns the path of a model: the directory of a snapshot, or a GGUF file in it.
func (c Cache) Find(r Ref) (string, error) {
	commit, err := c.commit(r)
	if err != nil {
		return "", err
	}
	if commit == "" {
		return "", &NotFoundError{Name: r.String(), Msg: "it is not in " + c.Dir, Pull: true}
	}
	names, err := c.files(r.Repo, commit)
	if err != nil {
		return "", err
	}
	choice, err := Choose(names, r.File)
	switch {
	case err != nil:
		return "", &NotFoundError{Name: r.String(), Msg: fmt.Sprintf("what is in %s does not do: %v", c.snapshot(r.Repo, commit), err), Pull: true}
	case len(choice.Models) == 0:
		return "", &NotFoundError{Name: r.String(), Msg: fmt.Sprintf("%q is no model", r.File)}
	case len(choice.Models) > 1:
		return "", &NotFoundError{Name: r.String(), Msg: fmt.Sprintf("say which of %d models: %s", len(choice.Models), strings.Join(choice.Models, ", "))}
	}
	return filepath.Join(c.snapshot(r.Repo, commit), filepath.FromSlash(choice.Models[0])), nil
}
