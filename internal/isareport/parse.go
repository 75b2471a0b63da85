package main

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A block is a basic block of a disassembly.
type block struct {
	name string
	code []string // instructions, without operands' comments
	next []int    // successors
}

var (
	radvLabel  = regexp.MustCompile(`^(BB\d+):`)
	radvTarget = regexp.MustCompile(`^s_c?branch\w* (BB\d+)`)
	nakBlock   = regexp.MustCompile(`^block\S* (\d+) .*-> \{`)
	nakEnd     = regexp.MustCompile(`^\} -> \[(.*)\]`)
)

// parseRADV parses the assembly of Mesa's AMD compiler, which has labels BBn; a branch names its target.
func parseRADV(text string) []block {
	var list []block
	for line := range strings.Lines(text) {
		if m := radvLabel.FindStringSubmatch(line); m != nil {
			list = append(list, block{name: m[1]})
			continue
		}
		code, _, _ := strings.Cut(line, ";")
		if code = strings.TrimSpace(code); code != "" && len(list) > 0 {
			b := &list[len(list)-1]
			b.code = append(b.code, code)
		}
	}
	at := map[string]int{}
	for i, b := range list {
		at[b.name] = i
	}
	for i := range list {
		b := &list[i]
		falls := true
		for _, code := range b.code {
			if m := radvTarget.FindStringSubmatch(code); m != nil {
				b.next = append(b.next, at[m[1]])
				falls = !strings.HasPrefix(code, "s_branch")
			} else if strings.HasPrefix(code, "s_endpgm") {
				falls = false
			}
		}
		if falls && i+1 < len(list) {
			b.next = append(b.next, i+1)
		}
	}
	return list
}

// parseNAK parses the assembly of Mesa's NVIDIA compiler, which prints the graph of blocks.
func parseNAK(text string) []block {
	var list []block
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := nakBlock.FindStringSubmatch(line); m != nil {
			list = append(list, block{name: m[1]})
			continue
		}
		if len(list) == 0 {
			continue
		}
		b := &list[len(list)-1]
		if m := nakEnd.FindStringSubmatch(line); m != nil {
			for _, s := range strings.Split(m[1], ",") {
				if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
					b.next = append(b.next, n)
				}
			}
			continue
		}
		code, _, _ := strings.Cut(line, "//")
		code = strings.TrimSpace(code)
		if _, operation, ok := strings.Cut(code, "= "); ok {
			code = operation // without the results
		} else if strings.HasPrefix(code, "@") {
			_, code, _ = strings.Cut(code, " ") // after the predicate
		}
		if code = strings.TrimSpace(code); code != "" {
			b.code = append(b.code, code)
		}
	}
	return list
}

// A loop has the blocks that an iteration may execute.
type loop struct {
	blocks map[int]bool
	inner  []loop
}

// loops finds the loops among the blocks of a set, as strongly connected components (Tarjan 1972). The loops inside a
// loop are those of its blocks without its entries.
func loops(list []block, set map[int]bool) []loop {
	var out []loop
	index, low := map[int]int{}, map[int]int{}
	var stack []int
	var visit func(b int)
	visit = func(b int) {
		index[b], low[b] = len(index), len(index)
		stack = append(stack, b)
		again := false
		for _, n := range list[b].next {
			again = again || n == b
			if !set[n] {
				continue
			}
			if _, seen := index[n]; !seen {
				visit(n)
				low[b] = min(low[b], low[n])
			} else if slices.Contains(stack, n) {
				low[b] = min(low[b], index[n])
			}
		}
		if low[b] != index[b] {
			return
		}
		at := slices.Index(stack, b)
		l := loop{blocks: map[int]bool{}}
		for _, x := range stack[at:] {
			l.blocks[x] = true
		}
		stack = stack[:at]
		if len(l.blocks) > 1 || again {
			out = append(out, l)
		}
	}
	for b := range list {
		if _, seen := index[b]; set[b] && !seen {
			visit(b)
		}
	}
	for i := range out {
		rest := maps.Clone(out[i].blocks)
		for b := range list {
			for _, n := range list[b].next {
				if !out[i].blocks[b] && out[i].blocks[n] {
					delete(rest, n) // an entry of the loop
				}
			}
		}
		out[i].inner = loops(list, rest)
	}
	return out
}

func (l *loop) first() int { return slices.Min(slices.Collect(maps.Keys(l.blocks))) }

// idle matches directives to the scheduler, which no unit executes.
var idle = []string{"s_delay_alu", "s_waitcnt", "s_wait_", "s_clause", "s_nop", "nop", "s_set_inst_prefetch"}

func counts(code string) bool {
	return !slices.ContainsFunc(idle, func(p string) bool { return strings.HasPrefix(code, p) })
}

