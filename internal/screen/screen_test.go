package screen

import (
	"fmt"
	"strings"
	"testing"

	"github.com/charmbracelet/x/vt"
	"github.com/google/go-cmp/cmp"
)

// shown are the rows of a terminal up to the last that has text, with the cursor as |.
func shown(e *vt.Emulator) string {
	rows := strings.Split(e.String(), "\n")
	at := e.CursorPosition()
	for i := range rows {
		rows[i] = strings.TrimRight(rows[i], " ")
		if i == at.Y {
			if n := at.X - len([]rune(rows[i])); n > 0 {
				rows[i] += strings.Repeat(" ", n)
			}
			r := []rune(rows[i])
			rows[i] = string(r[:at.X]) + "|" + string(r[at.X:])
		}
	}
	return strings.TrimRight(strings.Join(rows, "\n"), "\n")
}

func TestDrawWritesOverTheFrameAndNothingElse(t *testing.T) {
	e := vt.NewEmulator(20, 6)
	fmt.Fprint(e, "$ pumice\r\n")
	s := New(e, 20, false)
	for _, step := range []struct {
		name  string
		above []string
		frame Frame
		want  string
	}{
		{"prompt", nil, Frame{[]string{">>> "}, 0, 4}, "$ pumice\n>>> |"},
		{"typed", nil, Frame{[]string{">>> abc"}, 0, 6}, "$ pumice\n>>> ab|c"},
		{"two rows", nil, Frame{[]string{">>> abc", "... d"}, 0, 4}, "$ pumice\n>>> |abc\n... d"},
		{"the cursor below", nil, Frame{[]string{">>> abc", "... d"}, 1, 5}, "$ pumice\n>>> abc\n... d|"},
		{"the second row alone", nil, Frame{[]string{">>> abc", "... de"}, 1, 6}, "$ pumice\n>>> abc\n... de|"},
		{"above", []string{">>> abc", "... d"}, Frame{[]string{""}, 0, 0}, "$ pumice\n>>> abc\n... d\n|"},
		{"an answer", nil, Frame{[]string{"one", "two", "three"}, 2, 5}, "$ pumice\n>>> abc\n... d\none\ntwo\nthree|"},
		{"an answer that scrolls", nil, Frame{[]string{"one", "two", "three", "four"}, 3, 4}, ">>> abc\n... d\none\ntwo\nthree\nfour|"},
		{"shorter", []string{"one"}, Frame{[]string{">>> "}, 0, 4}, ">>> abc\n... d\none\n>>> |"},
		{"a full row", []string{strings.Repeat("x", 20)}, Frame{[]string{"a"}, 0, 0}, ">>> abc\n... d\none\n" + strings.Repeat("x", 20) + "\n|a"},
		{"nothing", nil, Frame{}, ">>> abc\n... d\none\n" + strings.Repeat("x", 20) + "\n|"},
	} {
		if err := s.Draw(step.above, step.frame); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, shown(e)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	if err := s.Clear(); err != nil {
		t.Fatal(err)
	}
	s.Draw(nil, Frame{[]string{">>> "}, 0, 4})
	if got := shown(e); got != ">>> |" {
		t.Errorf("after Clear: %q", got)
	}
}

// TestTheTerminalMeasures has a terminal that takes each character of an emoji for two columns, as those do that know no clusters.
func TestTheTerminalMeasures(t *testing.T) {
	var out strings.Builder
	s := New(&out, 40, false)
	s.Draw(nil, Frame{[]string{">>> 👩‍🔬x"}, 0, len(">>> 👩‍🔬")})
	if got := out.String(); !strings.Contains(got, ">>> 👩‍🔬\x1b7x\x1b8") {
		t.Errorf("the column of the cursor is not the terminal's: %q", got)
	}
}

func TestNothingIsDrawnTwice(t *testing.T) {
	var out strings.Builder
	s := New(&out, 40, false)
	f := Frame{[]string{"a"}, 0, 1}
	s.Draw(nil, f)
	n := out.Len()
	if s.Draw(nil, f); out.Len() != n {
		t.Errorf("%q", out.String()[n:])
	}
	s.Resize(30)
	if s.Draw(nil, f); out.Len() == n {
		t.Error("nothing is drawn after the terminal has changed")
	}
}

// TestResize makes terminals narrower, with and without breaking their rows anew.
func TestResize(t *testing.T) {
	long := ">>> " + strings.Repeat("y", 12)
	for _, reflow := range []bool{false, true} {
		e := vt.NewEmulator(20, 8)
		fmt.Fprint(e, "before\r\n")
		s := New(e, 20, reflow)
		s.Draw(nil, Frame{[]string{long, "... z"}, 1, 5})
		e.Resize(10, 8)
		if reflow { // which the emulator doesn't
			fmt.Fprint(e, "\x1b[H\x1b[2Jbefore\r\n>>> yyyyyy\r\nyyyyyy\r\n... z")
		}
		s.Resize(10)
		s.Draw(nil, Frame{[]string{">>> yyyyy", "yyyyyyy", "... z"}, 2, 5})
		if diff := cmp.Diff("before\n>>> yyyyy\nyyyyyyy\n... z|", shown(e)); diff != "" {
			t.Errorf("reflow %v (-want +got):\n%s", reflow, diff)
		}
	}
}

func TestWrapAndCut(t *testing.T) {
	if diff := cmp.Diff([]string{"one two", "three", "fourfivesi", "x"}, Wrap("one two three fourfivesix", 10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Cut("你好世界", 5); got != "你好…" {
		t.Errorf("%q", got)
	}
}
