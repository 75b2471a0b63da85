package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pumice/chat"
	"pumice/internal/humanize"
	"pumice/internal/regular"
)

// stateDir is the folder for what a person would miss: $XDG_STATE_HOME/pumice or ~/.local/state/pumice. It need not exist.
func stateDir() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "pumice"), nil
}

// An archive is a folder with conversations, each a file of messages as /save writes them, named by the time of its beginning.
// Nobody but the owner can read them.
type archive struct{ dir string }

// maxKept is how many conversations an archive keeps; the oldest are removed.
const maxKept = 500

// A kept conversation is a file of an archive.
type kept struct {
	file     string
	changed  time.Time
	messages []chat.Message
}

const keptName = "20060102T150405.000000000"

// write writes a conversation to a file, a new one for "", and returns the file.
func (a *archive) write(file string, messages []chat.Message) (string, error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return file, err
	}
	if file == "" {
		file = filepath.Join(a.dir, time.Now().UTC().Format(keptName)+".json")
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // a replaced file keeps its permissions
		if err != nil {
			return "", err
		}
		f.Close()
		a.prune()
	}
	return file, writeMessages(file, messages)
}

// files lists the files, the newest beginning first.
func (a *archive) files() []string {
	files, _ := filepath.Glob(filepath.Join(a.dir, "*.json"))
	slices.Sort(files)
	slices.Reverse(files)
	return files
}

func (a *archive) prune() {
	files := a.files()
	for _, f := range files[min(len(files), maxKept):] {
		os.Remove(f)
	}
}

// find returns the conversations that have a text in any message, the one that was changed last first. Files that can't be read are left
// out.
func (a *archive) find(text string) (found []kept) {
	text = strings.ToLower(text)
	for _, file := range a.files() {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		messages, err := readMessagesFile(file)
		if err != nil || !slices.ContainsFunc(messages, func(m chat.Message) bool { return strings.Contains(strings.ToLower(m.Content), text) }) {
			continue
		}
		found = append(found, kept{file, info.ModTime(), messages})
	}
	slices.SortStableFunc(found, func(a, b kept) int { return b.changed.Compare(a.changed) })
	return found
}

// keep writes the current conversation to the archive. An error is said once.
func (r *repl) keep() {
	t := r.talk
	if r.saved == nil || len(t.messages) == 0 {
		return
	}
	var err error
	if t.file, err = r.saved.write(t.file, t.messages); err != nil {
		r.p.complain(fmt.Errorf("conversations are not kept any more: %w", err))
		r.saved = nil
	}
}

// mostListed is how many conversations /resume lists.
const mostListed = 20

// resume is /resume.
func (r *repl) resume(argument string) error {
	if r.saved == nil {
		return errors.New("conversations are not kept (--no-history)")
	}
	if n, err := strconv.Atoi(argument); err == nil {
		if n < 1 || n > len(r.listed) {
			return fmt.Errorf("/resume %d: /resume alone lists the conversations, and TEXT those that have it", n)
		}
		return r.continued(r.listed[n-1])
	}
	r.listed = r.saved.find(argument)
	if len(r.listed) == 0 {
		return errors.New("there is no such conversation")
	}
	for i, k := range r.listed[:min(len(r.listed), mostListed)] {
		about := ""
		if n := slices.IndexFunc(k.messages, func(m chat.Message) bool { return m.Role == "user" }); n >= 0 {
			about = cut(beginning(k.messages[n].Content, 40), 38)
		}
		if err := r.printf("%3d  %s  %-12s  %s\n", i+1, k.changed.Format("2006-01-02 15:04"), counted(len(k.messages), "message"), about); err != nil {
			return err
		}
	}
	if n := len(r.listed) - mostListed; n > 0 {
		r.say("(%d more; /resume TEXT lists those that have TEXT)", n)
	}
	r.say("/resume N continues one")
	return nil
}

// resumeLast continues the conversation that was changed last.
func (r *repl) resumeLast() error {
	if r.saved == nil {
		return errors.New("--resume: conversations are not kept (--no-history)")
	}
	found := r.saved.find("")
	if len(found) == 0 {
		return errors.New("--resume: there is no earlier conversation")
	}
	return r.continued(found[0])
}

// continued continues a conversation of the archive, in the place of an empty one or beside others.
func (r *repl) continued(k kept) error {
	for _, t := range r.talks {
		if t.file == k.file {
			return r.enter(t)
		}
	}
	if err := r.check(k.messages); err != nil {
		return err
	}
	if r.talk.lastQuestion() >= 0 {
		r.begin("")
	}
	r.talk.messages, r.talk.file = k.messages, k.file
	r.say("conversation %s continues: %s", r.talk.label(), counted(len(k.messages), "message"))
	return r.enter(r.talk)
}

// maxAttached bounds a file that a message has with @.
const maxAttached = 256 << 10

// attachment is a name behind an @ at the beginning of a word. A backslash stands before a space in it.
var attachment = regexp.MustCompile(`(?:^|\s)@((?:\\ |\S)+)`)

// attach returns a message with the texts of the files that it names with @. What is no file stays as it is.
func (r *repl) attach(text string) (string, error) {
	var files strings.Builder
	for _, found := range attachment.FindAllStringSubmatch(text, -1) {
		name := strings.ReplaceAll(found[1], `\ `, " ")
		content, err := regular.ReadFile(atHome(name), maxAttached)
		if errors.Is(err, fs.ErrNotExist) {
			trimmed := strings.TrimRight(name, sentenceEnds)
			if content, err = regular.ReadFile(atHome(trimmed), maxAttached); err == nil {
				name = trimmed
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.say("(there is no file %s: it is sent as text)", name)
			continue
		case err != nil:
			return "", fmt.Errorf("@%s: %w", name, err)
		case !isText(content):
			return "", fmt.Errorf("@%s: not a text file", name)
		}
		fence := "```"
		for strings.Contains(string(content), fence) {
			fence += "`"
		}
		fmt.Fprintf(&files, "%s%s\n%s\n%s", attachedHead(name), fence, strings.TrimSuffix(string(content), "\n"), fence)
		r.say("(%s is attached: %s)", name, humanize.Bytes(int64(len(content))))
	}
	return text + files.String(), nil
}

func attachedHead(name string) string { return "\n\nFile " + name + ":\n\n" }

// withoutFiles is what was typed of a message that attach has returned.
func withoutFiles(message string) string {
	end := len(message)
	for _, found := range attachment.FindAllStringSubmatch(message, -1) {
		name := strings.ReplaceAll(found[1], `\ `, " ")
		for _, n := range []string{name, strings.TrimRight(name, sentenceEnds)} {
			if at := strings.Index(message, attachedHead(n)+"```"); at >= 0 {
				end = min(end, at)
			}
		}
	}
	return message[:end]
}

// sentenceEnds may stand behind a file's name.
const sentenceEnds = ".,;:!?)"
