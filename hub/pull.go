package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"pumice/internal/humanize"
	"pumice/store"
)

// ErrOffline says that the options forbid to fetch anything.
var ErrOffline = errors.New("hub: HF_HUB_OFFLINE forbids to fetch anything")

// A SpaceError says that the disk has too little room.
type SpaceError struct {
	Dir        string
	Need, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("hub: %s: %s are needed, and %s are free", e.Dir, humanize.Bytes(e.Need), humanize.Bytes(e.Free))
}

// Pulled is what Pull fetched, or found.
type Pulled struct {
	Commit  string
	Files   []File
	Models  []string // the names by which package store finds what was pulled
	Bytes   int64    // of Files
	Fetched int64    // bytes of files that were not there, or not wholly
}

// Pull fetches the files that a Ref stands for and that are not in the cache. Where it is interrupted, what came stays, and the next
// Pull goes on from there. The revision refers to the new commit once all files are there.
func (c *Client) Pull(ctx context.Context, r store.Ref) (*Pulled, error) {
	if c.o.Offline {
		return nil, ErrOffline
	}
	commit, files, err := c.repository(ctx, r)
	if err != nil {
		return nil, err
	}
	byName := map[string]File{}
	var names []string
	for _, f := range files {
		byName[f.Name] = f
		names = append(names, f.Name)
	}
	choice, err := store.Choose(names, r.File)
	if err != nil {
		return nil, fmt.Errorf("hub: %s: %w", r.Repo, err)
	}
	p := &Pulled{Commit: commit}
	for _, name := range choice.Files {
		f := byName[name]
		if f.problem != "" {
			return nil, fmt.Errorf("hub: %s: %s: %s", r.Repo, name, f.problem)
		}
		p.Files = append(p.Files, f)
		p.Bytes += f.Bytes
	}
	for _, model := range choice.Models {
		p.Models = append(p.Models, store.Ref{Repo: r.Repo, File: model, Revision: r.Revision}.String())
	}
	if p.Fetched, err = c.missing(r.Repo, p.Files); err != nil {
		return nil, err
	}
	if err := c.o.Cache.Make(r.Repo, commit); err != nil {
		return nil, err
	}
	m := &meter{total: p.Bytes, tell: c.o.Progress}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(maxFiles)
	for _, f := range p.Files {
		group.Go(func() error { return c.fetch(within, r.Repo, commit, f, m) })
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return p, c.o.Cache.SetRevision(r.Repo, r.RevisionOrDefault(), commit)
}

// missing returns how many bytes of files are not in the cache, and a *SpaceError if there is no room for them.
func (c *Client) missing(repo string, files []File) (need int64, err error) {
	seen := map[string]bool{}
	var room int64
	for _, f := range files {
		if seen[f.Hash()] || c.present(repo, f) {
			continue
		}
		seen[f.Hash()] = true
		need += f.Bytes
		room += f.Bytes
		if info, err := os.Stat(c.o.Cache.Incomplete(repo, f.Hash())); err == nil {
			room -= min(info.Size(), f.Bytes)
		}
	}
	free, err := freeSpace(c.o.Cache.Dir)
	if err == nil && free < room {
		err = &SpaceError{c.o.Cache.Dir, room, free}
	}
	return need, err
}

// freeSpace returns the bytes that this user may still write into a folder, which need not exist.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	for {
		err := unix.Statfs(dir, &s)
		if err == nil {
			break
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || up == dir {
			return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
		dir = up
	}
	if high, free := bits.Mul64(s.Bavail, uint64(s.Bsize)); high == 0 && free <= math.MaxInt64 {
		return int64(free), nil
	}
	return math.MaxInt64, nil
}

// present reports whether the cache has a file's content.
func (c *Client) present(repo string, f File) bool {
	info, err := os.Stat(c.o.Cache.Blob(repo, f.Hash()))
	return err == nil && info.Mode().IsRegular() && info.Size() == f.Bytes
}

// A meter counts the bytes that are there.
type meter struct {
	tell func(done, total int64)

	mu          sync.Mutex
	done, total int64
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.tell != nil {
		m.tell(m.done, m.total)
	}
}
