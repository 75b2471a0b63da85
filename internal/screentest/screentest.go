// Package screentest gives tests of windows an X server without a screen: Xvfb, what it shows, and keys and a mouse, which the
// extension XTEST moves as a person would.
package screentest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Screen is a running Xvfb of 1200 by 800 pixels, whose DISPLAY the test has.
type Screen struct {
	t    testing.TB
	file string // in which it keeps what it shows, in X11's xwd format

	x      net.Conn          // nil before the first key or move
	xtest  byte              // opcode of the extension
	codes  map[uint32]uint32 // key codes of the symbols of keys that need no other key
	server string
}

// Start starts a Screen, which ends with the test. Without Xvfb the test is skipped.
func Start(t testing.TB) *Screen {
	t.Helper()
	server, err := exec.LookPath("Xvfb")
	if err != nil {
		t.Skip("SKIPPED, no Xvfb: run tools/setup.sh window")
	}
	dir := t.TempDir()
	number, ends, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// A number of this process's own: two servers that look for a free one at the same moment, and find the lock file of one that
	// was killed, both take its number.
	display := fmt.Sprintf(":%d", 100+os.Getpid()%50000)
	x := exec.Command(server, display, "-displayfd", "3", "-screen", "0", "1200x800x24", "-fbdir", dir, "-nolisten", "tcp")
	x.ExtraFiles = []*os.File{ends}
	var log strings.Builder
	x.Stderr = &log
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	s := &Screen{t: t, file: filepath.Join(dir, "Xvfb_screen0")}
	t.Cleanup(func() {
		if s.x != nil {
			_ = s.x.Close()
		}
		_ = x.Process.Signal(syscall.SIGTERM) // killed, it would leave its lock file
		kill := time.AfterFunc(10*time.Second, func() { _ = x.Process.Kill() })
		_ = x.Wait()
		kill.Stop()
	})
	ends.Close()
	if _, err := bufio.NewReader(number).ReadString('\n'); err != nil { // the number, once clients can connect
		t.Fatalf("Xvfb %s does not begin: %v\n%s", display, err, log.String())
	}
	s.server = "/tmp/.X11-unix/X" + display[1:]
	t.Setenv("DISPLAY", display)
	return s
}

// Shot reads a part of what the screen shows.
func (s *Screen) Shot(part image.Rectangle) *image.NRGBA {
	s.t.Helper()
	data, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	// XWDFile.h: big-endian words.
	word := func(i int) int { return int(binary.BigEndian.Uint32(data[4*i:])) }
	header, width, bits, pitch, colours := word(0), word(4), word(11), word(12), word(19)
	if bits != 32 || word(7) != 0 || part.Max.X > width {
		s.t.Fatalf("a screen of %d pixels with %d bits in byte order %d", width, bits, word(7))
	}
	pixels := data[header+12*colours:]
	m := image.NewNRGBA(image.Rect(0, 0, part.Dx(), part.Dy()))
	for y := range part.Dy() {
		for x := range part.Dx() {
			p := pixels[(part.Min.Y+y)*pitch+4*(part.Min.X+x):]
			m.SetNRGBA(x, y, color.NRGBA{p[2], p[1], p[0], 255})
		}
	}
	return m
}

// Symbols of keys that type no character (X11's keysymdef.h). Those of ASCII are the characters.
const (
	KeyEscape = 0xff1b
	KeyLeft   = 0xff51
	KeyUp     = 0xff52
	KeyRight  = 0xff53
	KeyDown   = 0xff54
)

// What XTEST makes of an event (xtestproto, FakeInput).
const (
	keyPress     = 2
	keyRelease   = 3
	motionNotify = 6
)

// Press presses and releases keys, one after another. The window that the mouse is over gets them.
func (s *Screen) Press(symbols ...uint32) {
	s.t.Helper()
	s.connect()
	for _, symbol := range symbols {
		code, ok := s.codes[symbol]
		if !ok {
			s.t.Fatalf("no key has the symbol %#x", symbol)
		}
		s.fake(keyPress, byte(code), 0, 0)
		s.fake(keyRelease, byte(code), 0, 0)
		s.settle()
		time.Sleep(2 * time.Millisecond) // GLFW takes a press of a key in the same millisecond for the one before
	}
}

// Move moves the mouse.
func (s *Screen) Move(x, y int) {
	s.t.Helper()
	s.connect()
	s.fake(motionNotify, 0, x, y)
	s.settle()
}

func (s *Screen) fake(kind, detail byte, x, y int) {
	r := make([]byte, 36)
	r[0], r[1], r[2], r[4], r[5] = s.xtest, 2, 9, kind, detail
	binary.LittleEndian.PutUint16(r[24:], uint16(x))
	binary.LittleEndian.PutUint16(r[26:], uint16(y))
	s.send(r)
}

// settle waits until the server has done what it was told, by a question that it answers (GetInputFocus).
func (s *Screen) settle() {
	s.send([]byte{43, 0, 1, 0})
	s.reply()
}

func (s *Screen) send(r []byte) {
	s.t.Helper()
	if _, err := s.x.Write(r); err != nil {
		s.t.Fatalf("the X server: %v", err)
	}
}

func (s *Screen) read(n int) []byte {
	s.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(s.x, b); err != nil {
		s.t.Fatalf("the X server: %v", err)
	}
	return b
}

// reply reads an answer. Events come before it, such as those of a keyboard that has changed.
func (s *Screen) reply() []byte {
	s.t.Helper()
	head := s.read(32)
	for head[0] > 1 {
		head = s.read(32)
	}
	if head[0] != 1 {
		s.t.Fatalf("the X server reports error %d", head[1])
	}
	return append(head, s.read(4*int(binary.LittleEndian.Uint32(head[4:])))...)
}

// connect connects to the server (X Window System Protocol, sections 8 and 9), finds the extension, and which keys there are.
func (s *Screen) connect() {
	s.t.Helper()
	if s.x != nil {
		return
	}
	var err error
	if s.x, err = net.Dial("unix", s.server); err != nil {
		s.t.Fatal(err)
	}
	s.send([]byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	head := s.read(8)
	setup := s.read(4 * int(binary.LittleEndian.Uint16(head[6:])))
	if head[0] != 1 {
		s.t.Fatalf("the X server refuses: %s", setup)
	}
	first, last := setup[26], setup[27]
	name := "XTEST"
	s.send(slices.Concat([]byte{98, 0, 4, 0, byte(len(name)), 0, 0, 0}, []byte(name), make([]byte, 3))) // QueryExtension
	r := s.reply()
	if r[8] == 0 {
		s.t.Fatal("the X server has no XTEST")
	}
	s.xtest = r[9]
	s.send([]byte{101, 0, 2, 0, first, last - first + 1, 0, 0}) // GetKeyboardMapping
	r = s.reply()
	s.codes = map[uint32]uint32{}
	for code, each := 0, int(r[1]); code <= int(last-first); code++ {
		symbol := binary.LittleEndian.Uint32(r[32+4*code*each:])
		if _, has := s.codes[symbol]; !has {
			s.codes[symbol] = uint32(first) + uint32(code)
		}
	}
}
