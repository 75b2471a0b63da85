package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// An Identity describes the model of an evaluation and how it is asked. Answers can be merged only if their identities
// are the same.
type Identity struct {
	Model        string           `json:"model"` // its name, for people
	ModelSHA256  string           `json:"model_sha256"`
	DType        string           `json:"dtype"`
	KVType       string           `json:"kv_type"`
	KernelPath   string           `json:"kernel_path,omitempty"` // if one was forced
	LoRA         []string         `json:"lora,omitempty"`        // adapters, with their hashes
	Tasks        []string         `json:"tasks"`                 // arguments of Select
	NumShots     int              `json:"num_fewshot"`
	MaxLength    int              `json:"max_length"`
	Limit        float64          `json:"limit,omitempty"`
	Samples      map[string][]int `json:"samples,omitempty"`
	Split        string           `json:"ceval_split"`
	PromptStyle  string           `json:"prompt_style"` // "authors" or "harness"
	Shots        string           `json:"shots"`        // "file" or "official"
	ChatTemplate string           `json:"chat_template,omitempty"`
}

// differs describes the first member in which two identities differ, and returns "" if they are equal.
func (id Identity) differs(other Identity) string {
	a, b := id.members(), other.members()
	for _, key := range identityKeys {
		if !bytes.Equal(a[key], b[key]) {
			return fmt.Sprintf("%s is %s, was %s", key, orNone(b[key]), orNone(a[key]))
		}
	}
	return ""
}

var identityKeys = []string{"model_sha256", "dtype", "kv_type", "kernel_path", "lora", "tasks", "num_fewshot", "max_length", "limit", "samples",
	"ceval_split", "prompt_style", "shots", "chat_template"}

func (id Identity) members() map[string]json.RawMessage {
	text, err := json.Marshal(id)
	if err != nil {
		panic(err) // can't happen with strings and numbers
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	return out
}

func orNone(v json.RawMessage) string {
	if v == nil {
		return "not given"
	}
	return string(v)
}

// A JournalError says why an evaluation can't continue a journal.
type JournalError struct{ File, Msg string }

func (e *JournalError) Error() string { return fmt.Sprintf("eval: journal %s: %s", e.File, e.Msg) }

// A Journal writes each answer to disk at once, as JSON lines after a first line with the Identity. If the process is
// killed, the file has whole lines and at most one incomplete last line, which the next OpenJournal drops. A Journal
// is safe for concurrent use.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	name   string
	synced time.Time
	known  map[answerKey]Entry
}

type answerKey struct{ task, id string }

// An Entry is a line of a journal.
type Entry struct {
	Answer
	Seconds float64 `json:"seconds"` // time that the answer took
}

// syncEvery bounds how many answers a power failure can lose. A kill loses none: each line is written at once.
const syncEvery = time.Second

// OpenJournal opens or creates the journal name for the evaluation id. The error is a *JournalError, and the file is
// not changed, if the file belongs to another evaluation or is not a journal, if another process writes it, or if it
// can't be locked. Symbolic links are not followed. The caller closes the journal.
func OpenJournal(name string, id Identity) (j *Journal, err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o666)
	if errors.Is(err, syscall.ELOOP) {
		return nil, &JournalError{name, "it is a symbolic link"}
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &JournalError{name, "it is not a regular file"}
	}
	if err := lockError(name, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)); err != nil {
		return nil, err
	}
	j = &Journal{file: f, name: name, known: map[answerKey]Entry{}}
	if err := j.resume(id); err != nil {
		return nil, err
	}
	return j, j.sync()
}

// lockError converts the error of locking the journal name. Without a lock two processes could mix their lines.
func lockError(name string, err error) error {
	switch err {
	case nil:
		return nil
	case syscall.EWOULDBLOCK:
		return &JournalError{name, "another process is writing it"}
	}
	msg := fmt.Sprintf("it can't be locked (%v): give an output path on a file system with locks", err)
	return &JournalError{name, msg}
}

// resume reads the entries of the file, removes an incomplete last line, and writes the first line of an empty file.
// It changes nothing before it has read all lines.
func (j *Journal) resume(id Identity) error {
	first, err := json.Marshal(id)
	if err != nil {
		return err
	}
	r := bufio.NewReader(j.file)
	var end int64 // end of the last whole line
	for n := 1; ; n++ {
		line, err := readLine(r, maxLine)
		switch {
		case errors.Is(err, errLongLine):
			return &JournalError{j.name, fmt.Sprintf("line %d is longer than any line of a journal", n)}
		case err != nil && err != io.EOF:
			return err
		case err == io.EOF && n > 1:
			return j.cut(end, len(line))
		case err == io.EOF && bytes.HasPrefix(first, line): // a new file, or an incomplete first line
			if err := j.cut(0, len(line)); err != nil {
				return err
			}
			return j.write(first)
		case err == io.EOF:
			return &JournalError{j.name, "it is not a journal, or its only line is incomplete: " +
				"remove it, or give another output path"}
		case n == 1:
			if err := j.checkFirst(line, id); err != nil {
				return err
			}
		default:
			var e Entry
			if json.Unmarshal(line, &e) != nil || e.ID == "" {
				msg := fmt.Sprintf("line %d is not an answer: remove the line, or give another output path", n)
				return &JournalError{j.name, msg}
			}
			j.known[answerKey{e.Task, e.ID}] = e
		}
		end += int64(len(line))
	}
}

// checkFirst compares the first line with the evaluation to continue.
func (j *Journal) checkFirst(line []byte, id Identity) error {
	var was Identity
	if json.Unmarshal(line, &was) != nil || was.ModelSHA256 == "" {
		return &JournalError{j.name, "it is not a journal: the first line does not describe an evaluation"}
	}
	if diff := was.differs(id); diff != "" {
		return &JournalError{j.name, "it belongs to another evaluation, " + diff +
			": give another output path, or remove it"}
	}
	return nil
}

// cut removes the n bytes after the last whole line.
func (j *Journal) cut(end int64, n int) error {
	if n == 0 {
		return nil
	}
	return j.file.Truncate(end)
}

// maxLine bounds a line. The longest are first lines that list questions one by one.
const maxLine = 16 << 20

var errLongLine = errors.New("the line is too long")

// readLine reads a line with its end. A last line without an end is returned with io.EOF. If a line has more than
// limit bytes, the error is errLongLine.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return nil, errLongLine
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// find returns the answer to a question, if the journal has one to exactly the same prompt.
func (j *Journal) find(r *Request) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.known[answerKey{r.Task.Name, r.Doc.ID}]
	ok = ok && e.PromptSHA256 == r.PromptSHA256 && e.IDsSHA256 == r.IDsSHA256 && e.Gold == r.Doc.Gold && len(e.LogProbs) == r.Doc.N
	return e, ok
}

// add appends an answer.
func (j *Journal) add(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.known[answerKey{e.Task, e.ID}] = e
	if err := j.line(e); err != nil {
		return err
	}
	if time.Since(j.synced) < syncEvery {
		return nil
	}
	return j.sync()
}

func (j *Journal) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return j.write(text)
}

func (j *Journal) write(line []byte) error {
	_, err := j.file.Write(append(line, '\n'))
	return err
}

func (j *Journal) sync() error {
	j.synced = time.Now()
	return j.file.Sync()
}

// Close syncs the file to disk and closes it.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := errors.Join(j.sync(), j.file.Close())
	j.file = nil
	return err
}
