package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"pumice/pipeline"
)

// A Count is what a device's compiler makes of a kernel with its constants, of what collect has written: as much as predictions
// need.
type Count struct {
	Kernel    string // variant
	Constants string // as KernelStats has them
	Lanes     int    `json:",omitempty"`
	Registers int    `json:",omitempty"`
	Spills    int    `json:",omitempty"`
	Shared    int    `json:",omitempty"`
	Waves     int    `json:",omitempty"`
	Cycles    int    `json:",omitempty"`
	Latency   int    `json:",omitempty"`
	Weights   int    `json:",omitempty"`
	Products  int    `json:",omitempty"`
	Loop      Work
}

// A countTable has those of devices of tools/mesa.sh and tools/intel.sh.
type countTable map[string][]Count

func count(r Record) Count {
	return Count{
		Kernel: r.Variant, Constants: r.Constants, Lanes: r.Lanes, Registers: r.Registers, Spills: r.Spills, Shared: r.Shared,
		Waves: r.Waves, Cycles: r.Cycles, Latency: r.Latency, Weights: r.Weights,
		Products: r.Products, Loop: r.Loop,
	}
}

// errNoCount is of a kernel that is newer than the counts.
var errNoCount = errors.New("no counts (make isa-report)")

// of is the count of a dispatch's kernel: of those of its variant the one with most constants in common, since a device that
// stands in for another may have other sizes.
func (c countTable) of(device string, d pipeline.Dispatch) (Count, error) {
	var want []string
	for _, x := range d.Constants {
		if x.Value != 0 {
			want = append(want, fmt.Sprintf("%s=%d", x.Name, x.Value))
		}
	}
	best, most := Count{}, -1
	for _, x := range c[device] {
		if x.Kernel != d.Kernel {
			continue
		}
		have := strings.Fields(x.Constants)
		common := 0
		for _, w := range want {
			if slices.Contains(have, w) {
				common += 2
			}
		}
		if common -= len(have); common > most || most < 0 && best.Kernel == "" { // what it has beside them counts against it
			best, most = x, common
		}
	}
	if best.Kernel == "" {
		return best, fmt.Errorf("%w of %s on %s", errNoCount, d.Kernel, device)
	}
	return best, nil
}

// used are the counts that predictions take of records.
func used(records map[string][]Record, plans []plan) countTable {
	all := countTable{}
	for device, list := range records {
		for _, r := range list {
			all[device] = append(all[device], count(r))
		}
	}
	out := countTable{}
	for _, p := range plans {
		for _, device := range p.gpu.compilers() {
			for _, d := range p.dispatches {
				if c, err := all.of(device, d); err == nil && !slices.Contains(out[device], c) {
					out[device] = append(out[device], c)
				}
			}
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(x, y Count) int {
			return strings.Compare(x.Kernel+" "+x.Constants, y.Kernel+" "+y.Constants)
		})
	}
	return out
}

// readCounts reads the file that writeCounts has written.
func readCounts(file string) (countTable, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var c countTable
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// writeCounts puts the counts of devices in the place of those that the file has of them, a line each.
func writeCounts(file string, c countTable) error {
	all, err := readCounts(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if all == nil {
		all = countTable{}
	}
	for device, list := range c {
		all[device] = list
	}
	var b strings.Builder
	b.WriteString("{")
	for i, device := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n%q: [", device)
		for j, x := range all[device] {
			if j > 0 {
				b.WriteString(",")
			}
			line, err := json.Marshal(x)
			if err != nil {
				return err
			}
			b.WriteString("\n")
			b.Write(line)
		}
		b.WriteString("\n]")
	}
	b.WriteString("\n}\n")
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
