// Package store finds models that are on this machine by name: `hf:owner/name[:file][@revision]` in the Hugging Face
// Hub's cache, and `ollama:name[:tag]` where ollama keeps its models. It lists them and removes those of the Hub's cache.
// It reads and writes the layouts of these programs, so that one copy of a model serves all of them, and it never uses
// the network: package hub fetches.
//
// Files in these folders are of other programs. Names in them are checked before they become paths, and what is read
// whole is bounded.
package store

import "fmt"

// A NameError says that a name of a model is not well-formed.
type NameError struct{ Name, Msg string }

func (e *NameError) Error() string { return fmt.Sprintf("store: model %q: %s", e.Name, e.Msg) }

// A NotFoundError says that a model is not on this machine, or only a part of it.
type NotFoundError struct {
	Name string
	Msg  string
	Pull bool // package hub could fetch it
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("store: model %q: %s", e.Name, e.Msg) }

// Named reports whether name is of a form that Find takes.
func Named(name string) bool { return isHub(name) || isOllama(name) }

// Find returns the path of a model: a directory, a GGUF file or the first one of a split model. The error is a *NameError
// or *NotFoundError, or the system's.
func Find(name string) (string, error) {
	if isOllama(name) {
		return findOllama(name)
	}
	r, err := ParseRef(name)
	if err != nil {
		return "", err
	}
	c, err := HubCache()
	if err != nil {
		return "", err
	}
	return c.Find(r)
}
