package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"pumice/internal/edit"
	"pumice/internal/markdown"
	"pumice/internal/screen"
)

const quotes = `"""`

// A console is a terminal with a person at it, for a conversation. They type at the bottom of the screen, where history, search
// and completion help them; all that the program writes goes above. What they type while an answer is written waits for
// its turn.
//
// Keys come in a goroutine of the console; the other methods are called by one goroutine, besides print.
type console struct {
	in      *os.File
	out     *stream
	history *edit.History

	mu            sync.Mutex
	changed       sync.Cond // something came that a method waits for
	screen        *screen.Screen
	width, height int
	state         *term.State // of the terminal before

	buffer  edit.Buffer
	asking  bool     // message waits
	prompt  string   // of the message asked for
	queue   []string // entered, and not yet asked for
	ended   error    // why no more messages come
	dropped bool     // Ctrl-C dropped what was typed

	recalled  int     // the message of the history that is shown; its length: none
	draft     string  // what was typed before one was shown
	search    *search // nil: none
	hint      []string
	leaving   bool     // Ctrl-C was the last key, with nothing typed
	suspended bool     // nothing is drawn
	unseen    []string // rows to draw after that
	complete  func(before string) completion

	stop    func() // ends the work under way, nil if there is none
	early   bool   // Ctrl-C was pressed since the last message, before any work
	answer  *markdown.Stream
	working string // what is under way
	ticks   int    // for the spinner
	drawn   time.Time
	stale   bool   // there is more of the answer than is drawn
	partial string // written, and not yet a whole line

	close func()
}

// A search is for a message of the history.
type search struct {
	text  string
	at    int    // the message found, -1: none
	draft string // what was typed before
}

// A completion is what may stand in the place of the last bytes before the cursor.
type completion struct {
	bytes int
	texts []string
}

// openConsole begins to read keys. The terminal passes what is typed as it is, until Close, which gives it the state.
func (p *program) openConsole(state *term.State, history *edit.History) (*console, error) {
	c := &console{in: p.stdin, out: p.stdout, state: state, history: history, recalled: history.Len()}
	c.changed.L = &c.mu
	if _, err := term.MakeRaw(int(c.in.Fd())); err != nil || state == nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	c.measure()
	p.stdout.flush()
	c.screen = screen.New(p.stdout.file, c.width, reflows())
	fmt.Fprint(p.stdout.file, "\x1b[?2004h")
	p.stdout.attach(c)
	if p.stderr.terminal {
		p.stderr.attach(c)
	}

	changes := make(chan os.Signal, 4)
	signal.Notify(changes, syscall.SIGWINCH, syscall.SIGCONT, os.Interrupt)
	keys := make(chan []byte)
	done := make(chan struct{})
	in := p.input("-")
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := in.Read(b)
			if n > 0 {
				select {
				case keys <- append([]byte(nil), b[:n]...):
				case <-done:
					return
				}
			}
			if err != nil {
				c.end(err)
				return
			}
		}
	}()
	go c.listen(keys, changes, done)
	c.close = sync.OnceFunc(func() {
		signal.Stop(changes)
		close(done)
		p.stdout.attach(nil)
		p.stderr.attach(nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flush()
		c.screen.Draw(nil, screen.Frame{})
		fmt.Fprint(c.out.file, "\x1b[?2004l")
		term.Restore(int(c.in.Fd()), c.state)
	})
	return c, nil
}

// Close gives the terminal back as it was.
func (c *console) Close() { c.close() }

// reflows reports whether the terminal breaks its rows anew when its width changes. xterm, screen and the Linux console
// don't.
func reflows() bool {
	term := os.Getenv("TERM")
	return os.Getenv("XTERM_VERSION") == "" && term != "linux" && (!strings.HasPrefix(term, "screen") || os.Getenv("TMUX") != "")
}

func (c *console) measure() {
	c.width, c.height = 80, 24
	if w, h, err := term.GetSize(int(c.in.Fd())); err == nil && w > 0 && h > 0 {
		c.width, c.height = w, h
	}
}

// escapeTime is how long the rest of a sequence may take to come, after which an escape character is the Esc key.
const escapeTime = 50 * time.Millisecond

// An answer is drawn again after frameTime at the earliest, besides its first token. The spinner moves every few frames.
const (
	frameTime  = 33 * time.Millisecond
	spinFrames = 3
)

