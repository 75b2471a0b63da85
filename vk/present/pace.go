package present

import "time"

// A Pace says when a frame may be drawn, so that drawing takes no more than a share of the time: on a CPU driver a frame
// costs tens of milliseconds of what computes. The zero value draws at most 60 frames a second.
type Pace struct {
	Share    float64       // of the time; 0 stands for 0.02
	Interval time.Duration // between two frames at least; 0 stands for a sixtieth of a second

	next time.Time // before it frames are dropped
	due  time.Time // of the frame that is drawn or dropped next

	Shown, Dropped int64 // frames
}

func (p *Pace) interval() time.Duration {
	if p.Interval > 0 {
		return p.Interval
	}
	return time.Second / 60
}

// Due reports whether a frame may be drawn now. A frame that is due but would take more than its share is dropped and
// counted. A frame that is not due yet is neither.
func (p *Pace) Due(now time.Time) bool {
	if now.Before(p.due) {
		return false
	}
	p.due = now.Add(p.interval())
	if now.Before(p.next) {
		p.Dropped++
		return false
	}
	return true
}

// Drop counts a frame that was drawn and could not be shown.
func (p *Pace) Drop() { p.Dropped++ }

// Drew takes a frame into account that began at a time and has kept the processor and the device busy for so long.
func (p *Pace) Drew(began time.Time, busy time.Duration) {
	p.Shown++
	share := p.Share
	if share == 0 {
		share = 0.02
	}
	p.next = began.Add(time.Duration(float64(busy) / share))
}
