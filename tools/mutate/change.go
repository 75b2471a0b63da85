package main

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
)

// A change replaces one line of a file under shaders/.
type change struct {
	file          string
	line          int // from 0
	before, after string
}

func (c change) String() string {
	return fmt.Sprintf("%s\n- %s\n+ %s\n", c.file, strings.TrimSpace(c.before), strings.TrimSpace(c.after))
}

// An edit replaces text[from:to].
type edit struct {
	from, to int
	text     string
}

// An operator lists the edits of one kind that a line of code allows.
type operator func(code string) []edit

var operators = []operator{
	indexes,
	comparisons,
	replacing(` (\+|-|\+=|-=) `, map[string]string{"+": "-", "-": "+", "+=": "-=", "-=": "+="}),
	replacing(`\b(max|min)\(`, map[string]string{"max": "min", "min": "max"}),
	replacing(`\bsubgroup(Max|Min)\(`, map[string]string{"Max": "Min", "Min": "Max"}),
	dropping(`( \* -?[\w.]+(\(([^()]|\([^()]*\))*\))?(\[[^\[\]]*\])?(\.\w+)?)`),
	dropping(`( \*= [^;]+);`),
	dropping(`\b(\w*[bB]arrier\w*\(\));`),
	constants,
	conditions,
	bounds,
}

func dropping(pattern string) operator { return replacing(pattern, nil) }

// replacing replaces the first group of each match, by nothing if with has no replacement.
func replacing(pattern string, with map[string]string) operator {
	re := regexp.MustCompile(pattern)
	return func(code string) []edit {
		var list []edit
		for _, m := range re.FindAllStringSubmatchIndex(code, -1) {
			list = append(list, edit{m[2], m[3], with[code[m[2]:m[3]]]})
		}
		return list
	}
}

// closing is where the bracket at an index of the code is closed; -1 = on another line.
func closing(code string, open int) int {
	depth := 0
	for i := open; i < len(code); i++ {
		switch code[i] {
		case '(', '[':
			depth++
		case ')', ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

var (
	indexed  = regexp.MustCompile(`[\w)\]](\[)[^\[]`)
	declares = regexp.MustCompile(`^\s*(const )?\w+ \w+\[`)
)

// indexes are off by one.
func indexes(code string) []edit {
	var list []edit
	for _, m := range indexed.FindAllStringSubmatchIndex(code, -1) {
		if end := closing(code, m[2]); end > 0 && !declares.MatchString(code[:m[3]]) {
			list = append(list, edit{end, end, " + 1"}, edit{end, end, " - 1"})
		}
	}
	return list
}

var number = regexp.MustCompile(`(?:^|[^\w.])((?:0x[0-9a-f]+|\d+\.\d*(?:e[-+]?\d+)?|\d+)u?)`)

// constants are one more, twice as large if they are floating-point, or lose a bit if they are hexadecimal.
func constants(code string) []edit {
	if declares.MatchString(code) {
		return nil
	}
	var list []edit
	for _, m := range number.FindAllStringSubmatchIndex(code, -1) {
		text := code[m[2]:m[3]]
		digits, unsigned := strings.CutSuffix(text, "u")
		if n, err := strconv.ParseUint(digits, 10, 32); err == nil {
			text = strconv.FormatUint(n+1, 10)
			if unsigned {
				text += "u"
			}
		} else if n, err := strconv.ParseUint(digits, 0, 32); err == nil && n > 0 {
			text = fmt.Sprintf("%#xu", n&(n-1))
		} else if f, err := strconv.ParseFloat(digits, 64); err == nil && f == 0 {
			text = "1.0"
		} else if f > 1e30 {
			continue // farther than any value, as it would be when doubled
		} else {
			text = "(2.0 * " + text + ")"
		}
		list = append(list, edit{m[2], m[3], text})
	}
	return list
}

var (
	branch = regexp.MustCompile(`\bif (\()`)
	choice = regexp.MustCompile(`\b(\w+) \? `)
)

// conditions always hold or never do: a guard of the ragged edge, bias, addition.
func conditions(code string) []edit {
	var list []edit
	for _, m := range branch.FindAllStringSubmatchIndex(code, -1) {
		if end := closing(code, m[2]); end > 0 {
			list = append(list, edit{m[3], end, "true"}, edit{m[3], end, "false"})
		}
	}
	for _, m := range choice.FindAllStringSubmatchIndex(code, -1) {
		list = append(list, edit{m[2], m[3], "true"}, edit{m[2], m[3], "false"})
	}
	return list
}

var comparison = replacing(` (<|<=|>|>=) `, map[string]string{"<": "<=", "<=": "<", ">": ">=", ">=": ">"})

// comparisons take equality for the other outcome.
func comparisons(code string) []edit {
	if unrolled(code) {
		return nil
	}
	return comparison(code)
}

// unrolled reports whether a line begins a loop over variables of the invocation. One that goes beyond them does nothing:
// compilers drop what is undefined.
func unrolled(code string) bool { return strings.Contains(code, "[[unroll]]") }

var bound = regexp.MustCompile(`\bfor \([^;]*; [^;]* [<>]=? ([^;]*);`)

// bounds of loops are off by one.
func bounds(code string) []edit {
	var list []edit
	for _, m := range bound.FindAllStringSubmatchIndex(code, -1) {
		if !unrolled(code) {
			list = append(list, edit{m[3], m[3], " + 1"})
		}
		list = append(list, edit{m[3], m[3], " - 1"})
	}
	return list
}

var (
	comment    = regexp.MustCompile(`//.*`)
	define     = regexp.MustCompile(`^\s*#define \w+(\([^)]*\))?`)
	declared   = regexp.MustCompile(`^\s*(#|layout|shared |struct |precision )`)
	interfaces = regexp.MustCompile(`^\s*#define \w+_BINDING`)
)

// codeOf is a line with spaces for what is no code: comments, directives, the declarations of an interface.
func codeOf(line string) string {
	line = comment.ReplaceAllStringFunc(line, func(s string) string { return strings.Repeat(" ", len(s)) })
	if interfaces.MatchString(line) {
		return ""
	}
	if head := define.FindString(line); head != "" {
		return strings.Repeat(" ", len(head)) + line[len(head):]
	}
	if declared.MatchString(line) {
		return ""
	}
	return line
}

// changes lists the changes that an operator makes to the lines of a file that a variant compiles.
func changes(o operator, file string, lines []string, active map[int]bool) []change {
	var list []change
	for i, line := range lines {
		if !active[i] {
			continue
		}
		for _, e := range o(codeOf(line)) {
			list = append(list, change{file, i, line, line[:e.from] + e.text + line[e.to:]})
		}
	}
	return list
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}