func (c *console) listen(keys <-chan []byte, changes <-chan os.Signal, done <-chan struct{}) {
	var k keyboard
	timer := time.NewTimer(escapeTime)
	ticker := time.NewTicker(frameTime)
	defer ticker.Stop()
	for {
		var strokes []keystroke
		select {
		case <-done:
			return
		case data := <-keys:
			strokes = k.push(data, true)
			timer.Reset(escapeTime)
		case <-timer.C:
			if !k.pasting {
				strokes = k.push(nil, false)
			}
		case s := <-changes:
			c.mu.Lock()
			switch s {
			case os.Interrupt:
				if c.stop != nil {
					c.stop()
				}
			case syscall.SIGCONT:
				c.resume()
			default:
				c.measure()
				c.screen.Resize(c.width)
			}
			c.draw(nil)
			c.mu.Unlock()
			continue
		case <-ticker.C:
			c.mu.Lock()
			if c.ticks++; c.working != "" && c.ticks%spinFrames == 0 || c.stale {
				c.draw(nil)
			}
			c.mu.Unlock()
			continue
		}
		c.mu.Lock()
		for _, s := range strokes {
			c.stroke(s)
		}
		if len(strokes) > 0 {
			c.draw(nil)
		}
		c.mu.Unlock()
	}
}

// end says that no more messages come.
func (c *console) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = err
	}
	if c.stop != nil && err == io.EOF {
		c.stop()
	}
	c.changed.Broadcast()
}

// suspend stops the program as Ctrl-Z does elsewhere, and the programs of its job. resume goes on, also where there is nobody
// to go on later: a job that no shell controls isn't stopped.
func (c *console) suspend() {
	c.screen.Draw(nil, screen.Frame{})
	fmt.Fprint(c.out.file, "\x1b[?2004l")
	term.Restore(int(c.in.Fd()), c.state)
	c.suspended = true
	syscall.Kill(0, syscall.SIGTSTP)
	time.AfterFunc(10*frameTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.resume()
		c.draw(nil)
	})
}

// resume takes the terminal again, which another program may have used. The caller has the lock.
func (c *console) resume() {
	if _, err := term.MakeRaw(int(c.in.Fd())); err != nil {
		return
	}
	fmt.Fprint(c.out.file, "\r\x1b[?2004h")
	c.measure()
	c.screen.Resize(c.width)
	if c.suspended {
		c.screen.Restart()
	}
	c.suspended = false
}

// message asks for one message with a prompt. io.EOF means that the person wants to leave, errDropped that what they had typed
// is dropped, context.Canceled that a signal ends the program.
func (c *console) message(prompt string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	c.prompt, c.asking, c.dropped, c.early = prompt, true, false, false
	defer func() { c.asking = false }()
	c.draw(nil)
	for len(c.queue) == 0 && c.ended == nil && !c.dropped {
		c.changed.Wait()
	}
	if c.dropped {
		return "", errDropped
	}
	if len(c.queue) == 0 {
		c.buffer.Set("")
		c.draw([]string{prompt})
		return "", c.ended
	}
	text := c.queue[0]
	c.queue = c.queue[1:]
	c.asking = false
	c.draw(c.typed(text))
	return unquoted(text), nil
}

// typed are the rows of a text behind the prompt.
func (c *console) typed(text string) (rows []string) {
	var b edit.Buffer
	b.Set(text)
	all, _, _ := b.Rows(c.prompt, more, c.width-1)
	for _, r := range all {
		rows = append(rows, r.Text)
	}
	return rows
}

// errDropped says that what was typed is dropped.
var errDropped = errors.New("Ctrl-C")

// unquoted is a message without the quotes around it.
func unquoted(text string) string {
	if body, ok := strings.CutPrefix(text, quotes); ok {
		return strings.Trim(strings.TrimSuffix(body, quotes), "\n")
	}
	return text
}

// isOpen reports whether a message has quotes at its beginning alone.
func isOpen(text string) bool {
	body, ok := strings.CutPrefix(text, quotes)
	return ok && !strings.HasSuffix(body, quotes)
}

// refill puts a message into the input line again, where nothing else is typed.
func (c *console) refill(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buffer.Text() == "" && len(c.queue) == 0 {
		c.buffer.Set(text)
	}
}

