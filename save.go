package pumice

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"pumice/model/pages"
)

// A saved text is a line of JSON, a savedHeader; the token ids, four bytes each, and their checksum; and what the header
// counts of pages. A page is 4 bytes for its layer group, 4 for the position of its first row, 4 for its rows, its bytes, and
// the checksum of all that. Checksums are CRC-32 (Castagnoli). All numbers are little-endian.
const savedFormat = "pumice-kv-1"

type savedHeader struct {
	Format string `json:"format"`
	Model  string `json:"model"` // model.Model.Fingerprint
	Tokens int    `json:"tokens"`
	Pages  int    `json:"pages"`
}

// maxSavedHeader bounds the first line of a file.
const maxSavedHeader = 4 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A SavedError says what is wrong with a file that Restore reads.
type SavedError struct {
	Offset int64 // of what is wrong
	What   string
}

func (e *SavedError) Error() string {
	return fmt.Sprintf("pumice: a saved session: byte %d: %s", e.Offset, e.What)
}

// errPagesTaken says that other sessions needed the pages.
var errPagesTaken = errors.New("pumice: other sessions have taken the pages while they were saved")

// Save writes the keys and values of the session's text, the last prompt and its answer, as far as the KV cache still has
// them. Restore gives them back to any Engine with the same model, weights, adapters and type of the KV cache. It returns the
// number of tokens. Other sessions go on meanwhile.
func (s *Session) Save(ctx context.Context, w io.Writer) (tokens int, err error) {
	if err := s.use(); err != nil {
		return 0, err
	}
	text := s.text
	defer func() { s.free(text) }()
	x := s.engine.work
	var extents []pages.Extent
	err = x.alone(ctx, s, func(ctx context.Context) error {
		if err := x.resume(&job{ctx: ctx, s: s, tokens: text, what: evaluation{from: len(text)}}); err != nil {
			return err
		}
		q := s.hold.sequence
		tokens = q.Len()
		extents, err = q.Export()
		return err
	})
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriter(w)
	header, err := json.Marshal(savedHeader{savedFormat, x.model.Fingerprint(), tokens, len(extents)})
	if err != nil {
		return 0, err
	}
	out.Write(append(header, '\n'))
	var b []byte
	for _, id := range text[:tokens] {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	out.Write(binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))) // a bufio.Writer keeps its first error for Flush
	for _, e := range extents {
		b = binary.LittleEndian.AppendUint32(b[:0], uint32(e.Group))
		b = binary.LittleEndian.AppendUint32(b, uint32(e.First))
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Rows))
		page := make([]byte, x.model.PageBytes(e.Group))
		err := x.alone(ctx, s, func(ctx context.Context) error {
			if q := s.hold.sequence; q == nil || q.Len() < tokens {
				return errPagesTaken
			}
			return x.model.ReadPage(ctx, e, page)
		})
		if err != nil {
			return 0, err
		}
		b = append(b, page...)
		if _, err := out.Write(binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))); err != nil {
			return 0, err
		}
	}
	return tokens, out.Flush()
}

