package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// isText reports whether bytes are text.
func isText(content []byte) bool { return utf8.Valid(content) && !slices.Contains(content, 0) }

// attaching is an attachment that is being typed.
var attaching = regexp.MustCompile(`(?:^|\s)@((?:\\ |\S)*)$`)

// complete says what may stand before the cursor: a command, what a command takes, or a file.
func (r *repl) complete(before string) completion {
	if found := attaching.FindStringSubmatch(before); found != nil {
		c := files(strings.ReplaceAll(found[1], `\ `, " "))
		c.bytes += strings.Count(base(found[1]), `\ `)
		for i, name := range c.texts {
			c.texts[i] = strings.ReplaceAll(name, " ", `\ `)
		}
		return c
	}
	word := before[strings.LastIndexAny(before, " \n\t")+1:]
	if !strings.HasPrefix(before, "/") || strings.Contains(before, "\n") {
		return completion{}
	}
	fields := strings.Fields(before)
	if len(fields) == 1 && word != "" {
		var names []string
		for _, c := range commands {
			names = append(names, c.name)
		}
		return among(word, names, " ")
	}
	rest := strings.TrimLeft(strings.TrimPrefix(before, fields[0]), " ")
	switch fields[0] {
	case "/save", "/load":
		return files(rest)
	case "/show":
		return among(rest, showTopics, "")
	case "/copy":
		return among(rest, []string{"code"}, "")
	case "/switch", "/close":
		var names []string
		for _, t := range r.talks {
			names = append(names, t.label())
		}
		return among(rest, names, "")
	case "/set":
		name, value, second := strings.Cut(rest, " ")
		var names []string
		for _, s := range settings {
			if second && s.name == name {
				return among(value, s.values, "")
			}
			names = append(names, s.name)
		}
		if !second {
			return among(name, names, " ")
		}
	}
	return completion{}
}

// base is what stands behind the last slash.
func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// among is the completion of a text to one of several.
func among(text string, all []string, end string) completion {
	c := completion{bytes: len(text)}
	for _, one := range all {
		if strings.HasPrefix(one, text) {
			c.texts = append(c.texts, one+end)
		}
	}
	return c
}

// mostFiles is how many files of a folder a completion looks at.
const mostFiles = 1000

// files is the completion of a file's name. Names that a terminal can't be shown are left out.
func files(name string) completion {
	dir, base := filepath.Split(name)
	open := dir
	if open == "" {
		open = "."
	}
	f, err := os.Open(atHome(open))
	if err != nil {
		return completion{}
	}
	defer f.Close()
	entries, _ := f.ReadDir(mostFiles)
	c := completion{bytes: len(base)}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base) || base == "" && strings.HasPrefix(e.Name(), ".") || visible(e.Name()) != e.Name() {
			continue
		}
		end := ""
		if e.IsDir() {
			end = "/"
		}
		c.texts = append(c.texts, e.Name()+end)
	}
	slices.Sort(c.texts)
	return c
}

// atHome is a file's name with the home folder in the place of ~ at its beginning, as shells have it.
func atHome(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return home + "/" + rest
		}
	}
	return name
}
