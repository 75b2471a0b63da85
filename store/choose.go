package store

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Choice is what a Ref's File stands for among the files of a repository.
type Choice struct {
	Files  []string // sorted
	Models []string // what can be opened: the first file of each GGUF model, "" for the directory
}

// DefaultQuantisation is the GGUF model that a Ref without a file stands for, as in llama.cpp and ollama, if the repository has
// several and no other weights.
const DefaultQuantisation = "Q4_K_M"

// split matches the name of one file of several: NAME-00001-of-00003.gguf.
var split = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})(\.\w+)$`)

// maxParts is the largest number of files of a split model.
const maxParts = 10000

// Choose chooses among the names of a repository's files: all that a model of safetensors, or else of torch files, or else of
// GGUF needs where file is ""; else the file of that name, those that match the pattern, or the GGUF model whose name has that
// quantisation. The other files of a split model are added.
func Choose(names []string, file string) (Choice, error) {
	c, err := choose(names, file)
	if err == nil {
		err = complete(c.Files, names)
	}
	return c, err
}

// choose is Choose, but parts of split models may be missing.
func choose(names []string, file string) (Choice, error) {
	names = slices.Sorted(slices.Values(names))
	models := ggufModels(names)
	switch {
	case file == "":
		return chooseWhole(names, models)
	case strings.ContainsAny(file, "*?["):
		return chooseMatching(names, models, file)
	case slices.Contains(names, file):
		for _, m := range models {
			if slices.Contains(m, file) {
				return Choice{m, m[:1]}, nil
			}
		}
		return Choice{[]string{file}, []string{file}}, nil
	}
	return chooseQuantisation(models, file)
}

// complete returns an error if a part of a split file is not among names.
func complete(files, names []string) error {
	for _, name := range files {
		m := split.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		parts, _ := strconv.Atoi(m[3])
		if parts > maxParts {
			return fmt.Errorf("%q: more than %d files", name, maxParts)
		}
		no, _ := strconv.Atoi(m[2])
		next := fmt.Sprintf("%s-%05d-of-%s%s", m[1], no%max(parts, 1)+1, m[3], m[4]) // of the last one, the first
		if !slices.Contains(names, next) {
			return fmt.Errorf("%q is missing", next)
		}
	}
	return nil
}

// ggufModels groups GGUF files into models, each with its files in order.
func ggufModels(names []string) [][]string {
	var models [][]string
	index := map[string]int{}
	for _, name := range names {
		if !strings.HasSuffix(strings.ToLower(name), ".gguf") {
			continue
		}
		key := name
		if m := split.FindStringSubmatch(name); m != nil {
			key = m[1] + "-of-" + m[3]
		}
		i, ok := index[key]
		if !ok {
			i = len(models)
			index[key] = i
			models = append(models, nil)
		}
		models[i] = append(models[i], name)
	}
	return models
}

// language reports whether a GGUF model is a language model, and not what goes with one: a projector of images or an importance
// matrix.
func language(model []string) bool {
	base := strings.ToLower(path.Base(model[0]))
	return !strings.HasPrefix(base, "mmproj") && !strings.HasSuffix(base, "imatrix.gguf")
}

func chooseWhole(names []string, models [][]string) (Choice, error) {
	if files := directory(names); files != nil {
		return Choice{files, []string{""}}, nil
	}
	models = slices.DeleteFunc(models, func(m []string) bool { return !language(m) })
	switch len(models) {
	case 0:
		return Choice{}, errors.New("it has no model.safetensors, pytorch_model.bin or GGUF file")
	case 1:
		return Choice{models[0], models[0][:1]}, nil
	}
	if c, err := chooseQuantisation(models, DefaultQuantisation); err == nil {
		return c, nil
	}
	return Choice{}, severalError(models)
}

func severalError(models [][]string) error {
	const shown = 12
	var names []string
	for _, m := range models[:min(shown, len(models))] {
		names = append(names, m[0])
	}
	if len(models) > shown {
		names = append(names, fmt.Sprintf("and %d more", len(models)-shown))
	}
	return fmt.Errorf("say which of %d models: %s", len(models), strings.Join(names, ", "))
}

func chooseMatching(names []string, models [][]string, pattern string) (Choice, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return Choice{}, fmt.Errorf("%q is not a pattern", pattern)
	}
	matches := func(name string) bool {
		if !strings.Contains(pattern, "/") {
			name = path.Base(name)
		}
		ok, _ := path.Match(pattern, name)
		return ok
	}
	var files, first []string
	for _, name := range names {
		if matches(name) && !strings.HasSuffix(strings.ToLower(name), ".gguf") {
			files = append(files, name)
		}
	}
	if slices.ContainsFunc(files, weights.MatchString) {
		first = append(first, "")
	}
	for _, m := range models {
		if slices.ContainsFunc(m, matches) {
			files, first = append(files, m...), append(first, m[0])
		}
	}
	if files == nil {
		return Choice{}, fmt.Errorf("no file matches %q", pattern)
	}
	slices.Sort(files)
	return Choice{files, first}, nil
}

// quantisation matches a word that says how a GGUF file's weights are stored.
var quantisation = regexp.MustCompile(`(?i)^(ud-)?(i?q\d\w*|tq\d\w*|b?f16|f32|fp16|mxfp\d\w*|nvfp\d\w*)$`)

func chooseQuantisation(models [][]string, word string) (Choice, error) {
	if !quantisation.MatchString(word) {
		return Choice{}, fmt.Errorf("there is no file %q", word)
	}
	has := regexp.MustCompile(`(?i)(^|[-._/])` + word + `[-./]`)
	var found [][]string
	for _, m := range models {
		if language(m) && has.MatchString(m[0]) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return Choice{}, fmt.Errorf("there is no file %q, and no GGUF file of that quantisation", word)
	case 1:
		return Choice{found[0], found[0][:1]}, nil
	}
	return Choice{}, severalError(found)
}

// weights matches what package checkpoint opens in a directory.
var weights = regexp.MustCompile(`^(model\.safetensors(\.index\.json)?|pytorch_model\.bin(\.index\.json)?|adapter_model\.(safetensors|bin))$`)

// described matches files beside weights: configurations, tokenizers, chat templates, and the modules of sentence-transformers.
var described = regexp.MustCompile(`^([^/]+\.(json|model|txt|jinja)|\d_\w+/config\.json)$`)

// directory returns the files of a model that is a directory: the weights, of the kind that package checkpoint prefers, and
// what describes them. Without weights it is nil.
func directory(names []string) []string {
	has := func(name string) bool { return slices.Contains(names, name) }
	var own func(name string) bool
	top := func(name, suffix string) bool { return !strings.Contains(name, "/") && strings.HasSuffix(name, suffix) }
	switch {
	case has("model.safetensors"):
		own = func(name string) bool { return name == "model.safetensors" }
	case has("model.safetensors.index.json"): // consolidated.safetensors is the same once more, as its authors' code reads it
		own = func(name string) bool {
			return name == "model.safetensors.index.json" || top(name, ".safetensors") && !strings.HasPrefix(name, "consolidated")
		}
	case has("pytorch_model.bin"):
		own = func(name string) bool { return name == "pytorch_model.bin" }
	case has("pytorch_model.bin.index.json"):
		own = func(name string) bool {
			return name == "pytorch_model.bin.index.json" || strings.HasPrefix(name, "pytorch_model") && top(name, ".bin")
		}
	case has("adapter_model.safetensors"):
		own = func(name string) bool { return name == "adapter_model.safetensors" }
	case has("adapter_model.bin"):
		own = func(name string) bool { return name == "adapter_model.bin" }
	default:
		return nil
	}
	var files []string
	for _, name := range names {
		if own(name) || described.MatchString(name) && !strings.HasSuffix(name, ".index.json") {
			files = append(files, name)
		}
	}
	return files
}