// Restore reads what Save has written, into the KV cache, and makes it the session's text. It returns the tokens: a prompt
// that begins with them evaluates only what follows. A *SavedError says what is wrong with the file; nothing of it is in the
// cache then.
func (s *Session) Restore(ctx context.Context, r io.Reader) (tokens []int, err error) {
	if err := s.use(); err != nil {
		return nil, err
	}
	defer func() { s.free(tokens) }()
	in := &savedReader{in: bufio.NewReaderSize(r, maxSavedHeader)}
	header, err := in.header()
	if err != nil {
		return nil, err
	}
	x := s.engine.work
	switch {
	case header.Model != x.model.Fingerprint():
		return nil, in.wrong("it is of another model, or of one with other weights, adapters or another KV cache")
	case header.Tokens < 0 || header.Tokens > s.engine.context:
		return nil, in.wrong(fmt.Sprintf("%d tokens; the context holds %d", header.Tokens, s.engine.context))
	case header.Pages < 0 || header.Pages > 2*(header.Tokens+1):
		return nil, in.wrong(fmt.Sprintf("%d pages of %d tokens", header.Pages, header.Tokens))
	}
	text, err := in.tokens(header.Tokens, s.engine.vocab)
	if err != nil {
		return nil, err
	}
	err = s.fill(ctx, text, func(missing []pages.Extent) error {
		for range header.Pages {
			e, page, err := in.page(x.model.PageBytes)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(missing, func(m pages.Extent) bool {
				return m.Group == e.Group && m.First == e.First && m.Rows == e.Rows
			})
			if at < 0 {
				continue // the cache has it
			}
			if err := s.writePage(ctx, missing[at], page); err != nil {
				return err
			}
			missing = slices.Delete(missing, at, at+1)
		}
		if len(missing) > 0 {
			return in.wrong(fmt.Sprintf("no page of the %s layers has position %d", missing[0].Group, missing[0].First))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.limit = -1
	return text, nil
}

// fill brings a text's keys and values into the cache: write does it for the pages that the cache lacks, by writePage. Until all
// are there nobody finds any of them. The session, which is in use, holds nothing afterwards.
func (s *Session) fill(ctx context.Context, text []int, write func(missing []pages.Extent) error) error {
	x := s.engine.work
	release := func() {
		if q := s.hold.sequence; q != nil {
			q.Release()
		}
		s.hold = hold{}
	}
	var missing []pages.Extent
	err := x.alone(ctx, s, func(ctx context.Context) error {
		release()
		q, extents, err := x.model.Pages().Import(ctx, text, pages.Batched)
		s.hold.sequence, missing = q, extents
		if len(missing) == 0 {
			release()
		}
		return err
	})
	if err != nil {
		return err
	}
	none := len(missing) == 0
	if err = write(missing); none {
		return err
	}
	return errors.Join(err, x.alone(context.WithoutCancel(ctx), s, func(context.Context) error {
		defer release()
		if err != nil {
			return nil
		}
		q := s.hold.sequence
		if q == nil {
			return errPagesTaken
		}
		return q.Commit(text[q.Len():]...)
	}))
}

// writePage writes a page while the session fills the cache.
func (s *Session) writePage(ctx context.Context, e pages.Extent, page []byte) error {
	x := s.engine.work
	return x.alone(ctx, s, func(ctx context.Context) error {
		if s.hold.sequence == nil {
			return errPagesTaken
		}
		return x.model.WritePage(ctx, e, page)
	})
}

// A savedReader reads what Save has written.
type savedReader struct {
	in *bufio.Reader
	at int64
}

func (r *savedReader) wrong(what string) error { return &SavedError{r.at, what} }

// read fills b.
func (r *savedReader) read(b []byte) error {
	n, err := io.ReadFull(r.in, b)
	r.at += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return r.wrong("the file ends too early")
	}
	return err
}

func (r *savedReader) header() (h savedHeader, err error) {
	line, err := r.in.ReadSlice('\n')
	if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
		return h, err
	}
	if err != nil || json.Unmarshal(line, &h) != nil || h.Format != savedFormat {
		return h, r.wrong("the first line is not the header of a saved session")
	}
	r.at += int64(len(line))
	return h, nil
}

func (r *savedReader) tokens(n, vocab int) ([]int, error) {
	b := make([]byte, 4*n+4)
	if err := r.read(b); err != nil {
		return nil, err
	}
	if crc32.Checksum(b[:4*n], castagnoli) != binary.LittleEndian.Uint32(b[4*n:]) {
		return nil, r.wrong("the token ids before it are damaged: their checksum differs")
	}
	text := make([]int, n)
	for i := range text {
		if text[i] = int(binary.LittleEndian.Uint32(b[4*i:])); text[i] >= vocab {
			return nil, r.wrong(fmt.Sprintf("token %d is %d, the vocabulary has ids 0 to %d", i, text[i], vocab-1))
		}
	}
	return text, nil
}

func (r *savedReader) page(size func(pages.Group) int64) (e pages.Extent, page []byte, err error) {
	head := make([]byte, 12)
	if err := r.read(head); err != nil {
		return e, nil, err
	}
	group := binary.LittleEndian.Uint32(head)
	if group >= pages.Groups {
		return e, nil, r.wrong(fmt.Sprintf("layer group %d", group))
	}
	e = pages.Extent{Group: pages.Group(group), First: int(binary.LittleEndian.Uint32(head[4:])), Rows: int(binary.LittleEndian.Uint32(head[8:]))}
	rest := make([]byte, size(e.Group)+4)
	if err := r.read(rest); err != nil {
		return e, nil, err
	}
	page = rest[:len(rest)-4]
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, page)
	if sum != binary.LittleEndian.Uint32(rest[len(page):]) {
		return e, nil, r.wrong("the page before it is damaged: its checksum differs")
	}
	return e, page, nil
}
