package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pumice/checkpoint"
)

// A Pooling says which tokens' hidden rows the embedding of a text is made of.
type Pooling string

const (
	PoolingLast Pooling = "last" // that of the last token
	PoolingMean Pooling = "mean" // the mean of all tokens'
	PoolingCLS  Pooling = "cls"  // that of the first token
)

// ggufPoolings are the Poolings by their numbers in GGUF (llama.cpp, include/llama.h, enum llama_pooling_type). Files that
// leave the choice to the reader have -1 or 0.
var ggufPoolings = map[int]Pooling{-1: "", 0: "", 1: PoolingMean, 2: PoolingCLS, 3: PoolingLast}

// Embedding is how a model's files say that the embedding of a text is made.
type Embedding struct {
	Pooling    Pooling // "" if they don't say
	Normalized bool    // whether the vector is scaled to length 1, as is the custom where they don't say
}

// ReadEmbedding reads how embeddings are made: from GGUF's pooling_type, or from the files that sentence-transformers writes
// into a directory. Reading succeeds for a model that is not for embeddings. A *checkpoint.UnsupportedError says that they
// take steps that are not known here.
func ReadEmbedding(c *checkpoint.Checkpoint) (Embedding, error) {
	e := Embedding{Normalized: true}
	if meta := c.Metadata(); meta != nil {
		key := meta.String("general.architecture") + ".pooling_type"
		n := meta.IntOr(key, 0)
		p, ok := ggufPoolings[n]
		if e.Pooling = p; !ok {
			return e, &checkpoint.UnsupportedError{File: meta.File(), Feature: fmt.Sprintf("%s %d", key, n)}
		}
		return e, meta.Err()
	}
	dir := c.Path()
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	return readEmbedding(dir)
}

// poolingFolder is where sentence-transformers writes the configuration of a second module that is a Pooling.
const poolingFolder = "1_Pooling"

// readEmbedding reads modules.json, the steps that sentence-transformers takes, and the configuration of its Pooling
// module, which some directories have alone.
func readEmbedding(dir string) (Embedding, error) {
	e := Embedding{Normalized: true}
	folder, normalized, err := readModules(filepath.Join(dir, "modules.json"))
	switch alone := errors.Is(err, fs.ErrNotExist); {
	case alone:
		folder = poolingFolder
		if _, err := os.Stat(filepath.Join(dir, folder, "config.json")); errors.Is(err, fs.ErrNotExist) {
			return e, nil
		}
	case err != nil:
		return e, err
	default:
		e.Normalized = normalized
	}
	e.Pooling, err = readPooling(filepath.Join(dir, folder, "config.json"))
	return e, err
}

// readModules returns the folder of the Pooling module and whether vectors are scaled to length 1. Modules other than
// Transformer, Pooling and Normalize, in this order, change vectors in other ways.
func readModules(file string) (folder string, normalized bool, err error) {
	list, err := checkpoint.ReadList(file)
	if err != nil {
		return "", false, err
	}
	for i, f := range list {
		// The type is a Python class; its package differs between versions.
		kind := f.String("type")
		switch name := kind[strings.LastIndexByte(kind, '.')+1:]; {
		case i == 0 && name == "Transformer":
		case i == 1 && name == "Pooling":
			folder = f.String("path")
			if folder == "" || !filepath.IsLocal(folder) || strings.ContainsAny(folder, `/\`) {
				f.Fail("path", "%q is not the name of a folder", folder)
			}
		case i == 2 && name == "Normalize":
			normalized = true
		case f.Err() == nil:
			return "", false, &checkpoint.UnsupportedError{File: file, Feature: fmt.Sprintf("module %d, %q, of an embedding model", i, kind)}
		}
		if err := f.Err(); err != nil {
			return "", false, err
		}
	}
	if folder == "" {
		return "", false, &checkpoint.UnsupportedError{File: file, Feature: "an embedding model without a Pooling module"}
	}
	return folder, normalized, nil
}

// readPooling reads the configuration of a Pooling module: one mode, or, in older files, a switch for each.
func readPooling(file string) (Pooling, error) {
	f, err := checkpoint.ReadFields(file)
	if err != nil {
		return "", err
	}
	modes := f.Strings("pooling_mode")
	if len(modes) == 0 {
		for _, mode := range []string{"cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"} {
			if f.BoolOr("pooling_mode_"+mode, false) {
				modes = append(modes, mode)
			}
		}
	}
	if !f.BoolOr("include_prompt", true) {
		modes = append(modes, "without the prompt")
	}
	if err := f.Err(); err != nil {
		return "", err
	}
	switch mode := strings.Join(modes, ", "); mode {
	case "mean", "mean_tokens", "": // what sentence-transformers does unless told otherwise
		return PoolingMean, nil
	case "lasttoken":
		return PoolingLast, nil
	case "cls", "cls_token":
		return PoolingCLS, nil
	default:
		return "", &checkpoint.UnsupportedError{File: file, Feature: fmt.Sprintf("pooling by %q", mode)}
	}
}
