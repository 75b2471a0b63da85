// Command mutate shows that verification notices mistakes in the kernels: it makes small changes to the GLSL of
// shaders/, one at a time, and runs the cases of package verify on each.
//
//	go run ./tools/mutate [-seed N] [-n 10] [-op NAME,...] [-v]
//
// An op's mutants are spread over its sources. A mutant whose SPIR-V is that of the kernel, or that equivalent.txt
// lists with a reason, is not run. Any other must give a wrong result, or end its process. Each runs in a
// process of its own with limits on processor time and memory, on the driver whose stage of tools/test.sh runs the
// kernel. The exit status is 1 when a mutant survives.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"pumice/pipeline/kernels"
	"pumice/shaders"
)

func main() {
	seed := flag.Uint64("seed", 1, "of the choice of mutants")
	n := flag.Int("n", 10, "mutants of each op")
	ops := flag.String("op", "", "`NAME,...` of ops, or of sources without .comp (default: all ops)")
	verbose := flag.Bool("v", false, "print a line for each mutant")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	survived, err := mutate(ctx, *seed, *n, *ops, *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	if survived {
		os.Exit(1)
	}
}

// A unit is a source compiled for one path: matmul.comp is two.
type unit struct {
	op       string
	path     kernels.Path
	variants []shaders.Variant
	passed   bool // the unchanged code was verified
}

func (u *unit) source() string { return u.variants[0].Source }

// units groups the table's variants, in its order.
func units() ([]*unit, error) {
	variants, err := shaders.Variants()
	if err != nil {
		return nil, err
	}
	var list []*unit
	for _, v := range variants {
		path := kernels.PathOf(v.Name)
		suffix := path
		if k := kernels.Matmul.Of(path); k != nil && k.StandsFor != "" {
			suffix = k.StandsFor
		} else if k != nil && k.Unproven {
			continue // no driver here runs it
		}
		i := slices.IndexFunc(list, func(u *unit) bool { return u.path == path && u.source() == v.Source })
		if i < 0 {
			op := strings.TrimSuffix(strings.TrimSuffix(v.Source, ".comp"), "_"+string(suffix))
			list = append(list, &unit{op: op, path: path})
			i = len(list) - 1
		}
		list[i].variants = append(list[i].variants, v)
	}
	return list, nil
}

// choose takes a variant at random, with those that have every case: the same code for other types of weights is
// verified with bias and addition alone. There are so few types of caches that all are taken.
func (u *unit) choose(rnd *rand.Rand) (shaders.Variant, []shaders.Variant) {
	v := u.variants[rnd.IntN(len(u.variants))]
	list := []shaders.Variant{v}
	for _, other := range u.variants {
		kind := weightType(other)
		if other.Name != v.Name && (kind == "" || kind == "f32" || kind == "q4_0") {
			list = append(list, other)
		}
	}
	return v, list
}

// weightType is the type of a variant's weights, "" = it reads none.
func weightType(v shaders.Variant) string {
	for _, define := range v.Defines {
		if kind, ok := strings.CutPrefix(define, "W_"); ok {
			return strings.ToLower(kind)
		}
	}
	return ""
}

// A tally counts an op's mutants.
type tally struct {
	made, wrong, ended, same, listed int
	survivors                        []mutant
}

func mutate(ctx context.Context, seed uint64, n int, only string, verbose bool) (survived bool, err error) {
	all, err := units()
	if err != nil {
		return false, err
	}
	known, err := readEquivalents("tools/mutate/equivalent.txt")
	if err != nil {
		return false, err
	}
	t, err := newTools(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, t.close()) }()

	byOp := map[string][]*unit{}
	var names []string
	wanted := strings.Split(only, ",")
	for _, u := range all {
		source := strings.TrimSuffix(u.source(), ".comp")
		if only != "" && !slices.Contains(wanted, u.op) && !slices.Contains(wanted, source) {
			continue
		}
		if byOp[u.op] == nil {
			names = append(names, u.op)
		}
		byOp[u.op] = append(byOp[u.op], u)
	}
	if names == nil {
		return false, fmt.Errorf("no op is named %s", only)
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "op\tmutants\twrong result\tended\tsurvived\tsame SPIR-V\tlisted")
	var survivors []mutant
	for _, op := range names {
		r, err := mutateOp(ctx, t, op, byOp[op], seed, n, known, verbose)
		if err != nil {
			return false, errors.Join(err, out.Flush())
		}
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", op, r.made, r.wrong, r.ended, len(r.survivors), r.same, r.listed)
		survivors = append(survivors, r.survivors...)
	}
	if err := out.Flush(); err != nil {
		return false, err
	}
	for _, m := range survivors {
		fmt.Printf("\nsurvived in %s, line %d:\n%s", m.where(), m.line+1, m.change)
	}
	return len(survivors) > 0, nil
}

