package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"pumice/internal/screen"
	"pumice/pipeline/kernels"
)

const promptsBegin, promptsEnd = "<!-- prompts:begin -->\n", "<!-- prompts:end -->"

// A cost of a product of several tokens, or of attention: what a loop takes, and what a unit has room for.
type promptCost struct {
	instructions float64 // of 32 lanes, for a thousand multiply-adds
	clocks       float64 // of a unit, of the pipe that takes longest, for as many
	loadBytes    float64 // of a load
	registers    int
	subgroups    int
	shared       int // bytes
}

// promptCost is a record's, of a device of tools/mesa.sh. An instruction of 64 lanes counts as two unless all lanes share what it
// does, as a matrix.
func (r *Record) promptCost(device string) promptCost {
	c := promptCost{registers: r.Registers, subgroups: r.Waves, shared: r.Shared}
	per := 1000 / float64(r.Products)
	own := [pipes]float64{}
	for p, n := range r.Loop.Pipes {
		own[p] = per * float64(n)
		lanes := 32
		if pipe(p) == matrix || pipe(p) == scalar {
			lanes = max(32, r.Lanes)
		}
		c.instructions += own[p] / float64(lanes)
	}
	c.clocks = fullest(device, own)
	if r.Loop.Loads > 0 {
		c.loadBytes = float64(r.Loop.LoadBytes) / float64(r.Loop.Loads)
	}
	return c
}

func (c promptCost) String() string { return c.beside(promptCost{}) }

// beside is what tables have of a cost: in bold where it is worse than the peer's, if that is not zero.
func (c promptCost) beside(peer promptCost) string {
	var list []string
	for _, m := range promptMeasures {
		number := fmt.Sprintf("%.*f", m.digits, *m.of(&c))
		if peer != (promptCost{}) && m.worse(c, peer) {
			number = "**" + number + "**"
		}
		list = append(list, number)
	}
	return fmt.Sprintf("%s, %d, %d, %d", strings.Join(list, ", "), c.registers, c.subgroups, c.shared)
}

// A promptMeasure is a number in which a kernel may be no worse than the peer's.
type promptMeasure struct {
	what   string
	digits int  // behind the point
	most   bool // the higher, the better
	of     func(*promptCost) *float64
}

var promptMeasures = []promptMeasure{
	{"instructions", 2, false, func(c *promptCost) *float64 { return &c.instructions }},
	{"clocks", 2, false, func(c *promptCost) *float64 { return &c.clocks }},
	{"bytes a load", 1, true, func(c *promptCost) *float64 { return &c.loadBytes }},
}

// worse reports whether a cost is worse than another one as tables have it.
func (m promptMeasure) worse(c, than promptCost) bool {
	by := *m.of(&c) - *m.of(&than)
	if m.most {
		by = -by
	}
	return by > 0.5*math.Pow10(-m.digits)
}

// parsePromptCost reads the first numbers of a cell.
func parsePromptCost(cell string) (c promptCost, ok bool) {
	list, ok := numbers(strings.ReplaceAll(cell, "**", ""), len(promptMeasures))
	for i, m := range promptMeasures {
		if ok {
			*m.of(&c) = list[i]
		}
	}
	return c, ok
}

// promptPeers are the peer's kernels for what a variant computes, first the one that ours may be no worse than.
func promptPeers(variant string) []string {
	path := kernels.PathOf(variant)
	op, kind, _ := strings.Cut(strings.TrimSuffix(variant, "_"+string(path)), "_")
	var list []string
	switch {
	case op == "matmul" && path == kernels.CM:
		list = []string{"matmul_" + kind + "_cm1", "matmul_" + kind + "_f16acc_cm1"}
	case op == "matmul" && path == kernels.FP16:
		list = []string{"matmul_" + kind, "matmul_" + kind + "_f16acc"}
	case op == "matmul" && path == kernels.DP:
		list = []string{"matmul_" + kind + "_q8_1"}
	case op == "matmul" && path == kernels.Few:
		list = []string{"mul_mat_vec_" + kind + "_8"}
	case variant == "attention_f16_cm":
		list = []string{"flash_attn_f16_cm1"}
	case variant == "attention_f16":
		list = []string{"flash_attn_f16"}
	case variant == "attention_decode_f16_sg":
		list = []string{"flash_attn_f16_1"}
	}
	for i := range list {
		list[i] = peerPrefix + list[i]
	}
	return list
}

// promptRecord is the record by which a kernel is compared: of a product that with the largest tile, of attention with heads of 128
// that share no keys.
func promptRecord(list []Record) (Record, bool) {
	list = slices.DeleteFunc(slices.Clone(list), func(r Record) bool {
		other := func(c string) bool { // of heads
			name, value, _ := strings.Cut(c, "=")
			return name == "HEAD_DIM" && value != "128" || name == "GROUP" && value != "1"
		}
		return r.Products == 0 || strings.HasPrefix(r.Variant, "attention_") && slices.ContainsFunc(strings.Fields(r.Constants), other)
	})
	if len(list) == 0 {
		return Record{}, false
	}
	return slices.MaxFunc(list, func(x, y Record) int {
		return cmp.Or(cmp.Compare(x.Products, y.Products), cmp.Compare(y.Loop.Instructions, x.Loop.Instructions), cmp.Compare(y.Constants, x.Constants))
	}), true
}

