package pumice

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pumice/store"
)

// DefaultModel is the name of the model to start with: SmolLM2-135M-Instruct.
const DefaultModel = "smollm2"

// models maps a model's name to its file below <user cache>/pumice/models.
var models = map[string]string{
	DefaultModel: "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}

// A ModelError says that there is no such model.
type ModelError struct {
	Model string
	Msg   string
	Path  string // path that the file of a known model should have; "" for other models
	Hub   bool   // package hub could fetch it
}

func (e *ModelError) Error() string { return fmt.Sprintf("pumice: model %q: %s", e.Model, e.Msg) }

// CacheDir returns the directory for files that this project keeps: $XDG_CACHE_HOME/pumice or ~/.cache/pumice. It need
// not exist.
func CacheDir() (string, error) {
	dir := os.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("pumice: %w", err)
		}
		dir = filepath.Join(home, ".cache")
	}
	return filepath.Join(dir, "pumice"), nil
}

// Resolve returns the path that model stands for: model itself if that path exists; else the model of that name in the Hugging
// Face Hub's cache (hf:owner/name[:file][@revision]) or in ollama's folder (ollama:name[:tag]), as package store finds it; else
// the file of the model with that name. Nothing is fetched.
func Resolve(model string) (string, error) {
	if model == "" {
		return "", &ModelError{Model: model, Msg: "want a GGUF file, a directory, or a name"}
	}
	_, err := os.Stat(model)
	if err == nil {
		return model, nil
	}
	if store.Named(model) {
		return resolveNamed(model)
	}
	known, ok := models[model]
	switch {
	case !ok && errors.Is(err, fs.ErrNotExist):
		return "", &ModelError{Model: model,
			Msg: "no such file or directory, and no model by that name (there is " + DefaultModel + ")"}
	case !ok:
		return "", fmt.Errorf("pumice: %w", err)
	}
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "models", filepath.FromSlash(known))
	if _, err := os.Stat(path); err != nil {
		return "", &ModelError{Model: model, Msg: path + " is not there", Path: path}
	}
	return path, nil
}

func resolveNamed(model string) (string, error) {
	path, err := store.Find(model)
	var missing *store.NotFoundError
	var name *store.NameError
	switch {
	case errors.As(err, &missing):
		return "", &ModelError{Model: model, Msg: missing.Msg, Hub: missing.Pull}
	case errors.As(err, &name):
		return "", &ModelError{Model: model, Msg: name.Msg}
	case err != nil:
		return "", fmt.Errorf("pumice: %w", err)
	}
	return path, nil
}
