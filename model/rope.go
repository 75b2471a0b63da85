package model

import "math"

// ropeTable computes cos and sin of every position and frequency, (positions, Dim/2, 2).
func (r *Rope) ropeTable(positions int, divisors []float32) []float32 {
	angles := r.angles(positions, divisors)
	table := make([]float32, len(angles))
	for i, x := range angles {
		table[i] = float32(x)
	}
	return table
}

// angles is ropeTable in float64.
func (r *Rope) angles(positions int, divisors []float32) []float64 {
	freqs := r.frequencies(divisors)
	table := make([]float64, 0, r.Dim*positions)
	for p := range positions {
		for _, f := range freqs {
			sin, cos := math.Sincos(float64(p) * f)
			table = append(table, cos, sin)
		}
	}
	return table
}

// frequencies are the Dim/2 angles between two neighbouring positions. divisors, one for each, are used by scaling of type
// "factors" alone.
func (r *Rope) frequencies(divisors []float32) []float64 {
	freqs := make([]float64, r.Dim/2)
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
	return freqs
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
