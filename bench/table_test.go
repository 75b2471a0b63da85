package bench

import (
	"strings"
	"testing"
)

// TestPlainTables: columns stand below each other, rows that come one by one too, and other text stays as it is.
func TestPlainTables(t *testing.T) {
	text := "device: A\n\n| name | GB/s |\n| --- | ---: |\n| read | 7 |\n| ± copy | 12.5 |\nend | of it\n"
	want := "device: A\n\nname    GB/s\nread       7\n± copy  12.5\nend | of it\n"
	if got := Plain(text); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for head, line := range map[string]string{
		TableHead: TableRow(row(Test{Prompt: 512}, 10, 11)), ParallelHead: ParallelRow(ParallelResult{}), LoadHead: LoadRow(LoadResult{}),
	} {
		head, line = Plain(head), Plain(line)
		if strings.Count(head, "\n") != 1 || strings.Contains(head+line, "|") || len([]rune(head)) != len([]rune(line)) {
			t.Errorf("%q has another width than %q", line, head)
		}
	}
}
