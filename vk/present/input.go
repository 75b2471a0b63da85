package present

// Keys that type no character, as Input.Keys has them.
const (
	KeyUp rune = 0xf700 + iota
	KeyDown
	KeyLeft
	KeyRight
	KeyEscape
)

// An Input is what the person at a window has done since the last frame, and what a frame has to know of the window.
type Input struct {
	Width, Height float32 // in pixels
	Scale         float32 // of the screen: 2 where things are to be drawn twice as large
	X, Y          float32 // of the mouse
	Keys          []rune  // that were typed
	Clicked       bool

	Shown, Dropped int64 // frames so far
}

// A Reply says what is to happen after a frame.
type Reply struct {
	Quit       bool
	Idle       bool   // the device has nothing else to do: the next frame need not wait until this one was a small share of the time
	Screenshot string // path of a PNG file to write; "": none
}