// print writes text above what is typed. It may hold control sequences for styles; a line that has no end yet waits for it.
func (c *console) print(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := strings.Split(c.partial+strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	c.partial = lines[len(lines)-1]
	if lines = lines[:len(lines)-1]; len(lines) > 0 {
		c.draw(wrapped(lines, c.width-1))
	}
}

// flush writes a line that has no end.
func (c *console) flush() {
	if c.partial != "" {
		c.draw(wrapped([]string{c.partial}, c.width-1))
		c.partial = ""
	}
}

// wrapped breaks lines into rows at words.
func wrapped(lines []string, width int) (rows []string) {
	for _, l := range lines {
		rows = append(rows, screen.Wrap(l, width)...)
	}
	return rows
}

// work says that something is under way, which Ctrl-C stops, until done.
func (c *console) work(what string, stop func()) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working, c.stop = what, stop
	if c.early {
		stop()
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.working, c.stop = "", nil
		c.draw(nil)
	}
}

// progress says what is under way now; "" is something that is seen anyway.
func (c *console) progress(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil { // it is over, and the device hasn't noticed
		return
	}
	c.working = what
	c.draw(nil)
}

// show shows a stream as it is now, its final rows for good.
func (c *console) show(s *markdown.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.answer != s
	c.answer, c.working = s, ""
	if c.stale = !first && time.Since(c.drawn) < frameTime; !c.stale {
		c.draw(nil)
	}
}

// finish shows the rest of a stream for good.
func (c *console) finish(s *markdown.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = nil
	c.draw(s.End(c.width - 1))
}

const spinnerFrames = `|/-\`

// send writes a sequence to the terminal that moves nothing.
func (c *console) send(sequence string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprint(c.out.file, sequence)
}

// draw writes rows above for good and draws what is below them. The caller has the lock.
func (c *console) draw(above []string) {
	if c.suspended {
		c.unseen = append(c.unseen, above...)
		return
	}
	if c.asking && len(c.queue) > 0 && len(above) == 0 {
		return // message takes it at once
	}
	above, c.unseen = append(c.unseen, above...), nil
	c.drawn, c.stale = time.Now(), false
	var f screen.Frame
	if c.answer != nil {
		final, open := c.answer.Rows(c.width-1, max(1, c.height-3))
		above, f.Rows = append(above, final...), open
		if n := len(open); n > 0 {
			f.Row, f.Before = n-1, len(open[n-1])
		}
	}
	if c.working != "" {
		f.Rows = append(f.Rows, cut(string(spinnerFrames[c.ticks/spinFrames%len(spinnerFrames)])+" "+c.working, c.width-1))
		f.Row, f.Before = len(f.Rows)-1, 0
	}
	for _, text := range c.queue {
		f.Rows = append(f.Rows, cut("(next) "+oneRow.Replace(text), c.width-1))
	}
	typed := c.input()
	if len(typed.Rows) > 0 {
		f.Row, f.Before = len(f.Rows)+typed.Row, typed.Before
		f.Rows = append(f.Rows, typed.Rows...)
	}
	if n := len(f.Rows) - c.height; n > 0 {
		n = min(n, f.Row)
		f.Rows, f.Row = f.Rows[n:], f.Row-n
		f.Rows = f.Rows[:min(len(f.Rows), c.height)]
	}
	if len(f.Rows) == 0 {
		f.Rows = []string{""}
	}
	c.screen.Draw(above, f)
}

// input is what is typed, with what helps to type it.
func (c *console) input() (f screen.Frame) {
	if s := c.search; s != nil {
		found := ""
		if s.at >= 0 {
			found = oneRow.Replace(c.history.At(s.at))
		}
		head := "(search) " + oneRow.Replace(s.text)
		return screen.Frame{Rows: []string{cut(head, c.width-1), cut("  "+found, c.width-1)}, Before: len(cut(head, c.width-1))}
	}
	if !c.asking && c.buffer.Text() == "" {
		return f
	}
	prompt := c.prompt
	if !c.asking {
		prompt = "(next) "
	}
	rows, row, before := c.buffer.Rows(prompt, more, c.width-1)
	for _, r := range rows {
		f.Rows = append(f.Rows, r.Text)
	}
	f.Row, f.Before = row, before
	if room := max(1, c.height-2); len(f.Rows) > room { // those around the cursor
		from := max(0, min(row-room/2, len(f.Rows)-room))
		f.Rows, f.Row = f.Rows[from:from+room], row-from
	}
	f.Rows = append(f.Rows, c.hint...)
	return f
}

// oneRow makes one row of a message.
var oneRow = strings.NewReplacer("\n", "⏎", "\t", " ")

// more stands before the second and further lines of a message.
const more = "... "

// cut leaves what fits of a text.
func cut(text string, width int) string { return screen.Cut(text, width) }
