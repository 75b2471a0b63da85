package pipeline

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"pumice/internal/dtype"
	"pumice/internal/regular"
	"pumice/pipeline/kernels"
	"pumice/shaders"
	"pumice/vk"
)

// A Tuning is what has been found out about the kernels on one device with one driver: which
// of them compute wrong results, and how fast each path of an op is. It overrides the rules
// of choice.go. The zero value says nothing.
type Tuning struct {
	Device  string        `json:"device"`
	Driver  string        `json:"driver"`
	Shaders string        `json:"shaders"` // shaders.Hash of the kernels
	Checked []string      `json:"checked"` // types whose kernels were compared with the oracle
	Passed  []string      `json:"passed"`  // kernels whose results were right in every case, sorted
	Refused []Refusal     `json:"refused"` // kernels that failed, never chosen
	Timings []Measurement `json:"timings"`
}

// A Refusal is a kernel whose results are wrong.
type Refusal struct {
	Kernel    string  `json:"kernel"`
	Case      string  `json:"case"`
	MaxRel    float64 `json:"max_rel"`
	Tolerance float64 `json:"tolerance"`
}

// A Measurement is the time of one product by one path, and of a path that has tilings by one of them.
type Measurement struct {
	Op          string       `json:"op"` // with the weights' type: matvec_q4_0
	Path        kernels.Path `json:"path"`
	Tokens      int          `json:"tokens"`
	Rows        int          `json:"rows"`
	Cols        int          `json:"cols"`
	Nanoseconds int64        `json:"ns"` // 0: the results were wrong

	// Tiling is that of a kernel that has a choice, by which workgroups shared the product; without it they did as rules say.
	Tiling kernels.Tiling `json:"tiling,omitzero"`
}

// maxTuningBytes bounds the file that is read: Write makes no larger one.
const maxTuningBytes = 4 << 20

// TuningFile is where a device's Tuning is kept in a folder.
func TuningFile(dir string, pd *vk.PhysicalDevice) string {
	return filepath.Join(dir, pd.CacheName()+".tuning.json")
}

// NewTuning is an empty Tuning of a device and the embedded kernels.
func NewTuning(pd *vk.PhysicalDevice) (*Tuning, error) {
	hash, err := shaders.Hash()
	if err != nil {
		return nil, err
	}
	return &Tuning{Device: pd.Name, Driver: fmt.Sprintf("%s %s %#x", pd.Driver, pd.DriverInfo, pd.DriverVersion), Shaders: hash,
		Checked: []string{}, Passed: []string{}, Refused: []Refusal{}, Timings: []Measurement{}}, nil
}

// ReadTuning reads what Write has written for this device, its driver and these kernels. It
// returns an empty Tuning where there is none: a file of other kernels or another driver says
// nothing about these. A file that cannot be read or makes no sense is an error beside it.
func ReadTuning(file string, pd *vk.PhysicalDevice) (*Tuning, error) {
	none, err := NewTuning(pd)
	if err != nil {
		return nil, err
	}
	data, err := regular.ReadFile(file, maxTuningBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("pipeline: %w", err)
	}
	t := &Tuning{}
	if err := json.Unmarshal(data, t); err != nil {
		return none, fmt.Errorf("pipeline: %s: %w", file, err)
	}
	if t.Device != none.Device || t.Driver != none.Driver || t.Shaders != none.Shaders {
		return none, nil
	}
	return t, nil
}

// Clone is a copy that does not change with t.
func (t *Tuning) Clone() *Tuning {
	c := *t
	c.Checked, c.Passed = slices.Clone(t.Checked), slices.Clone(t.Passed)
	c.Refused, c.Timings = slices.Clone(t.Refused), slices.Clone(t.Timings)
	return &c
}

// Write replaces the file as a whole.
func (t *Tuning) Write(file string) error {
	data, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return err
	}
	return vk.WriteFile(file, append(data, '\n'))
}

// refuses reports whether a kernel failed its check.
func (t *Tuning) refuses(kernel string) bool {
	return t != nil && slices.ContainsFunc(t.Refused, func(r Refusal) bool { return r.Kernel == kernel })
}

