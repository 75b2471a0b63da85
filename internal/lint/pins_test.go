package lint

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// continued matches a line's end after which a shell command or a Python list continues.
	continued = regexp.MustCompile(`(\\|,)\n`)
	// pipFetch matches a call of pip that downloads, as shell words or a Python list, up to the end of the command.
	pipFetch = regexp.MustCompile(`\bpip3?['", ]+(?:download|install|wheel)\b[^\]\n;&|]*`)
	// otherFetch matches any other download of code. go.sum pins what Go's tools download.
	otherFetch = regexp.MustCompile(`\b(?:curl|wget|aria2c|urlretrieve|git clone|npm (?:i|install|pack|exec)|npx|uv pip|uvx|pipx|conda install|cargo install|go install|go get|go run)\b[^\n]*`)
	// ourProgram matches `go run` of this module.
	ourProgram = regexp.MustCompile(`^go run \./`)
	// unchecked matches what turns off a check of a hash, a signature or a certificate.
	unchecked = regexp.MustCompile(`--allow-unauthenticated|--allow-insecure-repositories|--force-yes|\[trusted=yes|--trusted-host|--no-check-certificate|` +
		`\bcurl[^\n]* (?:-k|--insecure)\b|\b(?:GONOSUMDB|GONOSUMCHECK|GOINSECURE|GOSUMDB=off|GOFLAGS=[^\n]*-insecure)\b[^\n]*`)
	// requirementsFile matches the argument of pip's -r.
	requirementsFile = regexp.MustCompile(`(?:-r|--requirement)['", ]+([\w./-]+)`)
	// pinnedRequirement matches one entry of a requirements file: a version and the SHA-256 of each acceptable file.
	pinnedRequirement = regexp.MustCompile(`^[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( --hash=sha256:[0-9a-f]{64})+$`)
)

// pinnedPackage matches a line of a list of Debian packages.
var pinnedPackage = regexp.MustCompile(`^[a-z0-9.+-]+ +[A-Za-z0-9.+~:-]+ +[0-9a-f]{64} +(?:tool|support)$`)

// unpinned returns the commands of a script that download something without a hash, or turn a check off.
func unpinned(script string) []string {
	var bad []string
	script = continued.ReplaceAllString(script, ", ")
	for _, command := range pipFetch.FindAllString(script, -1) {
		if !strings.Contains(command, "--require-hashes") || !requirementsFile.MatchString(command) {
			bad = append(bad, command)
		}
	}
	for _, command := range otherFetch.FindAllString(script, -1) {
		if !ourProgram.MatchString(command) {
			bad = append(bad, command)
		}
	}
	return append(bad, unchecked.FindAllString(script, -1)...)
}

// All that the scripts download from outside Debian's archive has a SHA-256 in tools/wheels, which pip compares.
func TestScriptsFetchOnlyWhatIsPinned(t *testing.T) {
	top := filepath.Join("..", "..")
	var scripts []string
	for _, pattern := range []string{"tools/*.sh", "tools/*.py", "Makefile", ".ci/*"} {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		scripts = append(scripts, found...)
	}
	fetches := 0
	for _, file := range scripts {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fetches += len(pipFetch.FindAll(text, -1))
		for _, command := range unpinned(string(text)) {
			t.Errorf("%s fetches without a hash: %s\nput its SHA-256 into a file of tools/wheels and fetch with pip's --require-hashes -r", file, command)
		}
	}
	lists, err := filepath.Glob(filepath.Join(top, "tools", "*.sums"))
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists of packages: %v", err)
	}
	for _, file := range lists {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !pinnedPackage.MatchString(line) {
				t.Errorf("%s: %q: want PACKAGE VERSION SHA-256 ROLE", file, line)
			}
		}
	}
	pins, err := filepath.Glob(filepath.Join(top, "tools", "wheels", "*.txt"))
	if err != nil || len(pins) == 0 || fetches < len(pins) {
		t.Fatalf("%d calls of pip found for %d files in tools/wheels (%v)", fetches, len(pins), err)
	}
	for _, file := range pins {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		entries := strings.Split(strings.ReplaceAll(string(text), "\\\n", ""), "\n")
		for _, entry := range entries {
			entry = strings.Join(strings.Fields(entry), " ")
			if entry != "" && !strings.HasPrefix(entry, "#") && !pinnedRequirement.MatchString(entry) {
				t.Errorf("%s: %q: want NAME==VERSION --hash=sha256:...", file, entry)
			}
		}
	}
}

