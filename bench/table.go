package bench

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"pumice/internal/humanize"
)

// TableHead begins the Markdown table; its columns are llama-bench's, then the median and the spread of the
// runs, the share of what bounds them (the read bandwidth, or the peak of an arithmetic), the energy of a token, and how many of
// the kernels are right.
const TableHead = `| model                          |       size |     params | backend          | path |            test |                  t/s |     median | spread |   of limit | J/token | kernels right |
| ------------------------------ | ---------: | ---------: | ---------------- | ---- | --------------: | -------------------: | ---------: | -----: | ---------: | ------: | ------------: |
`

// TableRow is a result as a row of the table.
func TableRow(r Result) string {
	speed := fmt.Sprintf("%.2f ± %.2f", r.AvgTS, r.StddevTS)
	switch {
	case len(r.SampleTS) == 0:
		speed = "none"
	case r.Struck:
		speed = "~~" + speed + "~~"
	}
	return fmt.Sprintf("| %-30s | %10s | %10s | %-16s | %-4s | %15s | %20s | %10.2f | %6s | %10s | %7s | %13s |\n", clip(r.ModelType, 30), humanize.Bytes(r.ModelSize),
		parameters(r.ModelNParams, 2), r.backend(), r.KernelPath, r.Test().Name(), speed, r.MedianTS, r.Steadiness.cell(), r.limitCell(), r.Energy.cell(), r.Stamp.cell())
}

// backend is the column of that name, of a peer its program. A CPU driver is one in every row, and a device that is not the first
// has its number.
func (s Setup) backend() string {
	name := s.Backends
	if s.ofPeer() {
		name = clip(s.Program, 16)
	} else if s.MainGPU > 0 {
		name += fmt.Sprint(s.MainGPU)
	}
	if s.SoftwareOnly {
		name += " CPU"
	}
	return name
}

// cell is the spread, with a mark if it is too much or the row ended early.
func (s Steadiness) cell() string {
	text := fmt.Sprintf("%.1f%%", 100*s.Spread)
	if s.Noisy || len(s.Reasons) > 0 {
		text = "!" + text
	}
	return text
}

// marked explains the mark of a row; it is empty of rows without.
func (s Steadiness) marked(name string) string {
	var why []string
	if s.Error != "" {
		why = append(why, s.Error)
	}
	if s.Noisy {
		why = append(why, fmt.Sprintf("a spread of %.1f %%, above %.1f %%", 100*s.Spread, 100*s.SpreadLimit))
	}
	if why = append(why, s.Reasons...); len(why) == 0 {
		return ""
	}
	return fmt.Sprintf("! %s: %s\n", name, strings.Join(why, "; "))
}

// TableFoot says what the figures were measured on, and what a prompt and a generated token cost.
func TableFoot(results []Result) string {
	if len(results) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n")
	rows := NewFile("", results).measurements()
	b.WriteString(laneLines(rows) + stampLines(rows) + markLines(rows))
	for _, r := range results {
		if r.Score != nil {
			b.WriteString(r.Score.line())
		}
	}
	for _, r := range results {
		if len(r.SampleTS) == 0 || r.ofPeer() { // another program tells no such thing
			continue
		}
		switch c := r.Counters; {
		case r.NPrompt > 0 && r.NGen > 0: // its parts are tests of their own
		case r.NGen > 0:
			share := "no room to measure the copy bandwidth"
			if r.CopyBandwidth > 0 {
				share = fmt.Sprintf("%.0f %% of the copy bandwidth", 100*r.BytesPerSec/r.CopyBandwidth)
			}
			if r.ReadShare > 0 {
				share += fmt.Sprintf(", %.0f %% of the read bandwidth", 100*r.ReadShare)
			}
			fmt.Fprintf(&b, "%s, each token: %s, %d dispatches, %d barriers; reads %.1f MB of weights and %.1f MB of KV cache, of at least %.1f MB; %.2f GB/s, %s; %d bytes to the device, %d back\n",
				r.Test().Name(), submissions(c.Submits), c.Dispatches, c.Barriers, float64(c.WeightBytes)/1e6, float64(c.KVBytes)/1e6, float64(c.MinimumBytes)/1e6,
				r.BytesPerSec/1e9, share, c.HostToDeviceBytes, c.DeviceToHostBytes)
		default:
			peak := ""
			if r.PeakFLOPs > 0 {
				peak = fmt.Sprintf(", %.0f %% of the %s peak of %.1f", 100*r.PeakShare, r.PeakKind, r.PeakFLOPs/1e9)
			}
			fmt.Fprintf(&b, "%s, the prompt: %s, %d dispatches; products of %.1f GFLOP, %.1f GFLOP/s%s\n",
				r.Test().Name(), submissions(c.Submits), c.Dispatches, float64(c.Operations)/1e9, r.FLOPs/1e9, peak)
		}
	}
	b.WriteString(againstTable(rows))
	return b.String()
}

