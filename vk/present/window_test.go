//go:build window && cgo

package present

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pumice/internal/gputest"
	"pumice/internal/screentest"
	"pumice/vk"
)

func openWindow(t *testing.T) *Window {
	t.Helper()
	dev := gputest.OpenWith(t, gputest.Options{Surfaces: true})
	w, err := OpenWindow(dev, "test", 320, 200)
	if errors.Is(err, vk.ErrNoPresent) {
		t.Skip("SKIPPED: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.pace.Share, w.pace.Interval = 1, time.Millisecond
	return w
}

// The screen shows the pixels of the canvas, after changes of size too, and the validation layers have nothing to say.
func TestScreenShowsTheCanvas(t *testing.T) {
	screen := screentest.Start(t)
	w := openWindow(t)
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	picture := filepath.Join(t.TempDir(), "shot.png")
	for i, size := range [][2]int{{320, 200}, {417, 333}, {150, 90}} {
		w.window.SetSize(size[0], size[1])
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		first, frames := int64(0), 0
		err := w.Run(ctx, func(in Input, l *List) Reply {
			if int(in.Width) != size[0] || int(in.Height) != size[1] {
				return Reply{}
			}
			if frames++; frames == 1 {
				first = in.Shown
			}
			l.Box(Rect{0, 0, in.Width, in.Height}, 0x18202cff)
			l.Box(Rect{10, 20, 60, 50}, 0xe04020ff)
			l.Line(0, 0, in.Width, in.Height, 3, 0x40c0ffff)
			l.Text(12, 80, 24, fmt.Sprintf("tokens/s %d 词元", i), white)
			return Reply{Quit: in.Shown > first+2, Screenshot: picture}
		})
		cancel()
		if err != nil || frames == 0 || ctx.Err() == context.DeadlineExceeded {
			t.Fatalf("%d frames of %v: %v, %v", frames, size, err, ctx.Err())
		}
		want, err := w.canvas.Image()
		if err != nil {
			t.Fatal(err)
		}
		x, y := w.window.GetPos()
		var got *image.NRGBA
		for range 100 { // X draws when it comes to it
			if got = screen.Shot(want.Rect.Add(image.Pt(x, y))); string(got.Pix) == string(want.Pix) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		compare(t, got, want)
		if got.NRGBAAt(30, 30) != (color.NRGBA{0xe0, 0x40, 0x20, 255}) {
			t.Errorf("the box is %v", got.NRGBAAt(30, 30))
		}
		f, err := os.Open(picture)
		if err != nil {
			t.Fatal(err)
		}
		saved, err := png.Decode(f)
		f.Close()
		if err != nil || saved.Bounds() != want.Rect || color.NRGBAModel.Convert(saved.At(30, 30)) != want.At(30, 30) {
			t.Errorf("the screenshot: %v, %v", saved.Bounds(), err)
		}
	}
}

// A window that is minimised draws no frames, and one that was closed ends Run; nothing is left behind, which the test's device
// would report.
func TestWindowIsMinimisedAndClosed(t *testing.T) {
	screentest.Start(t)
	w := openWindow(t)
	frames := 0
	draw := func(in Input, l *List) Reply {
		frames++
		l.Box(Rect{0, 0, in.Width, in.Height}, Colour(frames)<<8|0xff)
		return Reply{}
	}
	show := func(wait time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		if err := w.Run(ctx, draw); err != nil {
			t.Fatal(err)
		}
	}
	show(300 * time.Millisecond)
	if frames == 0 {
		t.Error("no frame")
	}
	w.window.Hide() // there is no window manager to minimise it; a hidden window is presented to as a minimised one is
	show(100 * time.Millisecond)
	w.window.Show()
	shown := w.pace.Shown
	show(300 * time.Millisecond)
	if w.pace.Shown == shown {
		t.Error("no frame after the window has come back")
	}
	w.window.SetShouldClose(true)
	show(10 * time.Second)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// Keys and the mouse reach the next frame, once.
func TestInputReachesTheNextFrame(t *testing.T) {
	screen := screentest.Start(t)
	w := openWindow(t)
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	x, y := w.window.GetPos()
	var keys []rune
	var last Input
	frames := 0
	err := w.Run(ctx, func(in Input, l *List) Reply {
		if frames++; frames == 2 { // the window is there
			screen.Move(x+37, y+21)
			screen.Press('a', ' ', screentest.KeyUp, screentest.KeyDown, screentest.KeyLeft, screentest.KeyRight, screentest.KeyEscape)
		}
		keys, last = append(keys, in.Keys...), in
		l.Box(Rect{0, 0, in.Width, in.Height}, white)
		return Reply{Quit: slices.Contains(in.Keys, KeyEscape)}
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []rune{'a', ' ', KeyUp, KeyDown, KeyLeft, KeyRight, KeyEscape}; !slices.Equal(keys, want) || last.X != 37 || last.Y != 21 {
		t.Errorf("keys %q with the mouse at (%g, %g), want %q at (37, 21)", keys, last.X, last.Y, want)
	}
	w.input.Keys, w.input.Clicked = []rune{' '}, true
	var got []Input
	if err := w.Run(ctx, func(in Input, _ *List) Reply {
		got = append(got, in)
		return Reply{Quit: len(got) == 2}
	}); err != nil {
		t.Fatal(err)
	}
	if string(got[0].Keys) != " " || !got[0].Clicked || len(got[1].Keys) > 0 || got[1].Clicked {
		t.Errorf("%+v, then %+v", got[0], got[1])
	}
}

// Without a screen, or on an instance that was not made for windows, there is an error to tell by.
func TestWindowsThatCannotBe(t *testing.T) {
	screentest.Start(t)
	dev := gputest.Open(t)
	if _, err := OpenWindow(dev, "test", 100, 100); !errors.Is(err, vk.ErrNoPresent) {
		t.Errorf("without surfaces: %v", err)
	}
	t.Setenv("DISPLAY", ":none")
	dev = gputest.OpenWith(t, gputest.Options{Surfaces: true})
	if _, err := OpenWindow(dev, "test", 100, 100); !errors.Is(err, ErrNoDisplay) {
		t.Errorf("without a screen: %v", err)
	}
}