// promptRows returns the rows of products of several tokens and of attention, each before the peer's: those of records, or of the
// table before.
func (p *report) promptRows(before string) []string {
	old := cells(before, promptsBegin, promptsEnd, devices)
	var out []string
	for _, v := range p.ours() {
		peers := promptPeers(v)
		if len(peers) == 0 || p.prompts[v] == nil {
			continue
		}
		rows := make([][]string, 1+len(peers))
		for _, d := range devices {
			var first promptCost
			for i, name := range peers {
				cell := cmp.Or(old[name][d], "-")
				if c, ok := p.prompts[name][d]; ok {
					cell = c.String()
				}
				if i == 0 {
					first, _ = parsePromptCost(cell)
				}
				rows[1+i] = append(rows[1+i], cell)
			}
			cell := "-"
			if c, ok := p.prompts[v][d]; ok {
				cell = c.beside(first)
			}
			rows[0] = append(rows[0], cell)
		}
		if some := func(cell string) bool { return cell != "-" }; !slices.ContainsFunc(rows[1], some) {
			continue // the peer has no such kernel
		}
		for i, name := range append([]string{v}, peers...) {
			if slices.ContainsFunc(rows[i], func(cell string) bool { return cell != "-" }) {
				out = append(out, row(name, rows[i]))
			}
		}
	}
	return out
}

// An excess is where kernels are known to be worse than the peer's, by no more than the committed table says.
type excess struct {
	name     string
	variants *regexp.Regexp
	devices  []string
	measures []string
	why      string
}

func (x *excess) has(device, variant, what string) bool {
	return slices.Contains(x.devices, device) && x.variants.MatchString(variant) && slices.Contains(x.measures, what)
}

var excesses = []excess{
	{"`matmul_*_cm` of Q4_K and Q5_K", regexp.MustCompile(`^matmul_(q4_k|q5_k)_cm$`), []string{"navi31"}, []string{"bytes a load"},
		"our activations are float16, llama.cpp's float32, so that it has more loads of 16 bytes beside those of scales."},
	{"`matmul_*_fp16` of four", regexp.MustCompile(`^matmul_(f16|q4_k|q5_1|q5_k)_fp16$`), []string{"navi31", "ampere"}, []string{"bytes a load"}, "the same."},
	{"`matmul_*_fp16`", regexp.MustCompile(`^matmul_.*_fp16$`), []string{"navi31"}, []string{"instructions", "clocks"},
		"an invocation has 64 sums and llama.cpp's 128, with which a SIMD unit holds 6 subgroups, and 10 of ours. The device has matrices, which rules choose instead."},
	{"`matmul_*_fp16`", regexp.MustCompile(`^matmul_.*_fp16$`), []string{"ampere"}, []string{"instructions", "clocks"},
		"the same: it converts more numbers from shared memory for a sum."},
	{"`matmul_*_dp`", regexp.MustCompile(`^matmul_.*_dp$`), []string{"navi31", "ampere"}, []string{"instructions", "clocks", "bytes a load"},
		"an invocation has 64 sums and llama.cpp's 128. Used on request."},
	{"`attention_decode_f16_sg`", regexp.MustCompile(`^attention_decode_f16_sg$`), []string{"navi31", "ampere"}, []string{"clocks"},
		"sums of values are float32; llama.cpp's are float16, which need no conversion."},
	{"`attention_f16`", regexp.MustCompile(`^attention_f16$`), []string{"navi31", "ampere"}, []string{"instructions", "bytes a load"},
		"the same; it takes fewer clocks there."},
}

// excessRows lists the known excesses, whose numbers are bold in the table, with the reason of each.
func excessRows(excesses []excess) string {
	var b strings.Builder
	for _, x := range excesses {
		text := fmt.Sprintf("%s on %s, %s: %s", x.name, strings.Join(x.devices, " and "), strings.Join(x.measures, ", "), x.why)
		b.WriteString("\n- " + strings.Join(screen.Wrap(text, 118), "\n  "))
	}
	return b.String()
}

// checkPrompts says where a product of several tokens or attention is worse than the peer's in the committed table, but for
// excesses, which may not grow, and of which excesses nothing is left.
func (p *report) checkPrompts(committed string, excesses []excess) error {
	var errs []error
	table := cells(committed, promptsBegin, promptsEnd, devices)
	had, left := make([]bool, len(excesses)), make([]bool, len(excesses))
	for _, v := range p.ours() {
		names := promptPeers(v)
		if len(names) == 0 {
			continue
		}
		for _, d := range checkedDevices {
			ours, ok := p.prompts[v][d]
			theirs, ok2 := parsePromptCost(table[names[0]][d])
			if !ok || !ok2 {
				continue
			}
			before, ok := parsePromptCost(table[v][d])
			for _, m := range promptMeasures {
				i := slices.IndexFunc(excesses, func(x excess) bool { return x.has(d, v, m.what) })
				if i >= 0 {
					had[i] = true
				}
				switch {
				case !m.worse(ours, theirs):
				case i < 0:
					errs = append(errs, fmt.Errorf("%s: %s has %.*f %s, %s %.*f", d, v, m.digits, *m.of(&ours), m.what, names[0], m.digits, *m.of(&theirs)))
				case !ok:
					errs = append(errs, fmt.Errorf("%s: %s is not in the committed table: run make isa-report", d, v))
				case m.worse(ours, before):
					errs = append(errs, fmt.Errorf("%s: %s has %.*f %s, the committed table %.*f", d, v, m.digits, *m.of(&ours), m.what, m.digits, *m.of(&before)))
				default:
					left[i] = true
				}
			}
		}
	}
	for i, x := range excesses {
		if had[i] && !left[i] && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("%s: no longer worse than the peer's: it is no excess", x.name))
		}
	}
	return errors.Join(errs...)
}
