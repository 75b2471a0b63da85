package pipeline

import (
	"slices"
	"time"

	"pumice/vk"
)

// Drivers reset a device whose job takes longer than about two seconds (Linux's amdgpu, Windows), so what is submitted at once
// is bounded by the time that it is expected to take: eight times less, since attention grows with the position, other programs
// take their share, and the first dispatch of a kernel includes what a driver compiles late.
const submitTarget = 250 * time.Millisecond

// segmentBytes is how much work a segment of a plan has: bytes of weights and of KV cache that its kernels read, times the
// tokens that each is multiplied with. One product of more work is divided by its grid. A segment is submitted alone where nothing
// is known of its speed, and dividing costs a fast device a little, so there is one size for each class of devices: what the
// slow ones do in about 0.2 s. Two cores go through 19 GiB a second (lavapipe 22.3.6, Q4_1); GPUs were not measured, 0.1 and
// 0.3 TFLOP/s are assumed of old integrated and discrete ones, which is 30 and 90 GiB a second of Q4.
func segmentBytes(t vk.DeviceType) int64 {
	switch t {
	case vk.Discrete, vk.Virtual:
		return 16 << 30
	case vk.CPU:
		return 1 << 30
	}
	return 4 << 30
}

// work is what a segment of a plan does in a Run: bytes for each token, and for each token and position that it sees.
type work struct {
	perToken, perPosition int64
	window                int // positions that a token sees at most; 0 means all
}

func (w work) bytes(tokens, live int) float64 {
	if w.window > 0 {
		live = min(live, w.window)
	}
	return float64(tokens) * (float64(w.perToken) + float64(w.perPosition)*float64(live))
}

// plus is the work of both. Where only one has a window that doesn't bound the sum.
func (w work) plus(v work) work {
	if w.perPosition == 0 {
		w.window = v.window
	} else if v.perPosition > 0 && v.window != w.window {
		w.window = 0
	}
	w.perToken += v.perToken
	w.perPosition += v.perPosition
	return w
}

// A pace decides how many segments of a plan are submitted together. It keeps the last measurements of each segment, halving the weight
// of old ones with each new one, so that one slow submission doesn't count for long.
type pace struct {
	segments []work
	rate     []float64 // seconds a byte of work of each segment; 0 means that it was not measured
}

func newPace(segments []work) *pace { return &pace{segments, make([]float64, len(segments))} }

// A pacing is a Plan.Run under way: what it has learned about segments that were never measured.
type pacing struct {
	*pace
	tokens, live int
	last         float64 // work of the last submission
	lastRate     float64 // and its seconds a byte
}

func (p *pace) start(tokens, live int) pacing {
	return pacing{pace: p, tokens: tokens, live: live}
}

func (s *pacing) work(segment int) float64 {
	return max(1, s.segments[segment].bytes(s.tokens, s.live))
}

// expected is what the whole Run should take, and false if not all of it was measured.
func (s *pacing) expected() (time.Duration, bool) {
	if slices.Contains(s.rate, 0) {
		return 0, false
	}
	seconds := 0.0
	for i, rate := range s.rate {
		seconds += rate * s.work(i)
	}
	return time.Duration(seconds * 1e9), true
}

// end is the end of the submission that begins with segment first. It takes segments until the target is reached; unmeasured ones at
// the rate of the submission before, and not more than twice its work.
func (s *pacing) end(first int) int {
	seconds, unknown := 0.0, 0.0
	for i := first; i < len(s.segments); i++ {
		rate := s.rate[i]
		if rate == 0 {
			unknown += s.work(i)
			rate = s.lastRate
			if i > first && (rate == 0 || unknown > 2*s.last) {
				return i
			}
		}
		seconds += rate * s.work(i)
		if i > first && seconds > submitTarget.Seconds() {
			return i
		}
	}
	return len(s.segments)
}

// share is how much of the work the first n segments have.
func (s *pacing) share(n int) float64 {
	done, all := 0.0, 0.0
	for i := range s.segments {
		w := s.work(i)
		if all += w; i < n {
			done += w
		}
	}
	return done / all
}

// took notes how long the submission of segments first to end - 1 has taken.
func (s *pacing) took(first, end int, d time.Duration) {
	s.last = 0
	for i := first; i < end; i++ {
		s.last += s.work(i)
	}
	s.lastRate = max(d.Seconds(), 1e-9) / s.last
	for i := first; i < end; i++ {
		if s.rate[i] == 0 {
			s.rate[i] = s.lastRate
		}
		s.rate[i] = (s.rate[i] + s.lastRate) / 2
	}
}
