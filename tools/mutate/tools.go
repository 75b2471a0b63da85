package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pumice/pipeline/kernels"
	"pumice/shaders"
)

// tools are what makes and runs mutants.
type tools struct {
	dir      string   // of temporary files
	compiler []string // the command that starts glslc
	program  string   // pumice with kernels of the directory that MUTANT names
	old, new driver
	active   map[string]map[string]map[int]bool // by variant and file: lines that it compiles
}

// A driver runs programs.
type driver struct {
	env   []string
	start []string // what the command line begins with
	full  bool     // whether its stage runs all cases, not quick ones alone
}

// driver is that of the stage that a path's kernels are left to.
func (t *tools) driver(p kernels.Path) driver {
	if p == kernels.Addr || p == kernels.CM || p == kernels.CM2E {
		return t.new
	}
	return t.old
}

func newTools(ctx context.Context) (_ *tools, err error) {
	t := &tools{active: map[string]map[string]map[int]bool{}}
	if t.dir, err = os.MkdirTemp("", "mutate"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	command, err := run(ctx, nil, "tools/glslc.sh", "--compiler")
	if err != nil {
		return nil, err
	}
	t.compiler = strings.Fields(string(command))
	const icds = "/usr/share/vulkan/icd.d/lvp_icd*.json"
	files, err := filepath.Glob(icds)
	if err != nil || files == nil {
		return nil, errors.Join(err, fmt.Errorf("no driver %s", icds))
	}
	t.old = driver{env: []string{"VK_DRIVER_FILES=" + slices.Max(files)}, full: true}
	start, err := run(ctx, nil, "tools/mesa.sh", "lavapipe")
	if err != nil {
		return nil, err
	}
	t.new = driver{start: strings.Fields(string(start))}
	return t, t.build(ctx)
}

func (t *tools) close() error { return os.RemoveAll(t.dir) }

// replacements reads the kernels of the directory that MUTANT names in place of those that are embedded.
const replacements = `package shaders

import (
	"embed"
	"os"
	"path/filepath"
)

var files = replaced{embedded}

type replaced struct{ embed.FS }

func (r replaced) ReadFile(name string) ([]byte, error) {
	if b, err := os.ReadFile(filepath.Join(os.Getenv("MUTANT"), filepath.Base(name))); err == nil {
		return b, nil
	}
	return r.FS.ReadFile(name)
}
`

// build builds pumice with another package shaders, which the compiler alone sees.
func (t *tools) build(ctx context.Context) error {
	const embedded = "var files embed.FS"
	source, err := os.ReadFile("shaders/shaders.go")
	if err != nil {
		return err
	}
	if bytes.Count(source, []byte(embedded)) != 1 {
		return fmt.Errorf("shaders/shaders.go does not have %q once", embedded)
	}
	source = bytes.Replace(source, []byte(embedded), []byte("var embedded embed.FS"), 1)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for name, data := range map[string][]byte{"shaders.go": source, "replacements.go": []byte(replacements)} {
		file := filepath.Join(t.dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return err
		}
		overlay.Replace[filepath.Join("shaders", name)] = file
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	file := filepath.Join(t.dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return err
	}
	t.program = filepath.Join(t.dir, "pumice")
	_, err = run(ctx, nil, "go", "build", "-overlay", file, "-o", t.program, "./cmd/pumice")
	return err
}

// glslc compiles a variant, or preprocesses it, with the includes of a directory that stands in for shaders/.
func (t *tools) glslc(ctx context.Context, v shaders.Variant, from string, mode ...string) ([]byte, error) {
	args := append(t.compiler[1:len(t.compiler):len(t.compiler)], mode...)
	args = append(args, "--target-env="+v.Target(), "-fshader-stage=compute", "-I", filepath.Join(from, "include"), "-o", "-")
	for _, define := range v.Defines {
		args = append(args, "-D"+define)
	}
	return run(ctx, []string{"LC_ALL=C"}, t.compiler[0], append(args, filepath.Join(from, v.Source))...)
}

// lines are those of each file under shaders/ that a variant compiles, directives that define something included.
func (t *tools) lines(ctx context.Context, v shaders.Variant) (map[string]map[int]bool, error) {
	if files := t.active[v.Name]; files != nil {
		return files, nil
	}
	out, err := t.glslc(ctx, v, "shaders", "-E")
	if err != nil {
		return nil, err
	}
	if spirv, err := t.glslc(ctx, v, "shaders", "-O"); err != nil || !bytes.Equal(spirv, v.SPIRV) {
		return nil, errors.Join(err, fmt.Errorf("%s.spv is not what %s compiles to", v.Name, v.Source))
	}
	file, line := v.Source, 0 // a source that includes nothing has no directive
	files := map[string]map[int]bool{file: {}}
	for text := range strings.Lines(string(out)) {
		if n, name, ok := lineDirective(text); ok {
			if file, err = filepath.Rel("shaders", name); err != nil {
				return nil, err
			}
			line = n - 1
			if files[file] == nil {
				files[file] = map[int]bool{}
			}
			continue
		}
		if strings.TrimSpace(text) != "" {
			files[file][line] = true
		}
		line++
	}
	for name, active := range files {
		lines, err := readLines("shaders", name)
		if err != nil {
			return nil, err
		}
		for i, line := range lines {
			active[i] = active[i] || define.MatchString(line)
		}
	}
	t.active[v.Name] = files
	return files, nil
}

// lineDirective reads `#line N "FILE"`.
func lineDirective(text string) (int, string, bool) {
	f := strings.Fields(text)
	if len(f) != 3 || f[0] != "#line" {
		return 0, "", false
	}
	n, err := strconv.Atoi(f[1])
	return n, strings.Trim(f[2], `"`), err == nil
}

func readLines(dir, name string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	return strings.Split(string(data), "\n"), err
}

// mutant makes a change to what a variant compiles and compiles it with others of its source. It is nil where that
// does not compile; its SPIR-V is empty where that is the same.
func (t *tools) mutant(ctx context.Context, rnd *rand.Rand, v shaders.Variant,
	with []shaders.Variant) (*mutant, error) {
	files, err := t.lines(ctx, v)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	// First the operator, so that rare ones are as likely as frequent ones.
	var list []change
	for _, o := range rnd.Perm(len(operators)) {
		for _, name := range names {
			lines, err := readLines("shaders", name)
			if err != nil {
				return nil, err
			}
			list = append(list, changes(operators[o], name, lines, files[name])...)
		}
		if list != nil {
			break
		}
	}
	if list == nil {
		return nil, fmt.Errorf("%s: no line can be changed", v.Source)
	}
	m := &mutant{list[rnd.IntN(len(list))], map[string][]byte{}}
	dir := filepath.Join(t.dir, "source")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, os.DirFS("shaders")); err != nil {
		return nil, err
	}
	lines, err := readLines("shaders", m.file)
	if err != nil {
		return nil, err
	}
	lines[m.line] = m.after
	if err := os.WriteFile(filepath.Join(dir, m.file), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		return nil, err
	}
	for _, v := range with {
		spirv, err := t.glslc(ctx, v, dir, "-O")
		if ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			return nil, nil //nolint:nilerr // a mutant that does not compile is none
		}
		if !bytes.Equal(spirv, v.SPIRV) {
			m.spirv[v.Name] = spirv
		}
	}
	return m, nil
}

