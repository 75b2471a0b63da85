package store

import (
	"io/fs"
	"regexp"
	"strings"
	"unicode"
)

// hubPrefix begins the names of models on the Hub.
const hubPrefix = "hf:"

// DefaultRevision is the revision of a Ref that names none.
const DefaultRevision = "main"

func isHub(name string) bool { return strings.HasPrefix(name, hubPrefix) }

// A Ref names a model on the Hugging Face Hub.
type Ref struct {
	Repo     string // owner/name
	File     string // a file, a pattern (path.Match) or a quantisation such as Q4_K_M; "": the whole model
	Revision string // a branch, a tag or a commit; "": DefaultRevision
}

// repoName is the rule of huggingface_hub 2.4.0 (utils/_validators.py): a repository's folder has -- between owner and name, so
// that neither may have it.
var repoName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}$`)

// ParseRef reads hf:owner/name[:file][@revision].
func ParseRef(text string) (Ref, error) {
	bad := func(msg string) (Ref, error) {
		return Ref{}, &NameError{text, msg + "; want hf:owner/name[:file][@revision]"}
	}
	rest, ok := strings.CutPrefix(text, hubPrefix)
	if !ok {
		return bad("it does not begin with hf:")
	}
	var r Ref
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest, r.Revision = rest[:i], rest[i+1:]
		if !PlainPath(r.Revision) {
			return bad("no such revision can exist")
		}
	}
	var colon bool
	r.Repo, r.File, colon = strings.Cut(rest, ":")
	switch {
	case !validRepo(r.Repo):
		return bad("no such repository can exist")
	case colon && !PlainPath(r.File):
		return bad("no such file can exist")
	}
	return r, nil
}

func validRepo(repo string) bool {
	return repoName.MatchString(repo) && !strings.Contains(repo, "--") && !strings.Contains(repo, "..") &&
		!strings.HasSuffix(repo, ".git") && !strings.HasSuffix(repo, "-") && !strings.HasSuffix(repo, ".") &&
		!strings.Contains(repo, "-/") && !strings.Contains(repo, "./")
}

// String is the Ref as ParseRef reads it.
func (r Ref) String() string {
	text := hubPrefix + r.Repo
	if r.File != "" {
		text += ":" + r.File
	}
	if r.Revision != "" && r.Revision != DefaultRevision {
		text += "@" + r.Revision
	}
	return text
}

// RevisionOrDefault is the Ref's revision.
func (r Ref) RevisionOrDefault() string {
	if r.Revision == "" {
		return DefaultRevision
	}
	return r.Revision
}

const (
	maxPath = 1024
	maxName = 255 // NAME_MAX
)

// PlainPath reports whether a name of a file or a revision from a stranger is a path that stays in its folder: slash-separated,
// relative, without . and .. and without characters that are not printed.
func PlainPath(name string) bool {
	if name == "." || len(name) > maxPath || !fs.ValidPath(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == '\\' }) {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return false
		}
	}
	return true
}
