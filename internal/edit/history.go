package edit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// MaxHistory is how many messages a History keeps.
const MaxHistory = 1000

// maxHistoryBytes bounds what is read of the file, and the length of a message that it keeps.
const maxHistoryBytes = 16 << 20

// A History is the messages that were entered, the oldest first. Its file has each as a JSON string in a line of its own, so
// that messages of several lines come back whole. Programs that run at the same time add to one file.
type History struct {
	file     string // "" keeps none
	messages []string
}

// OpenHistory reads a history. Without a file it begins empty; "" keeps none.
func OpenHistory(file string) (*History, error) {
	h := &History{file: file}
	if file == "" {
		return h, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxHistoryBytes))
	for _, line := range bytes.Split(text, []byte("\n")) {
		var message string
		if json.Unmarshal(line, &message) == nil { // another program's line may be cut off at the limit
			h.remember(message)
		}
	}
	return h, err
}

// remember adds a message in memory, unless it is the last one already.
func (h *History) remember(message string) bool {
	if n := len(h.messages); strings.TrimSpace(message) == "" || n > 0 && h.messages[n-1] == message {
		return false
	}
	h.messages = append(h.messages, message)
	h.messages = h.messages[max(0, len(h.messages)-MaxHistory):]
	return true
}

// Add adds a message, in the file too. Nobody but its owner can read the file.
func (h *History) Add(message string) error {
	if !h.remember(message) || h.file == "" || len(message) > maxHistoryBytes/MaxHistory {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(h.file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // which ends the lock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return shorten(f)
}

// shorten removes the oldest lines from a file that has far more than are read.
func shorten(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() < maxHistoryBytes/4 {
		return err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	kept := bytes.Join(lines[max(0, len(lines)-1-MaxHistory):], nil)
	for len(kept) > maxHistoryBytes/8 { // of long messages fewer
		_, kept, _ = bytes.Cut(kept, []byte("\n"))
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.Write(kept)
	return err
}

// Len returns how many messages there are.
func (h *History) Len() int { return len(h.messages) }

// At returns message i, from 0 for the oldest.
func (h *History) At(i int) string { return h.messages[i] }

// Search returns the index of the newest message below index before that has text in it, -1 if none has. Case matters only if
// text has capital letters.
func (h *History) Search(text string, before int) int {
	fold := strings.ToLower(text) == text
	for i := min(before, len(h.messages)) - 1; i >= 0; i-- {
		message := h.messages[i]
		if fold {
			message = strings.ToLower(message)
		}
		if strings.Contains(message, text) {
			return i
		}
	}
	return -1
}
