package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"pumice/store"
)

// A HashError says that a file that was fetched is not the one that the repository describes.
type HashError struct {
	File      string
	Want, Got string
}

func (e *HashError) Error() string {
	return fmt.Sprintf("hub: %s: what came has the hash %s, and the repository says %s: it was thrown away", e.File, e.Got, e.Want)
}

// A download is the fetch of one file. The file on disk is always a beginning of the content: chunks are fetched side by side into
// buffers, and written and hashed in order. So another process, or another program, can go on from any state of it.
type download struct {
	c       *Client
	file    File
	what    string
	address string // that the Hub gives for the file
	m       *meter
	f       *os.File
	counted int64 // what the meter has of this file

	mu     sync.Mutex
	direct string // where the Hub's address led: "" if that is not known
	tag    string // the ETag of the content there
	anyTag bool   // tags are not compared any more
}

var (
	errChanged  = errors.New("the file has changed at the server")
	errNoRanges = errors.New("the server gives no parts of files")
)

// fetch makes a file of a snapshot a link to its content, which it fetches if it is not there.
func (c *Client) fetch(ctx context.Context, repo, commit string, f File, m *meter) error {
	what := repo + ": " + f.Name
	unlock, err := c.o.Cache.Lock(ctx, repo, f.Hash(), func() { c.note("%s: another process is fetching it", what) })
	if err != nil {
		return err
	}
	defer unlock()
	if c.present(repo, f) {
		m.add(f.Bytes)
	} else {
		d := &download{c: c, file: f, what: what, address: c.resolve(repo, commit, f.Name), m: m}
		if err := d.run(ctx, c.o.Cache, repo); err != nil {
			return err
		}
	}
	return c.o.Cache.Link(repo, commit, f.Name, f.Hash())
}

// run fetches what is missing of the content, compares the hash, and gives it its name.
func (d *download) run(ctx context.Context, cache store.Cache, repo string) (err error) {
	path := cache.Incomplete(repo, d.file.Hash())
	if d.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o666); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	defer func() { err = errors.Join(err, d.f.Close()) }()
	// A beginning that does not fit, and tags that change although the content may not, get one more attempt each, from the start.
	whole := false
	for attempt := 0; ; attempt++ {
		resumed, err := d.complete(ctx, whole)
		var wrong *HashError
		switch {
		case err == nil:
			if err := d.f.Sync(); err != nil {
				return fmt.Errorf("hub: %w", err)
			}
			if err := os.Rename(path, cache.Blob(repo, d.file.Hash())); err != nil {
				return fmt.Errorf("hub: %w", err)
			}
			return nil
		case errors.Is(err, errNoRanges) && !whole:
			whole = true
		case errors.Is(err, errChanged) && !d.anyTag:
			d.anyTag, d.tag = true, ""
		case errors.As(err, &wrong) && resumed && attempt < 3:
		case errors.As(err, &wrong):
			return errors.Join(err, os.Remove(path))
		default:
			return err
		}
		if err := d.f.Truncate(0); err != nil {
			return fmt.Errorf("hub: %w", err)
		}
	}
}

// complete fetches the rest of the content, in one piece if whole, and compares its hash. resumed says that there was a beginning.
func (d *download) complete(ctx context.Context, whole bool) (resumed bool, err error) {
	d.count(-d.counted)
	size, err := d.f.Seek(0, io.SeekEnd)
	if err == nil && (size > d.file.Bytes || whole) {
		size, err = 0, d.f.Truncate(0)
	}
	if err == nil {
		_, err = d.f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return false, fmt.Errorf("hub: %w", err)
	}
	sum := d.hash()
	if _, err := io.CopyBuffer(writerOnly{sum}, &interruptible{ctx, d.f, d}, make([]byte, 1<<20)); err != nil {
		return true, fmt.Errorf("hub: %w", err)
	}
	to := io.MultiWriter(d.f, sum)
	switch {
	case size == d.file.Bytes && size > 0:
	case whole:
		err = d.stream(ctx, sum)
	default:
		err = d.chunks(ctx, to, size)
	}
	if err != nil {
		return size > 0, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != d.file.Hash() {
		return size > 0, &HashError{d.what, d.file.Hash(), got}
	}
	return size > 0, nil
}

type writerOnly struct{ io.Writer }

// interruptible reads the beginning of a content, until ctx ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
	d   *download
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := i.r.Read(p)
	i.d.count(int64(n))
	return n, err
}

// hash returns the hash that the repository has of the content.
func (d *download) hash() hash.Hash {
	if d.file.SHA256 != "" {
		return sha256.New()
	}
	h := sha1.New() // git's
	fmt.Fprintf(h, "blob %d\x00", d.file.Bytes)
	return h
}

func (d *download) count(n int64) {
	if n != 0 {
		d.mu.Lock()
		d.counted += n
		d.mu.Unlock()
		d.m.add(n)
	}
}

// A chunk is a part of the content, on its way.
type chunk struct {
	offset int64
	buffer []byte // of the client's
	want   int
	n      int // bytes that came
	err    error
	done   chan struct{}
}

