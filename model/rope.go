package model

import "math"

// ropeTable computes cos and sin of every position and frequency, (positions, Dim/2, 2).
// divisors, one a frequency, is used by scaling of type "factors" alone.
func (r *Rope) ropeTable(positions int, divisors []float32) []float32 {
	n := r.Dim / 2
	freqs := make([]float64, n)
	for j := range freqs {
		f := math.Pow(r.Theta, -2*float64(j)/float64(r.Dim))
		switch s := r.Scaling; s.Type {
		case "linear":
			f /= s.Factor
		case "llama3":
			f = s.llama3(f)
		case "factors":
			f /= float64(divisors[j])
		}
		freqs[j] = f
	}
	table := make([]float32, 2*n*positions)
	for p := range positions {
		for j, f := range freqs {
			sin, cos := math.Sincos(float64(p) * f)
			table[2*(p*n+j)] = float32(cos)
			table[2*(p*n+j)+1] = float32(sin)
		}
	}
	return table
}

// llama3 scales a frequency as Llama 3.1 does: by wavelength against the original context.
func (s *RopeScaling) llama3(f float64) float64 {
	cycles := float64(s.OriginalContext) * f / (2 * math.Pi) // in the original context
	switch {
	case cycles < s.LowFreqFactor:
		return f / s.Factor
	case cycles > s.HighFreqFactor:
		return f
	}
	keep := (cycles - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
	return (1-keep)*f/s.Factor + keep*f
}