func submissions(n int64) string {
	if n == 1 {
		return "1 submission"
	}
	return fmt.Sprintf("%d submissions", n)
}

// ParallelHead begins the Markdown table of parallel sequences: after what they ran on its columns are llama-batched-bench's, then
// the spread of the whole time, the energy of a token, and how many of the kernels are right.
const ParallelHead = `| backend          |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s | spread | J/token | kernels right |
| ---------------- |------:|-------:|-----:|-------:|---------:|---------:|---------:|---------:|---------:|---------:|-------:|--------:|--------------:|
`

// ParallelRow is a result as a row of the table.
func ParallelRow(r ParallelResult) string {
	speed := fmt.Sprintf("%.2f", r.Speed)
	switch {
	case len(r.Samples) == 0:
		speed = "none"
	case r.Struck:
		speed = "~~" + speed + "~~"
	}
	return fmt.Sprintf("| %-16s | %5d | %6d | %4d | %6d | %8.3f | %8.2f | %8.3f | %8.2f | %8.3f | %8s | %6s | %7s | %13s |\n",
		r.backend(), r.Prompt, r.Gen, r.Sequences, r.Positions, r.PromptTime, r.PromptSpeed, r.GenTime, r.GenSpeed, r.Time, speed, r.Steadiness.cell(), r.Energy.cell(),
		r.Stamp.cell())
}

// ParallelFoot says what the figures were measured on.
func ParallelFoot(results []ParallelResult) string {
	if len(results) == 0 {
		return ""
	}
	r, rows := results[0], NewFile("", results).measurements()
	return fmt.Sprintf("\nmodel: %s %s; repetitions: %d\n", r.ModelType, filepath.Base(r.ModelFilename), len(r.Samples)) +
		laneLines(rows) + stampLines(rows) + markLines(rows) + againstTable(rows)
}

// stampLines explain the stamps, once for the rows of a model.
func stampLines(rows []measurement) (text string) {
	last := ""
	for _, m := range rows {
		if m.Stamped && m.line() != last { // another program's rows have no stamp
			last = m.line()
			text += m.ModelType + ": " + last
		}
	}
	return text
}

// markLines explain the marks of rows.
func markLines(rows []measurement) (text string) {
	for _, m := range rows {
		name := m.test
		if m.ofPeer() {
			name = m.Program + ", " + name
		}
		text += m.marked(name)
	}
	return text
}

// laneLines name each device and program, once.
func laneLines(rows []measurement) (text string) {
	seen := map[string]bool{}
	for _, m := range rows {
		lane := m.Program + ": " + cmp.Or(m.GPUInfo, m.CPUInfo)
		switch {
		case seen[lane]:
		case !m.ofPeer():
			text += deviceLines(m.Setup)
		case m.Backends != "": // it has told what it runs on
			text += fmt.Sprintf("%s, %s\n", lane, m.Backends)
		}
		seen[lane] = true
	}
	return text
}

// deviceLines name the device.
func deviceLines(s Setup) string {
	text := fmt.Sprintf("device: %s, %s\n", s.GPUInfo, s.Driver)
	if s.SoftwareOnly {
		text += "this is a CPU driver: the figures say nothing about a GPU\n"
	}
	return text
}

