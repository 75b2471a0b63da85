package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A report has, by variant and device, the worst statistics over all constants of the kernel. For the loop of a
// mat-vec it has those of the plain kernel, which has the fewest instructions.
type report struct {
	variants map[string]map[string]Record
	errs     []error
}

func newReport(all map[string][]Record) *report {
	p := &report{variants: map[string]map[string]Record{}}
	for device, list := range all {
		for _, r := range list {
			if p.variants[r.Variant] == nil {
				p.variants[r.Variant] = map[string]Record{}
			}
			w, ok := p.variants[r.Variant][device]
			if !strings.HasPrefix(r.Variant, peerPrefix) {
				p.rules(device, r)
			}
			if !ok {
				p.variants[r.Variant][device] = r
				continue
			}
			w.Registers, w.Instructions, w.CodeBytes = max(w.Registers, r.Registers), max(w.Instructions, r.Instructions), max(w.CodeBytes, r.CodeBytes)
			w.Lanes, w.Cycles, w.Latency = max(w.Lanes, r.Lanes), max(w.Cycles, r.Cycles), max(w.Latency, r.Latency)
			w.Spills, w.Kept, w.Scratch, w.Waves = max(w.Spills, r.Spills), max(w.Kept, r.Kept), max(w.Scratch, r.Scratch), min(w.Waves, r.Waves)
			if r.Loop.Instructions < w.Loop.Instructions {
				w.Loop = r.Loop
			}
			p.variants[r.Variant][device] = w
		}
	}
	return p
}

// rules checks the rules for production kernels.
func (p *report) rules(device string, r Record) {
	if r.Spills > 0 {
		p.errs = append(p.errs, fmt.Errorf("%s: %s spills %d registers", device, r.Kernel, r.Spills))
	}
	if strings.HasSuffix(r.Variant, "_cm") && !r.Matrix {
		p.errs = append(p.errs, fmt.Errorf("%s: %s has no matrix instruction", device, r.Kernel))
	}
	if strings.HasSuffix(r.Variant, "_dp") && !r.Dot {
		p.errs = append(p.errs, fmt.Errorf("%s: %s has no dot instruction", device, r.Kernel))
	}
}

func (r *Record) perWeight() float64 { return float64(r.Loop.Instructions) / float64(r.Weights) }

// ours lists our variants, without the peer's.
func (p *report) ours() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.variants)), func(v string) bool { return strings.HasPrefix(v, peerPrefix) })
}

const (
	loopsBegin, loopsEnd     = "<!-- loops:begin -->\n", "<!-- loops:end -->"
	pipesBegin, pipesEnd     = "<!-- pipes:begin -->\n", "<!-- pipes:end -->"
	kernelsBegin, kernelsEnd = "<!-- kernels:begin -->\n", "<!-- kernels:end -->"
)

func (p *report) write(old string) (string, error) {
	text := old
	for _, t := range []struct {
		begin, end string
		devices    []string
		rows       []string
	}{
		{loopsBegin, loopsEnd, devices, p.loopRows()},
		{pipesBegin, pipesEnd, checkedDevices, p.pipeRows()},
		{kernelsBegin, kernelsEnd, devices, p.kernelRows()},
	} {
		_, before, _ := strings.Cut(old, t.begin)
		before, _, _ = strings.Cut(before, t.end)
		if !slices.ContainsFunc(t.rows, isPeer) {
			t.rows = append(t.rows, peerRows(before)...)
		}
		var err error
		if text, err = between(text, t.begin, t.end, row("kernel", t.devices)+"|---"+strings.Repeat("|---", len(t.devices))+"|\n"+strings.Join(t.rows, "")); err != nil {
			return "", err
		}
	}
	return text, nil
}

// between replaces the text between two markers.
func between(text, begin, end, with string) (string, error) {
	head, rest, ok := strings.Cut(text, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("no %s and %s", strings.TrimSpace(begin), end)
	}
	return head + begin + with + end + tail, nil
}

func isPeer(row string) bool { return strings.HasPrefix(row, "| "+peerPrefix) }

func peerRows(text string) []string {
	return slices.DeleteFunc(slices.Collect(strings.Lines(text)), func(row string) bool { return !isPeer(row) })
}

