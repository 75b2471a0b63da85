package licenses

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryFileIsAWork(t *testing.T) {
	t.Parallel()
	works, err := Read(Files)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range works {
		if i > 0 && works[i-1].Name == w.Name {
			t.Errorf("two files about %s", w.Name)
		}
		if back, err := decode(string(w.Encode())); err != nil || !cmp.Equal(w, back) {
			t.Errorf("%s: %v, %s", w.Name, err, cmp.Diff(w, back))
		}
		if !strings.Contains(w.Text, "opyright") && w.License != "Apache-2.0" {
			t.Errorf("%s names no copyright holder", w.Name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"no text":       "Name: a\nVersion: 1\nLicense: MIT\nUse: linked\n\n\n",
		"no head":       "MIT License",
		"no name":       "Version: 1\nLicense: MIT\nUse: linked\n\ntext",
		"another field": "Name: a\nVersion: 1\nLicense: MIT\nUse: linked\nMore: b\n\ntext",
		"a field twice": "Name: a\nName: a\nVersion: 1\nLicense: MIT\nUse: linked\n\ntext",
		"empty license": "Name: a\nVersion: 1\nLicense:\nUse: linked\n\ntext",
	} {
		if w, err := decode(content); err == nil {
			t.Errorf("%s: %+v", name, w)
		}
	}
}
