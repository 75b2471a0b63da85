package kernels

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pumice/internal/dtype"
	"pumice/vk"
)

// A typeEntry is one type's block of shaders/include/types.glsl: the numbers that it defines. A
// define without a number is 1.
type typeEntry map[string]int

// typeEntries reads shaders/include/types.glsl.
func typeEntries(t *testing.T) map[DType]typeEntry {
	t.Helper()
	source, err := os.ReadFile("../../shaders/include/types.glsl")
	if err != nil {
		t.Fatal(err)
	}
	begin := regexp.MustCompile(`^#(?:el)?if defined\(W_(\w+)\)`)
	define := regexp.MustCompile(`^#define (\w+)(?: (\d+))?`)
	entries := map[DType]typeEntry{}
	var entry typeEntry
	for line := range strings.Lines(string(source)) {
		if m := begin.FindStringSubmatch(line); m != nil {
			kind, err := dtype.Parse(m[1])
			if err != nil {
				t.Fatal(err)
			}
			if entries[kind] != nil {
				t.Errorf("types.glsl has two entries for %s", kind)
			}
			entry = typeEntry{}
			entries[kind] = entry
		} else if strings.HasPrefix(line, "#endif") {
			entry = nil
		} else if m := define.FindStringSubmatch(line); m != nil && entry != nil {
			entry[m[1]] = 1
			if m[2] != "" {
				entry[m[1]], err = strconv.Atoi(m[2])
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return entries
}

// The entry of a type in types.glsl agrees with its format, and with the views and sizes that the host passes to kernels.
func TestTypeEntriesMatchLayouts(t *testing.T) {
	t.Parallel()
	entries := typeEntries(t)
	for kind := range formats {
		if entries[kind] == nil {
			t.Errorf("types.glsl has no entry for %s", kind)
		}
	}
	for kind, e := range entries {
		l, ok := formats[kind]
		if !ok {
			t.Errorf("types.glsl has an entry for %s, which has no layout", kind)
			continue
		}
		if l.unitCols != e["UNIT_COLS"] || l.metaCols != e["META_COLS"] {
			t.Errorf("%s: units of %d columns, records of %d; types.glsl says %d and %d", kind, l.unitCols, l.metaCols, e["UNIT_COLS"], e["META_COLS"])
			continue
		}
		pieces := 4 // PIECES * PIECE_UNITS of matvec_sg.comp
		if l.metaCols > 0 {
			record := 4*e["HEAD_WORDS"] + e["HIGH_BITS"]*l.metaCols/8
			if e["HEAD_WORDS"] == 0 {
				record = 2 // a half
			}
			if l.metaBytes != record {
				t.Errorf("%s: records of %d bytes; types.glsl says %d", kind, l.metaBytes, record)
			}
			if e["HEAD_NEEDED"] < 1 || e["HEAD_NEEDED"] > max(1, e["HEAD_WORDS"]) {
				t.Errorf("%s: HEAD_NEEDED is %d of %d", kind, e["HEAD_NEEDED"], e["HEAD_WORDS"])
			}
			if l.unitCols > 16 {
				pieces = 1
			}
			// QUAD_META of weights_row.glsl; units of 64 columns have no row kernels.
			format := View(vk.R32Uint)
			if e["HIGH_BITS"] == 0 && e["LEVELS"] == 0 && e["SCALES"] == 1 && e["HEAD_WORDS"] <= 1 {
				format = vk.RGBA32Uint
			}
			if l.unitCols <= 32 && rowViews(kind)[1] != format {
				t.Errorf("%s: row kernels read records as format %d, bound as %d", kind, format, rowViews(kind)[1])
			}
		}
		if got, want := matvecSGChunk(kind), pieces*l.unitCols; got != want {
			t.Errorf("%s: a lane of matvec_sg takes %d columns in a chunk, the host says %d", kind, want, got)
		}
	}
}

// No other shader source asks which type it is compiled for, so a new type is an entry of types.glsl.
func TestOnlyTypeEntriesNameTypes(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../../shaders/*.comp", "../../shaders/include/*.glsl"} {
		list, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, list...)
	}
	if len(files) < 20 || !slices.Contains(files, "../../shaders/include/types.glsl") {
		t.Fatalf("found %d shader sources", len(files))
	}
	var names []string
	for kind := range formats {
		names = append(names, kind.String())
	}
	name := regexp.MustCompile(`\bW_(` + strings.Join(names, "|") + `)\b`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(source), "\n") {
			if filepath.Base(file) != "types.glsl" && name.MatchString(line) {
				t.Errorf("%s:%d names a type: %s", file, i+1, line)
			}
		}
	}
}
