package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/shaders"
)

func TestChanges(t *testing.T) {
	for line, want := range map[string][]string{
		"    uint c = u * UNIT_COLS;": {"    uint c = u;"},
		"    x[i] *= scale; // of 2 * 3": {
			"    x[i + 1] *= scale; // of 2 * 3", "    x[i - 1] *= scale; // of 2 * 3", "    x[i]; // of 2 * 3"},
		"    for (uint i = 0u; i < n; i++)": {
			"    for (uint i = 0u; i <= n; i++)", "    for (uint i = 1u; i < n; i++)",
			"    for (uint i = 0u; i < n + 1; i++)", "    for (uint i = 0u; i < n - 1; i++)"},
		"    if (HAS_BIAS) y += bias;": {
			"    if (HAS_BIAS) y -= bias;", "    if (true) y += bias;", "    if (false) y += bias;"},
		"    float v = inside ? max(a, 0.5) : 0xf0u;": {
			"    float v = inside ? min(a, 0.5) : 0xf0u;",
			"    float v = inside ? max(a, (2.0 * 0.5)) : 0xf0u;", "    float v = inside ? max(a, 0.5) : 0xe0u;",
			"    float v = true ? max(a, 0.5) : 0xf0u;", "    float v = false ? max(a, 0.5) : 0xf0u;"},
		"    [[unroll]] for (uint i = 0u; i < n; i++)": {
			"    [[unroll]] for (uint i = 1u; i < n; i++)", "    [[unroll]] for (uint i = 0u; i < n - 1; i++)"},
		"#define ROWS 2u":          {"#define ROWS 3u"},
		"#define STEP_BINDING 0":   nil,
		"    barrier(); // of 2":   {"    ; // of 2"},
		"    float xs[4];":         nil,
		"layout(binding = 2) in;":  nil,
		"    m = subgroupMax(m);":  {"    m = subgroupMin(m);"},
		"    if (lane0 == 1) x--;": {"    if (lane0 == 2) x--;", "    if (true) x--;", "    if (false) x--;"},
	} {
		var got []string
		for _, o := range operators {
			for _, c := range changes(o, "a.comp", []string{line}, map[int]bool{0: true}) {
				got = append(got, c.after)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
	if got := changes(constants, "a.comp", []string{"x = 1;"}, nil); got != nil {
		t.Errorf("a line that is not compiled: %v", got)
	}
}

// The committed list is of lines that the sources have.
func TestEquivalents(t *testing.T) {
	t.Chdir("../..")
	if _, err := readEquivalents("tools/mutate/equivalent.txt"); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"add.comp\n- a\n+ b\n", "add.comp\n- no such line\n+ b\n= c\n", "no.comp\n- a\n+ b\n= c\n"} {
		file := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := readEquivalents(file); err == nil {
			t.Errorf("%q: %v", text, list)
		}
	}
}

func TestUnits(t *testing.T) {
	list, err := units()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, u := range list {
		names[u.op]++
		if slices.ContainsFunc(u.variants, func(v shaders.Variant) bool { return v.Source != u.source() }) {
			t.Errorf("%s: variants of several sources", u.source())
		}
	}
	// matmul.comp is compiled with FP16 as well, embed.comp with LANE_WORDS.
	if names["matmul"] != 8 || names["embed"] != 2 || names["attention_decode"] != 4 || names["add"] != 1 {
		t.Errorf("%v", names)
	}
}