// An outcome is how a verification failed, "" = it did not.
type outcome struct{ what, detail string }

const (
	wrong = "wrong result"
	ended = "ended"
)

// Limits of a verification. The longest of one kernel without a change takes a minute of processor time.
const (
	limitCPU    = 300 // seconds
	limitMemory = 8 << 20
	limitWall   = 30 * time.Minute
)

// verify runs the cases of kernels, some with other SPIR-V. It stops at the first wrong result.
func (t *tools) verify(ctx context.Context, path kernels.Path, names []string, spirv map[string][]byte,
	quick bool) (outcome, error) {
	dir := filepath.Join(t.dir, "mutant")
	if err := os.RemoveAll(dir); err != nil {
		return outcome{}, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return outcome{}, err
	}
	for name, data := range spirv {
		if err := os.WriteFile(filepath.Join(dir, name+".spv"), data, 0o600); err != nil {
			return outcome{}, err
		}
	}
	types := []string{"f32", "q4_0"}
	for _, v := range names {
		for _, t := range kernels.WeightTypes() {
			if kind := kernels.Lower(t); strings.Contains(v+"_", "_"+kind+"_") && !slices.Contains(types, kind) {
				types = append(types, kind)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limitWall)
	defer cancel()
	d := t.driver(path)
	limits := fmt.Sprintf(`ulimit -c 0 -t %d -d %d && exec "$@"`, limitCPU, limitMemory)
	args := append([]string{"-c", limits, "-"}, d.start...)
	args = append(args, t.program, "--quiet", "verify", "--cache-dir", "none",
		"--types", strings.Join(types, ","), "--kernels", strings.Join(names, ","))
	if quick {
		args = append(args, "--quick")
	}
	c := exec.CommandContext(ctx, "bash", args...)
	c.Env = append(append(os.Environ(), d.env...), "MUTANT="+dir)
	c.WaitDelay = time.Second
	var stderr bytes.Buffer
	c.Stderr = &stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	if err := c.Start(); err != nil {
		return outcome{}, err
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if line, ok := strings.CutPrefix(lines.Text(), "WRONG"); ok {
			cancel()
			c.Wait() // it was killed
			return outcome{wrong, strings.TrimSpace(line)}, nil
		}
	}
	err = c.Wait()
	if err == nil {
		return outcome{}, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return outcome{}, ctx.Err()
	}
	text := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	return outcome{ended, fmt.Sprintf("%v: %s", err, text[0])}, nil
}