// Refuse notes a kernel that failed, unless it is known.
func (t *Tuning) Refuse(r Refusal) {
	if !t.refuses(r.Kernel) {
		t.Refused = append(t.Refused, r)
	}
	if i, ok := slices.BinarySearch(t.Passed, r.Kernel); ok {
		t.Passed = slices.Delete(t.Passed, i, i+1)
	}
}

// Pass notes a kernel whose results were right. One that failed in another case stays refused.
func (t *Tuning) Pass(kernel string) {
	if i, ok := slices.BinarySearch(t.Passed, kernel); !ok && !t.refuses(kernel) {
		t.Passed = slices.Insert(t.Passed, i, kernel)
	}
}

// HasPassed reports whether a kernel was checked, and was right in every case.
func (t *Tuning) HasPassed(kernel string) bool {
	if t == nil {
		return false
	}
	_, ok := slices.BinarySearch(t.Passed, kernel)
	return ok
}

// IsChecked reports whether the kernels for a type of weights or cache were compared with the oracle.
func (t *Tuning) IsChecked(kind dtype.DType) bool { return slices.Contains(t.Checked, kind.String()) }

// MarkChecked notes that they were.
func (t *Tuning) MarkChecked(kind dtype.DType) {
	if !t.IsChecked(kind) {
		t.Checked = append(t.Checked, kind.String())
	}
}

// A Product is what Tune times by every path: weights of one type times so many tokens.
type Product struct {
	Op     string `json:"op"` // with the weights' type: matvec_q4_0
	Tokens int    `json:"tokens"`
}

// Measured returns the time of a product by a path, as rules divide it among workgroups.
func (t *Tuning) Measured(p Product, path kernels.Path) (ns int64, ok bool) {
	x, ok := t.Measurement(p, path, kernels.Tiling{})
	return x.Nanoseconds, ok && x.Nanoseconds > 0
}

// Measurement returns what was measured of a product by a path and a tiling, or without one by the zero value.
func (t *Tuning) Measurement(p Product, path kernels.Path, tiling kernels.Tiling) (_ Measurement, ok bool) {
	i := slices.IndexFunc(t.Timings, func(x Measurement) bool {
		return x.Op == p.Op && x.Tokens == p.Tokens && x.Path == path && x.Tiling == tiling
	})
	if i < 0 {
		return Measurement{}, false
	}
	return t.Timings[i], true
}

// best is the fastest of the measurements of a product by a path.
func (t *Tuning) best(p Product, path kernels.Path) (best Measurement) {
	for _, x := range t.Timings {
		if x.Op == p.Op && x.Tokens == p.Tokens && x.Path == path && x.Nanoseconds > 0 &&
			(best.Nanoseconds == 0 || x.Nanoseconds < best.Nanoseconds) {
			best = x
		}
	}
	return best
}

// slowAs is how many times as long as the base kernel a kernel takes that rules leave out: more than noise, and than what other
// work on the device makes of a measurement.
const slowAs = 3

// slow reports whether an op's kernel took that long for any measured number of tokens for which a rule chooses it: rules know
// classes of devices, and a driver may be an exception.
func (t *Tuning) slow(op string, path kernels.Path, rule func(tokens int) bool) bool {
	return t != nil && slices.ContainsFunc(t.Timings, func(x Measurement) bool {
		base, ok := t.Measured(Product{op, x.Tokens}, kernels.Base)
		return ok && x.Op == op && x.Path == path && x.Tiling == (kernels.Tiling{}) && x.Nanoseconds > slowAs*base && rule(x.Tokens)
	})
}

// Fastest sorts the paths that a product may take, the fastest first. It is nil unless every
// one of them was measured: the fastest of some may be the slowest of all.
func (t *Tuning) Fastest(p Product, paths []kernels.Path) []kernels.Path {
	times := map[kernels.Path]int64{}
	for _, path := range paths {
		if _, ok := t.Measured(p, path); !ok {
			return nil
		}
		times[path] = t.best(p, path).Nanoseconds
	}
	sorted := slices.DeleteFunc(slices.Clone(paths), func(p kernels.Path) bool { return p == kernels.DP }) // whose rounding shows in perplexity: used only on request
	slices.SortStableFunc(sorted, func(a, b kernels.Path) int { return cmp.Compare(times[a], times[b]) })
	return sorted
}
