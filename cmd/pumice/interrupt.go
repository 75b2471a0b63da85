package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// grace is how long a command may take to end after a signal. Code that checks its context ends sooner; parsing a
// model's files, a driver's compiler, or a write to a full pipe may not check it.
const grace = time.Second

// repeat is how soon after the first signal another one counts as the same: timeout(1) signals both the process and
// its group.
const repeat = 100 * time.Millisecond

// An interrupt ends the program on signals. The first one cancels ctx; if the command has not ended after grace, the
// program exits anyway. A second signal ends it at once.
type interrupt struct {
	ctx     context.Context
	signals chan os.Signal
	end     func()                 // ends the watch
	more    atomic.Int64           // nanoseconds that the command may take beyond grace
	restore atomic.Pointer[func()] // restores the terminal where the command is stopped by force
}

func watchSignals(stderr io.Writer) *interrupt {
	ctx, cancel := context.WithCancel(context.Background())
	i := &interrupt{ctx: ctx, signals: make(chan os.Signal, 1)}
	i.listen(os.Interrupt)
	ended := make(chan struct{})
	go func() {
		select {
		case <-ended:
			return
		case <-i.signals:
		}
		cancel()
		first := time.Now()
		late := time.After(grace + time.Duration(i.more.Load()))
		for {
			select {
			case <-ended:
				return
			case <-i.signals:
				if time.Since(first) > repeat {
					i.stop(stderr, "a second signal")
				}
			case <-late:
				i.stop(stderr, fmt.Sprintf("the command had not ended %v after the signal", time.Since(first).Round(time.Second)))
			}
		}
	}()
	i.end = sync.OnceFunc(func() {
		signal.Stop(i.signals)
		close(ended)
		cancel()
	})
	return i
}

// allow gives the command more time to end after a signal.
func (i *interrupt) allow(more time.Duration) { i.more.Store(int64(more)) }

// stop ends the program, whatever it is doing.
func (i *interrupt) stop(stderr io.Writer, why string) {
	if restore := i.restore.Load(); restore != nil {
		(*restore)()
	}
	told := make(chan struct{})
	go func() {
		fmt.Fprintln(stderr, "pumice: stopped without finishing:", why)
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(grace / 10): // nobody reads standard error
	}
	os.Exit(exitInterrupted)
}

// listen watches SIGTERM, SIGHUP and more. Under nohup SIGHUP is ignored, and stays so.
func (i *interrupt) listen(more ...os.Signal) {
	signal.Stop(i.signals)
	signal.Notify(i.signals, append(more, syscall.SIGTERM)...)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(i.signals, syscall.SIGHUP)
	}
}

// hideTyping has a terminal show nothing that is typed, and keep it as the keys send it until it is read. restore, which stop
// calls too, gives the terminal back as it was; state is that.
func (i *interrupt) hideTyping(stdin *os.File) (state *term.State, restore func()) {
	fd := int(stdin.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, func() {}
	}
	restore = func() { term.Restore(fd, state) }
	i.restore.Store(&restore)
	if modes, err := unix.IoctlGetTermios(fd, getTermios); err == nil {
		modes.Lflag &^= unix.ECHO | unix.ICANON
		modes.Iflag &^= unix.ICRNL
		unix.IoctlSetTermios(fd, setTermios, modes)
	}
	return state, restore
}

// converse leaves SIGINT to a conversation, where it stops an answer.
func (i *interrupt) converse() { i.listen() }