// A mutant is a change and the SPIR-V that it changes, by variant.
type mutant struct {
	change
	spirv map[string][]byte
}

func (m mutant) names() []string {
	var list []string
	for name := range m.spirv {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func (m mutant) where() string { return strings.Join(m.names(), ", ") }

// mutateOp makes and runs n mutants of an op, taking its units in turn.
func mutateOp(ctx context.Context, t *tools, op string, list []*unit, seed uint64, n int, known []equivalent,
	verbose bool) (*tally, error) {
	r := &tally{}
	tried := map[string]bool{}
	for i := 0; r.made < n && i < 20*n; i++ {
		u := list[r.made%len(list)]
		rnd := rand.New(rand.NewPCG(seed, hash(op)+uint64(i)))
		v, with := u.choose(rnd)
		m, err := t.mutant(ctx, rnd, v, with)
		if err != nil {
			return nil, err
		}
		switch {
		case m == nil || tried[string(u.path)+m.change.String()]:
			continue
		case len(m.spirv) == 0:
			r.same++
			continue
		case slices.ContainsFunc(known, func(e equivalent) bool { return m.is(op, e) }):
			r.listed++
			continue
		}
		tried[string(u.path)+m.change.String()] = true
		if !u.passed {
			if o, err := t.verify(ctx, u.path, m.names(), nil, true); err != nil || o.what != "" {
				return nil, errors.Join(err, fmt.Errorf("%s without a change: %s %s", m.where(), o.what, o.detail))
			}
			u.passed = true
		}
		o, err := t.verify(ctx, u.path, m.names(), m.spirv, true)
		if err == nil && o.what == "" && t.driver(u.path).full {
			o, err = t.verify(ctx, u.path, m.names(), m.spirv, false)
		}
		if err != nil {
			return nil, err
		}
		r.made++
		switch o.what {
		case "":
			r.survivors = append(r.survivors, *m)
		case wrong:
			r.wrong++
		default:
			r.ended++
		}
		if verbose {
			fmt.Fprintf(os.Stderr, "%s %d: %s: %s %s\n%s", op, r.made, m.where(), max(o.what, "SURVIVED"), o.detail, m.change)
		}
	}
	return r, nil
}

// An equivalent is a change that makes no difference to results, with the reason.
type equivalent struct {
	file          string
	where         []string // ops or kernels; nil means everywhere
	before, after string
}

func (m *mutant) is(op string, e equivalent) bool {
	elsewhere := func(kernel string) bool { return !slices.Contains(e.where, kernel) }
	return (e.where == nil || slices.Contains(e.where, op) || !slices.ContainsFunc(m.names(), elsewhere)) && e.file == m.file &&
		e.before == strings.TrimSpace(m.before) && e.after == strings.TrimSpace(m.after)
}

// readEquivalents reads entries of four lines: a file, which ` in NAME,...` of ops or kernels may follow, `- ` and the
// line, `+ ` and the changed line, `= ` and the reason.
func readEquivalents(name string) ([]equivalent, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []equivalent
	for _, entry := range strings.Split(string(data), "\n\n") {
		lines := strings.Split(strings.TrimSpace(entry), "\n")
		lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" || strings.HasPrefix(l, "#") })
		if len(lines) == 0 {
			continue
		}
		file, where, some := strings.Cut(lines[0], " in ")
		e := equivalent{file: file}
		if some {
			e.where = strings.Split(where, ",")
		}
		var okay [3]bool
		if len(lines) == 4 {
			e.before, okay[0] = strings.CutPrefix(lines[1], "- ")
			e.after, okay[1] = strings.CutPrefix(lines[2], "+ ")
			okay[2] = strings.HasPrefix(lines[3], "= ")
		}
		if okay != [3]bool{true, true, true} {
			return nil, fmt.Errorf("%s: %q: want four lines: a file, one with -, one with +, one with =", name, entry)
		}
		source, err := os.ReadFile(filepath.Join("shaders", e.file))
		if err != nil {
			return nil, err
		}
		found := false
		for lines := bufio.NewScanner(bytes.NewReader(source)); lines.Scan(); {
			found = found || strings.TrimSpace(lines.Text()) == e.before
		}
		if !found {
			return nil, fmt.Errorf("%s: %s no longer has the line %q", name, e.file, e.before)
		}
		list = append(list, e)
	}
	return list, nil
}

// run returns what a command prints.
func run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
