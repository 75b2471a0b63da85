//go:build !wrongkernel

package bench

import (
	"strings"
	"testing"
)

// TestStampOfRightKernels: every kernel of a model is verified, once for a device, and answers are those of base kernels.
func TestStampOfRightKernels(t *testing.T) {
	rows := stamped(t)
	for _, r := range rows {
		s := r.Stamp
		if !s.Stamped || s.Struck || s.KernelsUsed < 5 || s.KernelsVerified != s.KernelsUsed || s.KernelsUsed != len(s.KernelNames) || s.KernelsWrong != nil {
			t.Errorf("%s: %+v", r.Test().Name(), s)
		}
		if s.KLPositions == 0 || s.KLBase > 1e-3 || s.TokensCompared == 0 || s.TokensEqual != s.TokensCompared {
			t.Errorf("%s: %+v", r.Test().Name(), s)
		}
		if strings.Contains(TableRow(r), "~~") {
			t.Error(TableRow(r))
		}
	}
	if foot := TableFoot(rows); strings.Count(foot, "kernels right against float64: ") != 1 {
		t.Error(foot)
	}
}
