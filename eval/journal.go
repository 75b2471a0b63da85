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

// An Identity is what must be the same for answers to be put together: the model, and how it was asked.
type Identity struct {
	Model        string           `json:"model"` // its name, for people
	ModelSHA256  string           `json:"model_sha256"`
	DType        string           `json:"dtype"`
	KVType       string           `json:"kv_type"`
	KernelPath   string           `json:"kernel_path,omitempty"` // where one was forced
	LoRA         []string         `json:"lora,omitempty"`        // adapters, with their hashes
	Tasks        []string         `json:"tasks"`                 // as Select takes them
	NumShots     int              `json:"num_fewshot"`
	MaxLength    int              `json:"max_length"`
	Limit        float64          `json:"limit,omitempty"`
	Samples      map[string][]int `json:"samples,omitempty"`
	Split        string           `json:"ceval_split"`
	PromptStyle  string           `json:"prompt_style"` // "authors" or "harness"
	Shots        string           `json:"shots"`        // "file" or "official"
	ChatTemplate string           `json:"chat_template,omitempty"`
}

// differs names the first member in which two identities differ, "" if they are one.
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
		panic(err) // strings and numbers
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

// A JournalError is a journal that can't be gone on with.
type JournalError struct{ File, Msg string }

func (e *JournalError) Error() string { return fmt.Sprintf("eval: journal %s: %s", e.File, e.Msg) }

// A Journal keeps each answer on disk as soon as it is there: JSON lines, the first of which is the Identity. What a kill
// leaves is whole lines and at most one that is cut off, which the next Open drops. Its methods may be called concurrently.
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
	Seconds float64 `json:"seconds"` // that the answer took
}

// syncEvery bounds what a power failure can take. A kill takes nothing: a line is written at once.
const syncEvery = time.Second

// OpenJournal opens or begins the journal called name for the run that id names. It is a *JournalError if the file belongs to
// another run or is no journal, if another process writes it, or if it cannot be locked; the file is as it was then. A symbolic
// link is not followed. The caller closes the journal.
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
		return nil, &JournalError{name, "it is no regular file"}
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

// lockError is what an attempt to lock the journal called name means. Without a lock two processes would mix their lines.
func lockError(name string, err error) error {
	switch err {
	case nil:
		return nil
	case syscall.EWOULDBLOCK:
		return &JournalError{name, "another process is writing it"}
	}
	return &JournalError{name, fmt.Sprintf("it cannot be locked (%v): give an output path on a file system with locks", err)}
}

// resume takes in what the file holds, cuts off a last line that was not written to its end, and begins a file that is empty.
// It changes nothing before it has read all lines.
func (j *Journal) resume(id Identity) error {
	first, err := json.Marshal(id)
	if err != nil {
		return err
	}
	r := bufio.NewReader(j.file)
	var end int64 // of the last whole line
	for n := 1; ; n++ {
		line, err := readLine(r, maxLine)
		switch {
		case errors.Is(err, errLongLine):
			return &JournalError{j.name, fmt.Sprintf("line %d is longer than any of a journal", n)}
		case err != nil && err != io.EOF:
			return err
		case err == io.EOF && n > 1:
			return j.cut(end, len(line))
		case err == io.EOF && bytes.HasPrefix(first, line): // a new file, or the first line was not written to its end
			if err := j.cut(0, len(line)); err != nil {
				return err
			}
			return j.write(first)
		case err == io.EOF:
			return &JournalError{j.name, "it is no journal, or its only line was cut off: remove it, or give another output path"}
		case n == 1:
			if err := j.checkFirst(line, id); err != nil {
				return err
			}
		default:
			var e Entry
			if json.Unmarshal(line, &e) != nil || e.ID == "" {
				return &JournalError{j.name, fmt.Sprintf("line %d is no answer: remove the line, or give another output path", n)}
			}
			j.known[answerKey{e.Task, e.ID}] = e
		}
		end += int64(len(line))
	}
}

// checkFirst compares the first line with the run that is to go on.
func (j *Journal) checkFirst(line []byte, id Identity) error {
	var was Identity
	if json.Unmarshal(line, &was) != nil || was.ModelSHA256 == "" {
		return &JournalError{j.name, "it is no journal: the first line describes no evaluation"}
	}
	if diff := was.differs(id); diff != "" {
		return &JournalError{j.name, "it is of another run, " + diff + ": give another output path, or remove it"}
	}
	return nil
}

// cut removes the n bytes that follow the last whole line.
func (j *Journal) cut(end int64, n int) error {
	if n == 0 {
		return nil
	}
	return j.file.Truncate(end)
}

// maxLine bounds a line. The longest are first ones that list questions one by one.
const maxLine = 16 << 20

var errLongLine = errors.New("the line is too long")

// readLine reads a line with its end, and what there is of a last line without one beside io.EOF. More than limit bytes are
// errLongLine.
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

// find returns the answer to a question that is asked exactly as it was then.
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

// Close writes what the system holds back to the disk.
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
