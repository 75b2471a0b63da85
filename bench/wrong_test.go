//go:build wrongkernel

package bench

import (
	"slices"
	"strings"
	"testing"
)

// TestWrongKernelStrikesTheRow: a kernel that was made wrong is named, and the rows that it is fast in do not count.
func TestWrongKernelStrikesTheRow(t *testing.T) {
	const wrong = "rms_norm_row" // shaders/wrong.go
	rows := stamped(t)
	for _, r := range rows {
		if !slices.Contains(r.KernelNames, wrong) {
			t.Fatalf("%s, which is wrong, is not among this device's kernels %v: this test is for Mesa's CPU driver", wrong, r.KernelNames)
		}
		if !r.Struck || !slices.Equal(r.KernelsWrong, []string{wrong}) || r.KernelsVerified >= r.KernelsUsed {
			t.Errorf("%s: %+v", r.Test().Name(), r.Stamp)
		}
		if row := TableRow(r); strings.Count(row, "~~") != 2 || !strings.Contains(row, " WRONG |") {
			t.Error(row)
		}
	}
	if foot := TableFoot(rows); !strings.Contains(foot, "wrong: "+wrong) {
		t.Error(foot)
	}
}
