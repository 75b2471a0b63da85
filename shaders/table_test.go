package shaders

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRowsOfTypesAreOneKernelEach(t *testing.T) {
	t.Parallel()
	got, err := parseTable(`
# a comment
types all  = f32,f16,q8_0,q4_k # of weights
types some = all,-f16

matvec_{T}_sg  matvec_sg.comp  subgroup,full  some,f16  W_{T} HEAD=64
topk           topk.comp       -              -
`)
	if err != nil {
		t.Fatal(err)
	}
	needs := []string{"subgroup", "full"}
	want := []Row{
		{"matvec_f32_sg", "matvec_sg.comp", needs, []string{"W_F32", "HEAD=64"}},
		{"matvec_q8_0_sg", "matvec_sg.comp", needs, []string{"W_Q8_0", "HEAD=64"}},
		{"matvec_q4_k_sg", "matvec_sg.comp", needs, []string{"W_Q4_K", "HEAD=64"}},
		{"matvec_f16_sg", "matvec_sg.comp", needs, []string{"W_F16", "HEAD=64"}},
		{Name: "topk", Source: "topk.comp", Defines: []string{}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesInTheTableAreErrors(t *testing.T) {
	t.Parallel()
	const sets = "types all = f32,f16\n"
	for text, want := range map[string]string{
		"add add.comp -":                               ":2: want NAME SOURCE NEEDS TYPES [DEFINE...]",
		"add_{T} add.comp - -":                         "add_{T} has {T} but no types",
		"add add.comp - f32":                           "add has types but no {T}",
		"add_{T} add.comp - f23":                       `"f23" is neither a set nor in one`,
		"add_{T} add.comp - all,f32":                   "f32 twice",
		"add_{T} add.comp - f32,-f16":                  "no f16 to take out",
		"add_{T} add.comp - all,-f16,-f32":             "none left",
		"Add add.comp - -":                             `name "Add" is not lower case`,
		"add add.comp - -\nadd add.comp - -":           ":3: add is also in line 2",
		"add_f16 add.comp - -\nadd_{T} add.comp - all": ":3: add_f16 is also in line 2",
		"types all = f32":                              "types all is defined twice",
		"types all f32":                                "want types NAME = LIST",
	} {
		if _, err := parseTable(sets + text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestEverySourceHasARow(t *testing.T) {
	t.Parallel()
	rows, err := Rows()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, r := range rows {
		used[r.Source] = true
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".comp") && !used[name] {
			t.Errorf("no row of variants.txt compiles %s", name)
		}
	}
}
