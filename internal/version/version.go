// Package version says which program this is: the revision of its sources, what built it, and the program's own hash. It
// knows nothing of what the program does.
package version

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// stamped is the revision that the linker was given (-X), for builds without Go's own stamp (-buildvcs=false): 40 hexadecimal
// digits, with -dirty behind them where files were changed.
var stamped string

// Commit is the revision of the sources, as git has it, "" if the build does not say, and whether files differed from it.
func Commit() (revision string, modified bool) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
	}
	if revision == "" {
		revision, modified = strings.CutSuffix(stamped, "-dirty")
	}
	return revision, modified
}

// Release is the module's version as Go has it: (devel) for builds from sources.
func Release() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// Build is what built the program, and for what.
func Build() string {
	return fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Program is the SHA-256 of the program's file, in hexadecimal.
func Program() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