// loopRows returns the rows with instructions per weight and bytes per load.
func (p *report) loopRows() []string {
	var out []string
	for _, v := range slices.Sorted(maps.Keys(p.variants)) {
		var cells []string
		for _, d := range devices {
			if r, ok := p.variants[v][d]; ok && r.Weights > 0 {
				cells = append(cells, fmt.Sprintf("%.2f, %.1f", r.perWeight(), float64(r.Loop.LoadBytes)/float64(r.Loop.Loads)))
			}
		}
		if len(cells) == len(devices) {
			out = append(out, row(v, cells))
		}
	}
	return peersLast(out)
}

func peersLast(rows []string) []string {
	slices.SortStableFunc(rows, func(a, b string) int {
		return strings.Compare(strconv.FormatBool(isPeer(a)), strconv.FormatBool(isPeer(b)))
	})
	return rows
}

// pipeRows returns the rows with instructions of the main loop by pipe, of kernels that have one.
func (p *report) pipeRows() []string {
	var out []string
	for _, v := range slices.Sorted(maps.Keys(p.variants)) {
		var cells []string
		loop := false
		for _, d := range checkedDevices {
			cell := "-"
			if r := p.variants[v][d]; r.Loop.Instructions > 0 {
				cell, loop = pipeCell(r), true
			}
			cells = append(cells, cell)
		}
		if loop {
			out = append(out, row(v, cells))
		}
	}
	return peersLast(out)
}

// kernelRows returns the rows with registers, instructions, bytes of code, waves and cycles.
func (p *report) kernelRows() []string {
	var out []string
	for _, v := range p.ours() {
		var cells []string
		for _, d := range devices {
			cell := "-"
			if r, ok := p.variants[v][d]; ok {
				cell = fmt.Sprintf("%d, %d, %d, %d, %d", r.Registers, r.Instructions, r.CodeBytes, r.Waves, r.Cycles)
				if r.Latency > 0 {
					cell += fmt.Sprintf(" of %d", r.Latency)
				}
				if r.Spills > 0 {
					cell += fmt.Sprintf(", **%d spills**", r.Spills)
				}
				if r.Kept > 0 {
					cell += fmt.Sprintf(", %d kept", r.Kept)
				}
				if r.Scratch > 0 {
					cell += fmt.Sprintf(", scratch %d", r.Scratch)
				}
			}
			cells = append(cells, cell)
		}
		out = append(out, row(v, cells))
	}
	return out
}

const intelBegin, intelEnd = "<!-- intel:begin -->\n", "<!-- intel:end -->"

// writeIntel puts in the table of Intel's devices.
func (p *report) writeIntel(old string) (string, error) {
	var rows strings.Builder
	for _, v := range p.ours() {
		var cells []string
		for _, d := range intelDevices {
			cell := "-"
			if r, ok := p.variants[v][d]; ok {
				cell = fmt.Sprintf("%d, %d, %d", r.Lanes, r.Registers, r.Cycles)
				if r.Spills > 0 {
					cell += fmt.Sprintf(", **%d spills**", r.Spills)
				}
			}
			cells = append(cells, cell)
		}
		rows.WriteString(row(v, cells))
	}
	head := "| kernel | " + strings.Join(intelDevices, " | ") + " |\n|---" + strings.Repeat("|---", len(intelDevices)) + "|\n"
	return between(old, intelBegin, intelEnd, head+rows.String())
}

func row(name string, cells []string) string {
	return "| " + name + " | " + strings.Join(cells, " | ") + " |\n"
}

// check checks the records against the rules, and the loops against the committed table.
func (p *report) check(committed string) error {
	errs := slices.Clone(p.errs)
	table := map[string][]string{}
	_, text, _ := strings.Cut(committed, loopsBegin)
	text, _, _ = strings.Cut(text, loopsEnd)
	for line := range strings.Lines(text) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); len(cells) == 1+len(devices) {
			table[strings.TrimSpace(cells[0])] = cells[1:]
		}
	}
	for _, v := range p.ours() {
		for i, d := range devices {
			r, ok := p.variants[v][d]
			if !ok || r.Weights == 0 {
				continue
			}
			if table[v] == nil {
				errs = append(errs, fmt.Errorf("%s is not in the committed table: run make isa-report", v))
				break
			}
			number, _, _ := strings.Cut(strings.TrimSpace(table[v][i]), ",")
			limit, err := strconv.ParseFloat(number, 64)
			if err != nil || r.perWeight() > limit+0.005 {
				errs = append(errs, fmt.Errorf("%s: %s takes %.2f instructions a weight, the committed table has %s", d, v, r.perWeight(), number))
			}
		}
	}
	return errors.Join(errs...)
}
