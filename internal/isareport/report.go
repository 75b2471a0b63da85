package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"pumice/pipeline/kernels"
)

// A report has, by variant and device, the worst statistics over all constants of the kernel. For the loop of a
// mat-vec it has those of the plain kernel, which has the fewest instructions.
type report struct {
	variants map[string]map[string]Record
	prompts  map[string]map[string]promptCost // of products of several tokens and attention
	errs     []error
}

func newReport(all map[string][]Record) *report {
	p := &report{variants: map[string]map[string]Record{}, prompts: map[string]map[string]promptCost{}}
	for _, device := range slices.Sorted(maps.Keys(all)) {
		by := map[string][]Record{}
		for _, r := range all[device] {
			by[r.Variant] = append(by[r.Variant], r)
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
		for v, list := range by {
			if r, ok := promptRecord(list); ok {
				if p.prompts[v] == nil {
					p.prompts[v] = map[string]promptCost{}
				}
				p.prompts[v][device] = r.promptCost(device)
			}
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
	if (strings.HasSuffix(r.Variant, "_dp") || strings.HasSuffix(r.Variant, "_dp2")) && !r.Dot {
		p.errs = append(p.errs, fmt.Errorf("%s: %s has no dot instruction", device, r.Kernel))
	}
	if strings.HasPrefix(device, "navi") && strings.HasSuffix(r.Variant, "_fp16") && r.Products > 0 && r.Loop.FloatDots < r.Products/2 {
		p.errs = append(p.errs, fmt.Errorf("%s: %s has %d dots of float16 numbers of %d products", device, r.Kernel, r.Loop.FloatDots, r.Products))
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
	text, err := between(old, promptsBegin, promptsEnd, row("kernel", devices)+"|---"+strings.Repeat("|---", len(devices))+"|\n"+strings.Join(p.promptRows(old), "")+excessRows(excesses)+"\n")
	if err != nil {
		return "", err
	}
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
		if isPeer("| "+v) && p.prompts[v] != nil { // which has a table of its own
			continue
		}
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

// check checks the records against the rules, and against the committed tables: loops may not be longer, no kernel may hold fewer
// subgroups, and products of one token may not be worse than the peer's.
func (p *report) check(committed string) error {
	errs := slices.Clone(p.errs)
	loops, whole := cells(committed, loopsBegin, loopsEnd, devices), cells(committed, kernelsBegin, kernelsEnd, devices)
	peers := cells(committed, pipesBegin, pipesEnd, checkedDevices)
	for _, v := range p.ours() {
		for _, d := range devices {
			r, ok := p.variants[v][d]
			if !ok {
				continue
			}
			if waves, ok := numbers(whole[v][d], 4); ok && r.Waves < int(waves[3]) {
				errs = append(errs, fmt.Errorf("%s: %s leaves room for %d subgroups, the committed table has %g", d, v, r.Waves, waves[3]))
			}
			if r.Weights == 0 {
				continue
			}
			if loops[v] == nil {
				errs = append(errs, fmt.Errorf("%s is not in the committed table: run make isa-report", v))
				break
			}
			number, _, _ := strings.Cut(loops[v][d], ",")
			limit, err := strconv.ParseFloat(number, 64)
			if err != nil || r.perWeight() > limit+0.005 {
				errs = append(errs, fmt.Errorf("%s: %s takes %.2f instructions a weight, the committed table has %s", d, v, r.perWeight(), number))
			}
			if peer := peerOf(v); loops[peer] != nil {
				errs = append(errs, beatsPeer(d, r, peer, loops[peer][d], peers[peer][d]))
			}
		}
	}
	return errors.Join(append(errs, p.checkPrompts(committed, excesses))...)
}

// peerOf is the peer's kernel for what a variant computes, or no kernel's name.
func peerOf(variant string) string {
	kind, ok := strings.CutPrefix(variant, "matvec_")
	path := kernels.PathOf(variant)
	if !ok || path == kernels.Base { // which GPUs use only where they lack subgroup arithmetic
		return ""
	}
	return peerPrefix + "mul_mat_vec_" + strings.TrimSuffix(kind, "_"+string(path))
}

// beatsPeer says where a loop is worse than the peer's, of which cells of the tables of loops and of pipes are given: in
// instructions a weight, bytes a load, or clocks a weight of the fullest pipe. byPipe is "" on devices that the second does not
// have.
func beatsPeer(device string, r Record, peer, loop, byPipe string) error {
	theirs, ok := numbers(loop, 2)
	if !ok {
		return fmt.Errorf("%s: the committed table has no numbers of %s: %q", device, peer, loop)
	}
	var errs []error
	if r.perWeight() > theirs[0]+0.005 {
		errs = append(errs, fmt.Errorf("%s: %s takes %.2f instructions a weight, %s %.2f", device, r.Variant, r.perWeight(), peer, theirs[0]))
	}
	if bytes := float64(r.Loop.LoadBytes) / float64(r.Loop.Loads); bytes < theirs[1]-0.05 {
		errs = append(errs, fmt.Errorf("%s: a load of %s has %.1f bytes, of %s %.1f", device, r.Variant, bytes, peer, theirs[1]))
	}
	if byPipe == "" {
		return errors.Join(errs...)
	}
	counts, err := parsePipes(byPipe)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("%s: %s: %w", device, peer, err))...)
	}
	own := [pipes]float64{}
	for q, n := range r.Loop.Pipes {
		own[q] = float64(n) / float64(r.Weights)
	}
	if ours, limit := fullest(device, own), fullest(device, counts); ours > limit+0.0005 {
		errs = append(errs, fmt.Errorf("%s: %s takes %.4f clocks a weight and unit, %s %.4f", device, r.Variant, ours, peer, limit))
	}
	return errors.Join(errs...)
}

// cells reads a table of a document: the cells of each row by the column's device.
func cells(text, begin, end string, columns []string) map[string]map[string]string {
	table := map[string]map[string]string{}
	_, text, _ = strings.Cut(text, begin)
	text, _, _ = strings.Cut(text, end)
	for line := range strings.Lines(text) {
		list := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(list) != 1+len(columns) {
			continue
		}
		row := map[string]string{}
		for i, c := range columns {
			row[c] = strings.TrimSpace(list[1+i])
		}
		table[strings.TrimSpace(list[0])] = row
	}
	return table
}

// numbers reads the first n numbers of a cell.
func numbers(cell string, n int) ([]float64, bool) {
	parts := strings.Split(cell, ",")
	if len(parts) < n {
		return nil, false
	}
	list := make([]float64, n)
	for i := range list {
		var err error
		if list[i], err = strconv.ParseFloat(strings.TrimSpace(parts[i]), 64); err != nil {
			return nil, false
		}
	}
	return list, true
}
