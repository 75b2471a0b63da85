package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"pumice/store"
)

// A File is a file of a repository at a commit.
type File struct {
	Name   string // slash-separated
	Bytes  int64
	SHA256 string // of an LFS file; "" for others
	GitSHA string // git's SHA-1 of the file, or of what stands for it in git

	problem string // why it can't be fetched
}

// Hash is the name of the file's content in the cache.
func (f File) Hash() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.GitSHA
}

const (
	maxListing   = 64 << 20 // bytes of a repository's description
	maxFileBytes = 1 << 44  // of one file, of which a Choice has at most a few thousand
)

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// repository returns the commit of a Ref's revision and the files there, but those whose names can't be used.
func (c *Client) repository(ctx context.Context, r store.Ref) (commit string, files []File, err error) {
	revision := r.RevisionOrDefault()
	address := c.address("api", "models", r.Repo, "revision", url.PathEscape(revision)) + "?blobs=true"
	what := r.Repo
	if revision != store.DefaultRevision {
		what += "@" + revision
	}
	var text []byte
	err = c.retry(ctx, func() (bool, error) {
		resp, err := c.get(ctx, what, address, nil)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false, statusError(what, resp)
		}
		if text, err = io.ReadAll(io.LimitReader(resp.Body, maxListing+1)); err != nil {
			return false, cut(what, err)
		}
		return false, nil
	})
	if err != nil {
		return "", nil, err
	}
	if len(text) > maxListing {
		return "", nil, fmt.Errorf("hub: %s: its description has more than %d bytes", what, maxListing)
	}
	commit, files, odd, err := parseRepository(text)
	if err != nil {
		return "", nil, fmt.Errorf("hub: %s: %w", what, err)
	}
	if len(odd) > 0 {
		c.note("%s: left out are %d files whose names lead out of their folder or can't be shown, such as %q", what, len(odd), clip(odd[0]))
	}
	return commit, files, nil
}

// parseRepository reads a description of a repository. odd are names that are not used as paths.
func parseRepository(text []byte) (commit string, files []File, odd []string, err error) {
	var described struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name   string `json:"rfilename"`
			Size   *int64 `json:"size"`
			BlobID string `json:"blobId"`
			LFS    *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(text, &described); err != nil {
		return "", nil, nil, fmt.Errorf("the server's answer describes no repository: %w", err)
	}
	if !store.CommitHash.MatchString(described.SHA) {
		return "", nil, nil, errors.New("the server's answer names no commit")
	}
	seen := map[string]bool{}
	for _, s := range described.Siblings {
		if !store.PlainPath(s.Name) || seen[s.Name] {
			odd = append(odd, s.Name)
			continue
		}
		seen[s.Name] = true
		f := File{Name: s.Name, GitSHA: s.BlobID}
		if s.Size != nil {
			f.Bytes = *s.Size
		}
		if s.LFS != nil {
			f.SHA256, f.Bytes = s.LFS.SHA256, s.LFS.Size
		}
		switch {
		case s.Size == nil && s.LFS == nil:
			f.problem = "the server does not say how large it is"
		case f.Bytes < 0 || f.Bytes > maxFileBytes:
			f.problem = fmt.Sprintf("it cannot have %d bytes", f.Bytes)
		case s.LFS != nil && !sha256Hex.MatchString(f.SHA256), s.LFS == nil && !store.CommitHash.MatchString(f.GitSHA):
			f.problem = "the server gives no hash of it"
		}
		files = append(files, f)
	}
	return described.SHA, files, odd, nil
}

func clip(text string) string {
	if len(text) > maxMessage {
		return text[:maxMessage] + "..."
	}
	return text
}

// address joins escaped parts to the endpoint's path.
func (c *Client) address(parts ...string) string { return c.endpoint.JoinPath(parts...).String() }

// resolve is the address of a file.
func (c *Client) resolve(repo, commit, name string) string {
	parts := []string{repo, "resolve", commit}
	for part := range strings.SplitSeq(name, "/") {
		parts = append(parts, url.PathEscape(part))
	}
	return c.address(parts...)
}