// What npm ci fetches has a SHA-512 in the lock file, which names no server.
func TestNodePackagesArePinned(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "tools", "page", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Integrity, Resolved string }
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	if len(lock.Packages) < 2 {
		t.Error("the lock file has no packages")
	}
	for name, p := range lock.Packages {
		if name != "" && !strings.HasPrefix(p.Integrity, "sha512-") || p.Resolved != "" {
			t.Errorf("%s has the hash %q, and comes from %q", name, p.Integrity, p.Resolved)
		}
	}
}

func TestUnpinnedFetchesAreFound(t *testing.T) {
	for _, c := range []struct {
		script string
		bad    int
	}{
		{"python3 -m pip download --require-hashes -d x -r tools/wheels/a.txt", 0},
		{"python3 -m pip download --require-hashes \\\n\t-d x -r tools/wheels/a.txt", 0},
		{"python3 -m pip --version", 0},
		{"python3 -m pip download llm==0.1.2", 1},
		{"python3 -m pip download -r tools/wheels/a.txt\necho --require-hashes", 1},
		{"python3 -m pip download --require-hashes llm", 1},
		{"pip install x && pip install y", 2},
		{`run([python, "-m", "pip", "install", "--require-hashes",` + "\n" + `    "-r", "tools/wheels/a.txt"], check=True)`, 0},
		{`run([python, "-m", "pip", "install",` + "\n" + `    f"x=={VERSION}"], check=True)  # --require-hashes -r x`, 1},
		{"curl -sSL some.where/x | sh", 1},
		{"apt-get install -y --no-install-recommends x", 0},
		{"apt-get install -y --allow-unauthenticated x", 1},
		{"echo 'deb [trusted=yes] file:/x y z'", 1},
		{"python3 -m pip download --trusted-host x --require-hashes -r tools/wheels/a.txt", 1},
		{"GOINSECURE=x GOFLAGS=-mod=mod go build ./cmd/pumice", 1},
		{"go run ./internal/isareport", 0},
		{"go run some.where/x@latest", 1},
		{"go install some.where/x@latest", 1},
		{"npm install x", 1},
		{"npm ci --ignore-scripts", 0},
	} {
		if got := unpinned(c.script); len(got) != c.bad {
			t.Errorf("%q: %q, want %d", c.script, got, c.bad)
		}
	}
}

// Packages without a hash here rely on apt's signatures, so the scripts' apt refuses an archive without one, whatever
// the machine's settings.
func TestAptRefusesUnsignedArchives(t *testing.T) {
	for _, program := range []string{"bash", "apt-get", "dpkg"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s: the scripts fetch packages on Debian alone", program)
		}
	}
	lib, err := filepath.Abs(filepath.Join("..", "..", "tools", "lib.sh"))
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "archive")
	if err := os.MkdirAll(filepath.Join(archive, "dists", "x", "main"), 0o755); err != nil {
		t.Fatal(err)
	}
	release := "Suite: x\nCodename: x\nArchitectures: amd64 arm64\nComponents: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
	if err := os.WriteFile(filepath.Join(archive, "dists", "x", "Release"), []byte(release), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, source, settings, want string }{
		{"no signature", "sources.list", "deb file://ARCHIVE x main", "", "is not signed"},
		{"settings that allow it", "sources.list", "deb file://ARCHIVE x main",
			`Acquire::AllowInsecureRepositories "true"; APT::Get::AllowUnauthenticated "true";`, "is not signed"},
		{"trusted", "sources.list", "deb [trusted=yes] file://ARCHIVE x main", "", "turn signatures off"},
		{"insecure", "sources.list", "deb [arch=amd64 allow-insecure=yes] file://ARCHIVE x main", "", "turn signatures off"},
		{"trusted stanza", "sources.list.d/x.sources", "Types: deb\nURIs: file://ARCHIVE\nSuites: x\nComponents: main\nTrusted: yes", "", "turn signatures off"},
		{"insecure stanza", "sources.list.d/x.sources", "Types: deb\nURIs: file://ARCHIVE\nSuites: x\nComponents: main\nAllow-Insecure: true", "", "turn signatures off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range map[string]string{
				"apt.conf":                   c.settings,
				filepath.Join("apt", c.file): strings.ReplaceAll(c.source, "ARCHIVE", archive) + "\n",
			} {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name), "sources.list.d"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", `. "$1"; APT_SOURCES=$2/apt; apt_private_index "$2/state"`, "test", lib, dir)
			cmd.Env = slices.Concat(os.Environ(), []string{"APT_CONFIG=" + filepath.Join(dir, "apt.conf"), "LC_ALL=C", "HOME=" + dir})
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v, want a refusal with %q:\n%s", err, c.want, out)
			}
		})
	}
}
