package eval

import (
	"path"
	"slices"
	"strings"
)

// A Selection is a set of groups and tasks, in the order of the tables.
type Selection struct {
	Groups []string // each followed by its categories
	Tasks  []string // each once
}

// aliases maps lm-evaluation-harness's names to ours.
var aliases = map[string]string{"ceval-valid": CEval, "agieval-cn": "agieval_zh"}

// Select finds tasks and groups by name. Names may have `-` for `_`, capital letters and the wildcard `*`;
// lm-evaluation-harness's names ceval-valid, ceval-valid_<subject> and agieval_cn are accepted too.
func Select(names []string) (*Selection, error) {
	s := &Selection{}
	want := map[string]bool{}
	for _, name := range names {
		pattern := plain(name)
		if strings.HasPrefix(pattern, "ceval-valid-") {
			pattern = "ceval-" + strings.TrimPrefix(pattern, "ceval-valid-")
		}
		if known, ok := aliases[pattern]; ok {
			pattern = plain(known)
		}
		found := false
		for _, known := range slices.Concat(groupNames, taskNames) {
			if ok, err := path.Match(pattern, plain(known)); err != nil {
				return nil, &UnknownTaskError{name}
			} else if ok {
				want[known], found = true, true
			}
		}
		if !found {
			return nil, &UnknownTaskError{name}
		}
	}
	for _, name := range groupNames {
		if g := groups[name]; want[name] || want[g.Parent] {
			s.Groups = append(s.Groups, name)
			for _, task := range g.Tasks {
				want[task] = true
			}
		}
	}
	for _, name := range taskNames {
		if want[name] {
			s.Tasks = append(s.Tasks, name)
		}
	}
	return s, nil
}

// plain returns the form of a name in which names are compared.
func plain(name string) string { return strings.ToLower(strings.ReplaceAll(trim(name), "_", "-")) }

// TaskNames lists all tasks in the order of the tables.
func TaskNames() []string { return slices.Clone(taskNames) }

// Groups lists all groups, each before its categories.
func Groups() []Group {
	var out []Group
	for _, name := range groupNames {
		out = append(out, *groups[name])
	}
	return out
}
