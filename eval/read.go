package eval

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"pumice/internal/regular"
)

// A Problem reports an error in a data file. The questions that it affects are left out.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0 if no line can be named
	Msg  string `json:"message"`
}

func (p *Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("eval: %s: %s", p.File, p.Msg)
	}
	return fmt.Sprintf("eval: %s:%d: %s", p.File, p.Line, p.Msg)
}

// Bounds of the memory for reading a file. The longest line of the five benchmarks has 60 kB, the largest file 2 MB.
const (
	maxLineBytes   = 16 << 20
	maxRecordBytes = 32 << 20 // of a CSV record, whose cells may contain line ends
	maxFileBytes   = 64 << 20 // of a file with one JSON value
)

// A source reads one file and reports its problems.
type source struct {
	data *Data
	file string
}

// problem reports an error in the file. It returns an error if reading must stop.
func (s *source) problem(line int, format string, args ...any) error {
	p := Problem{s.file, line, fmt.Sprintf(format, args...)}
	if s.data.Strict {
		return &p
	}
	s.data.Problems = append(s.data.Problems, p)
	return nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// lines calls each with the lines of the file that are valid UTF-8 and not blank, without their ends. n counts all
// lines from 1, and i those that are not blank from 0. A line is valid until each returns.
func (s *source) lines(each func(n, i int, line []byte) error) error {
	f, err := regular.Open(s.file)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	var line []byte
	for n, i := 1, -1; ; n++ {
		line = line[:0]
		length := 0
		var chunk []byte
		for err = bufio.ErrBufferFull; err == bufio.ErrBufferFull; {
			chunk, err = r.ReadSlice('\n')
			length += len(chunk)
			if length <= maxLineBytes {
				line = append(line, chunk...)
			}
		}
		if err != nil && err != io.EOF {
			return err
		}
		end := err == io.EOF
		if n == 1 {
			line = bytes.TrimPrefix(line, byteOrderMark)
		}
		blank := length <= maxLineBytes && trim(string(line)) == ""
		if !blank {
			i++
		}
		switch {
		case blank:
			err = nil
		case length > maxLineBytes:
			err = s.problem(n, "the line has %d bytes, at most %d are read", length, maxLineBytes)
		case !utf8.Valid(line):
			err = s.problem(n, "invalid UTF-8")
		default:
			err = each(n, i, bytes.TrimRight(line, "\r\n"))
		}
		if err != nil || end {
			return err
		}
	}
}

// rows calls each with the records of a CSV file that are valid UTF-8 (RFC 4180, but quotes inside bare fields are
// allowed). i counts all records from 0, and line is the number of the record's first line. A record is valid until
// each returns.
func (s *source) rows(each func(i, line int, record []string) error) error {
	f, err := regular.Open(s.file)
	if err != nil {
		return err
	}
	defer f.Close()
	guard := &lineGuard{r: bufio.NewReaderSize(f, 1<<16)}
	if mark, _ := guard.r.Peek(len(byteOrderMark)); bytes.Equal(mark, byteOrderMark) {
		guard.r.Discard(len(byteOrderMark))
	}
	r := csv.NewReader(guard)
	r.LazyQuotes = true
	r.FieldsPerRecord = -1
	last := 0
	for i := 0; ; i++ {
		guard.record = 0
		record, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, errRecord) {
			return s.problem(last+1, "the record after this line has over %d bytes: is a quote not closed? "+
				"The rest of the file is not read", maxRecordBytes)
		}
		if err != nil {
			return err
		}
		line, _ := r.FieldPos(0)
		last, _ = r.FieldPos(len(record) - 1)
		switch bad := firstInvalid(record); {
		case bad < 0:
			err = each(i, line, record)
		case bytes.Contains([]byte(record[bad]), []byte(cutMark)):
			err = s.problem(line, "the record has a line of over %d bytes", maxLineBytes)
		default:
			err = s.problem(line, "invalid UTF-8 in column %d", bad+1)
		}
		if err != nil {
			return err
		}
	}
}

// firstInvalid returns the index of the first cell that is not UTF-8, or -1.
func firstInvalid(record []string) int {
	for i, cell := range record {
		if !utf8.ValidString(cell) {
			return i
		}
	}
	return -1
}

// A lineGuard reads from r. It replaces the rest of a line that is too long by cutMark.
type lineGuard struct {
	r       *bufio.Reader
	pending []byte // bytes of r's buffer, or cutMark, not yet returned
	line    int    // bytes of the line read
	quotes  int    // quotes in the dropped bytes of the line
	record  int    // bytes returned since the caller set it to 0
}

// cutMark replaces the rest of a line. It is not valid UTF-8, so that a record with it is not accepted as complete.
const cutMark = "\xff\xfe<cut>\xff\xfe"

var errRecord = errors.New("record too long")

func (g *lineGuard) Read(p []byte) (int, error) {
	if len(g.pending) == 0 {
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.pending)
	g.pending = g.pending[n:]
	if g.record += n; g.record > maxRecordBytes {
		return 0, errRecord
	}
	return n, nil
}

// fill sets pending to the next bytes.
func (g *lineGuard) fill() error {
	for {
		chunk, err := g.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && (err != io.EOF || len(chunk) == 0) {
			return err
		}
		before := g.line
		g.line += len(chunk)
		ended := err == nil
		if ended {
			g.line = 0
		}
		if before+len(chunk) <= maxLineBytes {
			g.pending = chunk
			return nil
		}
		g.pending = nil
		if before <= maxLineBytes {
			g.pending = []byte(cutMark)
			g.quotes = 0
		}
		g.quotes += bytes.Count(chunk, []byte{'"'})
		if ended {
			if g.quotes%2 != 0 { // the dropped bytes close a cell
				g.pending = append(g.pending, '"')
			}
			g.pending = append(g.pending, '\n')
		}
		if len(g.pending) > 0 {
			return nil
		}
	}
}

// whole returns the contents of a file with one value, or nil if there is a problem with it.
func (s *source) whole() ([]byte, error) {
	f, err := regular.Open(s.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, s.problem(1, "the file has over %d bytes", maxFileBytes)
	}
	if !utf8.Valid(text) {
		at := 0
		for at < len(text) {
			r, n := utf8.DecodeRune(text[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return nil, s.problem(1+bytes.Count(text[:at], []byte("\n")), "invalid UTF-8")
	}
	return bytes.TrimPrefix(text, byteOrderMark), nil
}
