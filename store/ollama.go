package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"pumice/internal/regular"
)

// ollamaPrefix begins the names of models that ollama has fetched or made.
const ollamaPrefix = "ollama:"

func isOllama(name string) bool { return strings.HasPrefix(name, ollamaPrefix) }

// ollamaService is where the service that ollama's installer sets up keeps its models on Linux.
const ollamaService = "/usr/share/ollama/.ollama/models"

// ollamaFolders returns the folders that ollama may keep models in.
func ollamaFolders() []string {
	if dir := os.Getenv("OLLAMA_MODELS"); dir != "" {
		return []string{dir}
	}
	var dirs []string
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".ollama", "models"))
	}
	return append(dirs, ollamaService)
}

// An ollamaName is host/namespace/model:tag (ollama v0.31.0, types/model/name.go).
type ollamaName struct{ host, namespace, model, tag string }

const (
	ollamaHost      = "registry.ollama.ai"
	ollamaNamespace = "library"
	ollamaTag       = "latest"
)

// ollamaPart matches each part of a name: it is one component of a path.
var ollamaPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}$`)

// ollamaHostPart matches a host, which may have a port.
var ollamaHostPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}$`)

func parseOllama(text string) (ollamaName, error) {
	n := ollamaName{ollamaHost, ollamaNamespace, "", ollamaTag}
	rest := strings.TrimPrefix(text, ollamaPrefix)
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, n.tag = rest[:i], rest[i+1:]
	}
	parts := strings.Split(rest, "/")
	switch len(parts) {
	case 1:
		n.model = parts[0]
	case 2:
		n.namespace, n.model = parts[0], parts[1]
	case 3:
		n.host, n.namespace, n.model = parts[0], parts[1], parts[2]
	}
	if !n.valid() {
		return n, &NameError{text, "want ollama:[[host/]user/]name[:tag]"}
	}
	return n, nil
}

func (n ollamaName) valid() bool {
	return ollamaHostPart.MatchString(n.host) && ollamaPart.MatchString(n.namespace) && ollamaPart.MatchString(n.model) && ollamaPart.MatchString(n.tag)
}

// String is the name as parseOllama reads it, without what is understood.
func (n ollamaName) String() string {
	text := n.model + ":" + n.tag
	if n.namespace != ollamaNamespace || n.host != ollamaHost {
		text = n.namespace + "/" + text
	}
	if n.host != ollamaHost {
		text = n.host + "/" + text
	}
	return ollamaPrefix + text
}

// An ollamaManifest lists what a model is made of.
type ollamaManifest struct {
	Layers []struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	} `json:"layers"`
}

const (
	ollamaModelLayer   = "application/vnd.ollama.image.model"
	ollamaAdapterLayer = "application/vnd.ollama.image.adapter"
	maxManifest        = 4 << 20
)

var ollamaDigest = regexp.MustCompile(`^sha256[:-]([0-9a-f]{64})$`)

// model returns the GGUF file of a manifest.
func (m *ollamaManifest) model(dir, name string) (path string, bytes int64, err error) {
	for _, layer := range m.Layers {
		switch digest := ollamaDigest.FindStringSubmatch(layer.Digest); {
		case layer.MediaType == ollamaAdapterLayer:
			return "", 0, &NotFoundError{Name: name, Msg: "it has an adapter, which ollama applies and this program does not read"}
		case layer.MediaType != ollamaModelLayer:
		case digest == nil:
			return "", 0, &NotFoundError{Name: name, Msg: fmt.Sprintf("its manifest has the digest %q", clip(layer.Digest))}
		case path != "":
			return "", 0, &NotFoundError{Name: name, Msg: "it is made of several files, and one GGUF file can be read"}
		default:
			path, bytes = filepath.Join(dir, "blobs", "sha256-"+digest[1]), layer.Size
		}
	}
	if path == "" {
		return "", 0, &NotFoundError{Name: name, Msg: "it has no GGUF file"}
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != bytes {
		return "", 0, &NotFoundError{Name: name, Msg: fmt.Sprintf("%s is missing or incomplete: ollama pull fetches it again", path)}
	}
	return path, bytes, err
}

func readManifest(path string) (*ollamaManifest, error) {
	text, err := regular.ReadFile(path, maxManifest)
	if err != nil {
		return nil, err
	}
	m := &ollamaManifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("store: %s: %w", path, err)
	}
	return m, nil
}

func findOllama(name string) (string, error) {
	n, err := parseOllama(name)
	if err != nil {
		return "", err
	}
	dirs := ollamaFolders()
	for _, dir := range dirs {
		m, err := readManifest(filepath.Join(dir, "manifests", n.host, n.namespace, n.model, n.tag))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		path, _, err := m.model(dir, name)
		return path, err
	}
	return "", &NotFoundError{Name: name, Msg: fmt.Sprintf("it is not in %s: ollama pull fetches it", strings.Join(dirs, " or "))}
}

// listOllama lists the models that ollama has.
func listOllama() ([]Model, error) {
	var all []Model
	for _, dir := range ollamaFolders() {
		manifests, err := filepath.Glob(filepath.Join(quoteGlob(dir), "manifests", "*", "*", "*", "*"))
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		for _, path := range manifests {
			rest, tag := filepath.Split(path)
			rest, model := filepath.Split(filepath.Clean(rest))
			rest, namespace := filepath.Split(filepath.Clean(rest))
			n := ollamaName{filepath.Base(rest), namespace, model, tag}
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() || !n.valid() {
				continue
			}
			m, err := readManifest(path)
			if err != nil {
				continue // not a manifest
			}
			blob, bytes, err := m.model(dir, n.String())
			all = append(all, Model{Name: n.String(), Bytes: bytes, Modified: info.ModTime(), Source: Ollama, Path: blob, Incomplete: err != nil})
		}
	}
	return all, nil
}

// quoteGlob makes a path match itself alone.
func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