var loadWidth = regexp.MustCompile(`^(?:buffer|global)_load_(?:d16_)?(?:hi_)?(ubyte|sbyte|ushort|sshort|short|u8|i8|b8|u16|i16|b16|dwordx2|dwordx3|dwordx4|dword|b32|b64|b96|b128)\b|^ld\.global\S*?\.(u8|s8|b8|u16|s16|b16|b32|b64|b128)\b`)

var widths = map[string]int{
	"ubyte": 1, "sbyte": 1, "u8": 1, "i8": 1, "s8": 1, "b8": 1, "ushort": 2, "sshort": 2, "short": 2, "u16": 2, "i16": 2, "s16": 2, "b16": 2,
	"dword": 4, "b32": 4, "dwordx2": 8, "b64": 8, "dwordx3": 12, "b96": 12, "dwordx4": 16, "b128": 16,
}

// A Work has the cost of one iteration of a loop.
type Work struct {
	Instructions, Loads, LoadBytes int
	Pipes                          [pipes]int // instructions by pipe
	FloatDots                      int        `json:",omitempty"` // of those of FMA that do two multiply-adds of float16 numbers
}

// withoutFloatDots is the work of a device that has no such instruction.
func (w Work) withoutFloatDots() Work {
	w.Instructions, w.Pipes[fma], w.FloatDots = w.Instructions+w.FloatDots, w.Pipes[fma]+w.FloatDots, 0
	return w
}

var floatDot = regexp.MustCompile(`\bv_(dual_)?dot2(c|acc)?_f32_f16\b`) // of which a dual instruction may have two

// add adds n times x.
func (w *Work) add(n int, x Work) {
	w.Instructions, w.Loads, w.LoadBytes = w.Instructions+n*x.Instructions, w.Loads+n*x.Loads, w.LoadBytes+n*x.LoadBytes
	for p := range w.Pipes {
		w.Pipes[p] += n * x.Pipes[p]
	}
	w.FloatDots += n * x.FloatDots
}

// share is one of n equal shares.
func (w Work) share(n int) Work {
	w.Instructions, w.Loads, w.LoadBytes = w.Instructions/n, w.Loads/n, w.LoadBytes/n
	for p := range w.Pipes {
		w.Pipes[p] /= n
	}
	return w
}

// mainLoop returns the work of one iteration of the outermost loop with the most matrix instructions and, of several, the most
// expensive one. A loop inside it counts as
// `inner` iterations, or those directly inside, if there are so many, as each of `each` in turn; known is false if there are more or
// fewer.
func mainLoop(list []block, inner int, each []int) (best Work, known bool) {
	all := map[int]bool{}
	for b := range list {
		all[b] = true
	}
	known = true
	for _, l := range loops(list, all) {
		trips := slices.Repeat([]int{inner}, len(l.inner))
		fits := len(each) == 0 || len(l.inner) == len(each)
		if fits && len(each) > 0 {
			trips = each
		}
		if w := l.work(list, inner, trips); cmp.Or(cmp.Compare(w.Pipes[matrix], best.Pipes[matrix]), cmp.Compare(w.Instructions, best.Instructions)) > 0 {
			best, known = w, fits
		}
	}
	return best, known
}

func (l *loop) work(list []block, inner int, trips []int) Work {
	var w Work
	outer := maps.Clone(l.blocks)
	slices.SortFunc(l.inner, func(x, y loop) int { return x.first() - y.first() })
	for i, in := range l.inner {
		for b := range in.blocks {
			delete(outer, b)
		}
		w.add(trips[i], in.work(list, inner, slices.Repeat([]int{inner}, len(in.inner))))
	}
	for b := range outer {
		for _, code := range list[b].code {
			if !counts(code) {
				continue
			}
			w.Instructions++
			w.Pipes[pipeOf(code)]++
			w.FloatDots += len(floatDot.FindAllString(code, -1))
			if m := loadWidth.FindStringSubmatch(code); m != nil {
				w.Loads++
				w.LoadBytes += widths[m[1]+m[2]]
			}
		}
	}
	return w
}

// matrixInstruction and dotInstruction match instructions that `cm` and `dp` variants must have; intelMatrix and intelDot the
// same in the text of Intel's compiler, where a line may begin with a predicate.
var (
	matrixInstruction = regexp.MustCompile(`^(v_wmma|v_swmmac|v_mfma|hmma|imma)`)
	dotInstruction    = regexp.MustCompile(`^(v_dot4|v_dot4c|idp4)`)

	intelMatrix = regexp.MustCompile(`(?m)^(\([^)]*\) )?dpas[.(]`)
	intelDot    = regexp.MustCompile(`(?m)^(\([^)]*\) )?dp4a[.(]`)
)

func has(list []block, pattern *regexp.Regexp) bool {
	for _, b := range list {
		if slices.ContainsFunc(b.code, pattern.MatchString) {
			return true
		}
	}
	return false
}
