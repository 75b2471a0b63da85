package pumice

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pumice/model/pages"
)

// A kvDisk keeps whole pages of the KV cache in files, for later processes (Options.KVDisk). Texts that begin alike share them.
//
// There is a folder for each model.Fingerprint. The file of a page is named by a SHA-256 of all tokens of the text up to the
// page's end, and by the layer group: 32 hexadecimal digits and .global or .local. It has the page's bytes and a CRC-32
// (Castagnoli) of the name and the bytes. Files are written under another name first, so that one that exists is whole unless
// the disk failed; the checksum tells. What can't be read is evaluated again, so no error reaches a session.
type kvDisk struct {
	engine *Engine
	dir    string
	most   int64 // bytes
	log    zerolog.Logger

	mu    sync.Mutex
	files map[string]kvFile
	bytes int64

	texts  chan []int // to be kept
	closed sync.Once
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is being written any more
}

type kvFile struct {
	bytes int64
	used  time.Time
}

// Texts that wait to be written. One that finds no place is not kept: a later one with the same beginning may be.
const maxKeptTexts = 16

// closeKVDisk is how long Close waits until the texts that wait are written.
const closeKVDisk = 5 * time.Second

// groupNames are the ends of files' names.
var groupNames = [pages.Groups]string{pages.Global: ".global", pages.Local: ".local"}

// openKVDisk prepares the folder of an engine that has an executor.
func openKVDisk(e *Engine, dir string, most int64, log zerolog.Logger) (*kvDisk, error) {
	sum := sha256.Sum256([]byte(e.work.model.Fingerprint()))
	d := &kvDisk{
		engine: e, dir: filepath.Join(dir, hex.EncodeToString(sum[:16])), most: most, log: log,
		files: map[string]kvFile{}, texts: make(chan []int, maxKeptTexts), done: make(chan struct{}),
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil { // who can read keys and values can read the texts
		return nil, fmt.Errorf("pumice: the KV cache's folder: %w", err)
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("pumice: the KV cache's folder: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !slices.Contains(groupNames[:], filepath.Ext(entry.Name())) { // left by a process that was killed
			if time.Since(info.ModTime()) > time.Hour {
				_ = os.Remove(filepath.Join(d.dir, entry.Name()))
			}
			continue
		}
		d.files[entry.Name()] = kvFile{info.Size(), info.ModTime()}
		d.bytes += info.Size()
	}
	d.evict()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go d.run(ctx, d.texts)
	return d, nil
}

// run writes texts until there are no more.
func (d *kvDisk) run(ctx context.Context, texts <-chan []int) {
	defer close(d.done)
	for text := range texts {
		if err := d.write(ctx, text); err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("a text's keys and values are not kept")
		}
	}
}

// close writes what waits, for a short time.
func (d *kvDisk) close() {
	d.closed.Do(func() {
		d.mu.Lock()
		close(d.texts)
		d.texts = nil
		d.mu.Unlock()
		timer := time.AfterFunc(closeKVDisk, d.cancel)
		<-d.done
		timer.Stop()
		d.cancel()
	})
}

// keep has the whole pages of a text written, as far as the cache has them.
func (d *kvDisk) keep(text []int) {
	if len(text) < d.engine.work.model.Pages().PageSize() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case d.texts <- slices.Clone(text): // a nil channel takes nothing
	default:
	}
}

// names are those of the pages that the tokens fill, without the group.
func (d *kvDisk) names(tokens []int) []string {
	size := d.engine.work.model.Pages().PageSize()
	names := make([]string, 0, len(tokens)/size)
	h := sha256.New()
	for page := range slices.Chunk(tokens, size) {
		if len(page) < size {
			break
		}
		var b []byte
		for _, id := range page {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
		h.Write(b)
		names = append(names, hex.EncodeToString(h.Sum(nil)[:16]))
	}
	return names
}

func (d *kvDisk) has(name string, g pages.Group) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.files[name+groupNames[g]]
	return ok
}