// chunks fetches what follows offset, as chunks side by side, and writes it in order. Where it fails, what came without a gap
// is written.
func (d *download) chunks(ctx context.Context, to io.Writer, offset int64) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	pending := make(chan *chunk, maxChunks)
	go func() {
		defer close(pending)
		for first := true; offset < d.file.Bytes || first && d.file.Bytes == 0; first = false {
			var buffer []byte
			select {
			case <-within.Done():
				return
			case buffer = <-d.c.buffers:
			}
			if buffer == nil {
				buffer = make([]byte, d.c.chunk)
			}
			k := &chunk{offset: offset, buffer: buffer, want: int(min(d.file.Bytes-offset, d.c.chunk)), done: make(chan struct{})}
			offset += int64(k.want)
			go func() {
				defer close(k.done)
				k.err = d.fetchChunk(within, k)
			}()
			pending <- k // there is room: a chunk has a buffer
		}
	}()
	var failed error
	for k := range pending {
		<-k.done
		if failed == nil {
			if _, err := to.Write(k.buffer[:k.n]); err != nil {
				failed = fmt.Errorf("hub: %w", err)
			} else {
				failed = k.err
			}
			if failed != nil {
				cancel()
			}
		}
		d.c.buffers <- k.buffer
	}
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

// fetchChunk fills a chunk, with as many requests as it takes.
func (d *download) fetchChunk(ctx context.Context, k *chunk) error {
	return d.c.retry(ctx, func() (bool, error) {
		before := k.n
		resp, err := d.request(ctx, k.offset+int64(k.n), k.offset+int64(k.want))
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		for k.n < k.want {
			n, err := resp.Body.Read(k.buffer[k.n:k.want])
			k.n += n
			d.count(int64(n))
			if err == io.EOF && k.n < k.want {
				err = io.ErrUnexpectedEOF
			}
			if err != nil && k.n < k.want {
				return k.n > before, cut(d.what, err)
			}
		}
		return true, nil
	})
}

// request asks for bytes from..to-1 of the content, and returns an answer whose body begins with them.
func (d *download) request(ctx context.Context, from, to int64) (*http.Response, error) {
	address, tag, direct := d.source()
	h := http.Header{}
	part := from > 0 || to < d.file.Bytes
	if part {
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
		if tag != "" {
			h.Set("If-Range", tag)
		}
	}
	resp, err := d.c.get(ctx, d.what, address, h)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*http.Response, error) {
		resp.Body.Close()
		return nil, err
	}
	switch {
	case part && resp.StatusCode == http.StatusPartialContent:
		if start, end, total, ok := contentRange(resp.Header.Get("Content-Range")); !ok || start != from || end < start || total >= 0 && total != d.file.Bytes {
			return fail(fmt.Errorf("hub: %s: asked for bytes %d to %d of %d, the server gives %q", d.what, from, to-1, d.file.Bytes, clip(resp.Header.Get("Content-Range"))))
		}
	case part && resp.StatusCode == http.StatusOK && tag != "":
		return fail(errChanged)
	case part && resp.StatusCode == http.StatusOK:
		return fail(errNoRanges)
	case resp.StatusCode != http.StatusOK:
		err := statusError(d.what, resp)
		if direct && err.Status >= 400 && err.Status < 500 { // such addresses are valid for a while
			d.forget(address)
			return fail(&cutError{d.what, fmt.Errorf("the address that the server gave answers %d", err.Status)})
		}
		return fail(err)
	case resp.ContentLength >= 0 && resp.ContentLength != d.file.Bytes:
		return fail(fmt.Errorf("hub: %s: it has %d bytes, and the repository says %d", d.what, resp.ContentLength, d.file.Bytes))
	}
	if err := d.learn(resp); err != nil {
		return fail(err)
	}
	return resp, nil
}

// contentRange reads bytes START-END/TOTAL; total is -1 for *.
func contentRange(text string) (start, end, total int64, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes ")
	span, of, ok2 := strings.Cut(text, "/")
	first, last, ok3 := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total = -1
	var err3 error
	if of != "*" {
		total, err3 = strconv.ParseInt(of, 10, 64)
	}
	return start, end, total, ok && ok2 && ok3 && err == nil && err2 == nil && err3 == nil
}

// source is where to ask for the content, and what tag it has there.
func (d *download) source() (address, tag string, direct bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.direct != "" {
		return d.direct, d.tag, true
	}
	return d.address, d.tag, false
}

// learn remembers where the Hub's address led, so that it need not be asked for each chunk, and the content's tag.
func (d *download) learn(resp *http.Response) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.direct = resp.Request.URL.String()
	if d.direct == d.address {
		d.direct = ""
	}
	tag := resp.Header.Get("ETag")
	if d.anyTag || tag == "" || strings.HasPrefix(tag, "W/") {
		return nil
	}
	if d.tag != "" && tag != d.tag {
		return errChanged
	}
	d.tag = tag
	return nil
}

// forget has the next request ask the Hub again.
func (d *download) forget(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.direct == address {
		d.direct = ""
	}
}

// stream fetches the whole content by one request, from a server that gives no parts.
func (d *download) stream(ctx context.Context, sum hash.Hash) error {
	return d.c.retry(ctx, func() (bool, error) {
		d.count(-d.counted)
		sum.Reset()
		if d.file.SHA256 == "" {
			fmt.Fprintf(sum, "blob %d\x00", d.file.Bytes)
		}
		_, err := d.f.Seek(0, io.SeekStart)
		if err == nil {
			err = d.f.Truncate(0)
		}
		if err != nil {
			return false, fmt.Errorf("hub: %w", err)
		}
		resp, err := d.request(ctx, 0, d.file.Bytes)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		buffer := make([]byte, 1<<20)
		for left := d.file.Bytes; left > 0; {
			n, err := resp.Body.Read(buffer[:min(left, int64(len(buffer)))])
			d.count(int64(n))
			left -= int64(n)
			if _, err := io.MultiWriter(d.f, sum).Write(buffer[:n]); err != nil {
				return false, fmt.Errorf("hub: %w", err)
			}
			if err != nil && left > 0 {
				return false, cut(d.what, err)
			}
		}
		return false, nil
	})
}
