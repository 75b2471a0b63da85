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
// another run, or if another process writes it. The caller closes the journal.
func OpenJournal(name string, id Identity) (j *Journal, err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &JournalError{name, "another process is writing it"}
	}
	j = &Journal{file: f, name: name, known: map[answerKey]Entry{}}
	end, begun, err := j.read(id)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(end); err != nil {
		return nil, err
	}
	if !begun {
		if err := j.line(id); err != nil {
			return nil, err
		}
	}
	return j, j.sync()
}

// read takes in what the file holds, and returns where its last whole line ends.
func (j *Journal) read(id Identity) (end int64, begun bool, err error) {
	r := bufio.NewReader(j.file)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return end, begun, nil // a line without an end was cut off
		}
		if err != nil {
			return 0, false, err
		}
		if n == 1 {
			var was Identity
			if json.Unmarshal(line, &was) != nil || was.ModelSHA256 == "" {
				return 0, false, &JournalError{j.name, "the first line says of no run"}
			}
			if diff := was.differs(id); diff != "" {
				return 0, false, &JournalError{j.name, "it is of another run, " + diff + ": give another output path, or remove it"}
			}
			begun = true
		} else {
			var e Entry
			if json.Unmarshal(line, &e) != nil || e.ID == "" {
				return end, begun, nil // what a crash of the machine left behind
			}
			j.known[answerKey{e.Task, e.ID}] = e
		}
		end += int64(len(line))
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
	_, err = j.file.Write(append(text, '\n'))
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