// Profile lists what the kernels of a result took at each size, longest first.
func Profile(r Result) string {
	list := longest(r.Kernels)
	var sum int64
	for _, k := range list {
		sum += k.NS
	}
	var b strings.Builder
	reads := "not measured"
	if r.ReadBandwidth > 0 {
		reads = fmt.Sprintf("%.2f GB/s", r.ReadBandwidth/1e9)
	}
	fmt.Fprintf(&b, "\n%s, the last run: %.3f ms; read bandwidth %s\n", r.Test().Name(), float64(sum)/1e6, reads)
	fmt.Fprintf(&b, "%9s %5s %5s %-26s %16s %9s %9s %8s %5s %9s\n", "ms", "%", "calls", "kernel", "size", "us each", "MB each", "GB/s", "read", "GFLOP/s")
	figure := func(known bool, format string, v float64) string {
		if !known {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	for _, k := range list {
		calls := float64(max(k.Calls, 1))
		b.WriteString(strings.TrimRight(fmt.Sprintf("%9.3f %5.1f %5d %-26s %16s %9.1f %9s %8s %5s %9s",
			float64(k.NS)/1e6, 100*float64(k.NS)/float64(max(sum, 1)), k.Calls, k.Kernel, k.Size, float64(k.NS)/1e3/calls,
			figure(k.Bytes > 0, "%.3f", float64(k.Bytes)/1e6/calls), figure(k.Bytes > 0, "%.2f", k.BytesPerSec/1e9),
			figure(k.ReadShare > 0, "%.0f %%", 100*k.ReadShare), figure(k.Operations > 0, "%.1f", k.FLOPs/1e9)), " ") + "\n")
	}
	return b.String()
}

// parameters is a number of parameters as llama-bench has it: 134.52 M, 7.24 B.
func parameters(n int64, decimals int) string {
	if n < 1e9 {
		return fmt.Sprintf("%.*f M", decimals, float64(n)/1e6)
	}
	return fmt.Sprintf("%.*f B", decimals, float64(n)/1e9)
}

// Plain is text with its Markdown tables as plain columns, two spaces apart. A table without the line that begins it keeps the
// widths of its cells, so that rows may come one by one.
func Plain(text string) string {
	var b strings.Builder
	var table [][]string
	var right []bool // columns that are aligned to the right
	end := func() {
		var widths []int
		for _, cells := range table {
			for i, cell := range cells {
				if i == len(widths) {
					widths = append(widths, 0)
				}
				widths[i] = max(widths[i], len([]rune(cell)))
			}
		}
		for _, cells := range table {
			var line strings.Builder
			for i, cell := range cells {
				room := strings.Repeat(" ", widths[i]-len([]rune(cell)))
				if i < len(right) && right[i] {
					cell, room = room+cell, ""
				}
				line.WriteString(cell + room + "  ")
			}
			b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		}
		table, right = nil, nil
	}
	for line := range strings.Lines(text) {
		row, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "|")
		if !ok {
			end()
			b.WriteString(line)
			continue
		}
		cells := strings.Split(strings.TrimSuffix(row, "|"), "|")
		if strings.Trim(row, "|-: ") == "" {
			for _, cell := range cells {
				right = append(right, strings.HasSuffix(strings.TrimSpace(cell), ":"))
			}
			continue
		}
		for i, cell := range cells {
			cells[i] = strings.TrimSuffix(strings.TrimPrefix(cell, " "), " ")
		}
		table = append(table, cells)
	}
	end()
	return b.String()
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// A Row is a result of any kind.
type Row interface {
	Result | ParallelResult | LoadResult
}

// CSVHead lists the columns of CSVRow: a result's keys of single values, as in its JSON.
func CSVHead[R Row]() []string {
	var head []string
	scalars(reflect.ValueOf(*new(R)), func(name, _ string) { head = append(head, name) })
	return head
}

// CSVRow is a result as a row of CSV.
func CSVRow[R Row](r R) []string {
	var row []string
	scalars(reflect.ValueOf(r), func(_, value string) { row = append(row, value) })
	return row
}

// scalars calls f for the fields of a structure that are single values, by their names in JSON.
func scalars(v reflect.Value, f func(name, value string)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch v.Field(i).Kind() {
		case reflect.Struct:
			if field.Anonymous {
				scalars(v.Field(i), f)
			}
		case reflect.Slice:
		case reflect.Pointer:
			switch x := v.Field(i); {
			case x.Type().Elem().Kind() == reflect.Struct:
			case x.IsNil():
				f(name, "")
			default:
				f(name, fmt.Sprint(x.Elem().Interface()))
			}
		default:
			f(name, fmt.Sprint(v.Field(i).Interface()))
		}
	}
}