// write writes the pages of a text that are not there yet.
func (d *kvDisk) write(ctx context.Context, text []int) error {
	names := d.names(text)
	defer d.touch(names)
	if !slices.ContainsFunc(names, func(name string) bool { return !d.has(name, pages.Global) }) {
		return nil
	}
	s, x := d.engine.NewSession(), d.engine.work
	if err := s.use(); err != nil {
		return err
	}
	defer s.free(text)
	var extents []pages.Extent
	err := x.alone(ctx, s, func(ctx context.Context) (err error) {
		if err := x.resume(&job{ctx: ctx, s: s, tokens: text, what: evaluation{from: len(text)}}); err != nil {
			return err
		}
		extents, err = s.hold.sequence.Export()
		return err
	})
	if err != nil {
		return err
	}
	size := x.model.Pages().PageSize()
	for _, e := range extents {
		if e.Rows < size || d.has(names[e.First/size], e.Group) {
			continue
		}
		page := make([]byte, x.model.PageBytes(e.Group))
		err := x.alone(ctx, s, func(ctx context.Context) error {
			if q := s.hold.sequence; q == nil || q.Len() < e.First+size {
				return errPagesTaken
			}
			return x.model.ReadPage(ctx, e, page)
		})
		if errors.Is(err, errPagesTaken) {
			return nil // whoever has them is in greater need
		}
		if err == nil {
			err = d.writeFile(names[e.First/size]+groupNames[e.Group], page)
		}
		if err != nil {
			return err
		}
	}
	d.evict()
	return nil
}

func (d *kvDisk) writeFile(name string, page []byte) error {
	f, err := os.CreateTemp(d.dir, "new-*") // 0600
	if err != nil {
		return err
	}
	if _, err = f.Write(page); err == nil {
		_, err = f.Write(binary.LittleEndian.AppendUint32(nil, checksum(name, page)))
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	file := kvFile{int64(len(page)) + crc32.Size, time.Now()}
	d.bytes += file.bytes - d.files[name].bytes
	d.files[name] = file
	return nil
}

// readFile returns a page that writeFile has written. A file that is damaged is deleted.
func (d *kvDisk) readFile(name string, size int64) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	if err == nil {
		n := len(b) - crc32.Size
		if int64(n) == size && binary.LittleEndian.Uint32(b[n:]) == checksum(name, b[:n]) {
			return b[:n], nil
		}
		err = fmt.Errorf("pumice: %s is damaged, and evaluated again", filepath.Join(d.dir, name))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(name)
	return nil, err
}

func checksum(name string, page []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, page)
}

// remove deletes a file. The caller has the lock.
func (d *kvDisk) remove(name string) {
	d.bytes -= d.files[name].bytes
	delete(d.files, name)
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) { // another process may have
		d.log.Warn().Err(err).Msg("the KV cache's folder")
	}
}

// touch notes that the pages of a text were used, those at its end a little earlier: they are given up first.
func (d *kvDisk) touch(names []string) {
	now := time.Now()
	for i, name := range names {
		for _, end := range groupNames {
			d.mu.Lock()
			file, ok := d.files[name+end]
			if ok {
				file.used = now.Add(-time.Duration(i) * time.Microsecond)
				d.files[name+end] = file
			}
			d.mu.Unlock()
			if ok {
				_ = os.Chtimes(filepath.Join(d.dir, name+end), file.used, file.used) // else it is given up too early
			}
		}
	}
}

// evict deletes files until there is room again, those first that were not used for the longest time.
func (d *kvDisk) evict() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bytes <= d.most {
		return
	}
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := d.files[a].used.Compare(d.files[b].used); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		if d.bytes <= d.most-d.most/16 { // so that this is not done for each page
			break
		}
		d.remove(name)
	}
}

// load brings into the cache what the folder has of a prompt beyond what the cache holds.
func (d *kvDisk) load(ctx context.Context, s *Session, prompt []int) {
	names := d.names(prompt[:len(prompt)-1]) // the last token is evaluated, for its logits
	n := slices.IndexFunc(names, func(name string) bool { return !d.has(name, pages.Global) })
	if n < 0 {
		n = len(names)
	}
	pool := s.engine.work.model.Pages()
	size := pool.PageSize()
	n = pool.Resumable(n*size, func(i int) bool { return d.has(names[i], pages.Local) }) / size
	if n == 0 {
		return
	}
	err := s.fill(ctx, prompt[:n*size], func(missing []pages.Extent) error {
		for _, e := range missing {
			page, err := d.readFile(names[e.First/size]+groupNames[e.Group], s.engine.work.model.PageBytes(e.Group))
			if err == nil {
				err = s.writePage(ctx, e, page)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && !isFull(err) {
		d.log.Warn().Err(err).Msg("keys and values of a text are evaluated again")
	}
	d.touch(names[:n])
}
