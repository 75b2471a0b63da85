package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"pumice/internal/simt"
)

// most is the sectors of a kernel's requests beside the least, beyond which it needs a reason.
const most = 1.25

// An exception is kernels that may take more.
type exception struct {
	names   string
	kernels *regexp.Regexp
	most    float64
	why     string
}

var exceptions = []exception{
	{"matvec_* without suffix", regexp.MustCompile(`^matvec_([a-z]+\d*|i?q\d_[a-z0-9]+|tq2_0)$`), 7.60,
		"x by single numbers, a unit of a row apart from lane to lane. GPUs take these kernels only where a row is no whole number of units, or without subgroup arithmetic"},
	{"embed_q5_1", regexp.MustCompile(`^embed_q5_1$`), 1.35,
		"words of the records of four rows lie side by side, of which it reads a row's: two words for 32 columns. Once a step"},
	{"matmul_q3_k_dp", regexp.MustCompile(`^matmul_q3_k_dp$`), 1.29,
		"a tile has 64 columns, which are half a sector of weights, and of x's scales; the other half is the next tile's. Only on request"},
	{"matvec_q8_0_dp2", regexp.MustCompile(`^matvec_q8_0_dp2$`), 1.97,
		"a lane takes the two units of a block by two loads one after another: half of each sector is for the second. Sharing units as matvec_q8_0_sg does takes 6 % more instructions on Ampere. And the reason of the other products by dp2"},
	{"matvec_*_dp2 of other types", regexp.MustCompile(`^matvec_.*_dp2$`), 1.74,
		"a lane makes two planes of 16 neighbouring columns of x, which it takes by four loads one after another: each has a quarter of the line that the other three find in the first-level cache"},
	{"attention_totals_*, attention_weights_*", regexp.MustCompile(`^attention_(totals|weights)_`), 4.75,
		"a lane takes a key, quad by quad, the rest of whose sector it finds in the first-level cache; only while a window asks for weights of attention"},
}

// allowed is what a kernel may take.
func allowed(kernel string) float64 {
	for _, e := range exceptions {
		if e.kernels.MatchString(kernel) {
			return e.most
		}
	}
	return most
}

// total is the sectors of loads and stores beside the least.
func (t *Trace) total() float64 {
	a, b := 0, 0
	for _, s := range t.Sites {
		a, b = a+s.Sectors, b+s.LeastSectors
	}
	return ratio(a, b)
}

// check says which kernels take more sectors than they may.
func check(list []traced) error {
	var errs []error
	for _, t := range list {
		if n, limit := t.total(), allowed(t.variant); n > limit+0.005 {
			errs = append(errs, fmt.Errorf("%s: %s takes %.2f times the least sectors, %.2f are allowed; most by %s", t.gpu, t.variant, n, limit, t.site(t.Worst(false))))
		}
	}
	return errors.Join(errs...)
}

// site names a site.
func (t *traced) site(s *Site) string {
	name := "shared memory"
	if s.Binding != simt.Shared {
		name = t.bindings[s.Binding].name
	}
	what := "load"
	if s.Store {
		what = "store"
	}
	if s.Line > 0 {
		name = fmt.Sprintf("%s in line %d", name, s.Line)
	}
	return fmt.Sprintf("%s, %s of %d bytes", name, what, s.Bytes)
}

func cell(x float64) string {
	if x == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", x)
}

// row is a kernel's row up to the columns of other GPUs.
func (t *traced) row() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", t.variant, cell(t.total()), cell(t.Requests(false)), cell(t.Requests(true)), cell(t.Memory(false)), cell(t.Conflicts()))
}

// worst says where most of what is beyond the least is.
func (t *traced) worst() string {
	var list []string
	if s := t.Worst(false); s != nil && ratio(s.Sectors, s.LeastSectors) >= 1.05 && t.total() >= 1.05 {
		list = append(list, fmt.Sprintf("%s: %.2f", t.site(s), ratio(s.Sectors, s.LeastSectors)))
	}
	if s := t.Worst(true); s != nil && t.Conflicts() >= 1.05 {
		list = append(list, fmt.Sprintf("%s: %.2f", t.site(s), ratio(s.Cycles, s.Phases)))
	}
	return strings.Join(list, "; ")
}

// write puts the tables into a report; all has the traces of each GPU in one order.
func write(report string, all [][]traced) (string, error) {
	var b strings.Builder
	b.WriteString("| kernel | sectors | of loads | of stores | bytes | banks |")
	for _, list := range all[1:] {
		fmt.Fprintf(&b, " %s |", list[0].gpu)
	}
	b.WriteString(" most beyond the least |\n|---" + strings.Repeat("|---", 6+len(all)-1) + "|\n")
	for i := range all[0] {
		t := &all[0][i]
		b.WriteString(t.row())
		for _, list := range all[1:] {
			fmt.Fprintf(&b, " %s, %s |", cell(list[i].total()), cell(list[i].Conflicts()))
		}
		if w := t.worst(); w != "" {
			fmt.Fprintf(&b, " %s", w)
		}
		b.WriteString(" |\n")
	}
	report, err := replace(report, "kernels", b.String())
	if err != nil {
		return "", err
	}
	b.Reset()
	b.WriteString("| kernels | at most | why |\n|---|---|---|\n")
	for _, e := range exceptions {
		fmt.Fprintf(&b, "| %s | %.2f | %s |\n", e.names, e.most, e.why)
	}
	return replace(report, "exceptions", b.String())
}

// replace puts text between the markers of a name.
func replace(report, name, text string) (string, error) {
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	i, j := strings.Index(report, begin), strings.Index(report, end)
	if i < 0 || j < i {
		return "", fmt.Errorf("no markers of %s", name)
	}
	return report[:i+len(begin)] + text + report[j:], nil
}
