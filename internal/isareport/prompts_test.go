package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tiled is a record of a product of several tokens: of 4096 multiply-adds an invocation.
func tiled(variant, constants string, lanes int, count func(*[pipes]int)) Record {
	r := Record{Variant: variant, Products: 4096, Loop: Work{Loads: 2, LoadBytes: 24}}
	r.Constants, r.Lanes, r.Registers, r.Waves, r.Shared = constants, lanes, 96, 16, 8192
	count(&r.Loop.Pipes)
	return r
}

func TestPromptCostIsForAThousandMultiplyAdds(t *testing.T) {
	for _, c := range []struct {
		name, device, want string
		lanes              int
		count              func(*[pipes]int)
	}{
		// 4096 * 32 multiply-adds a subgroup. AMD's lanes take FMA and ALU alike, 64 a clock.
		{"32 lanes", "navi31", "2.00, 0.50, 12.0, 96, 16, 8192", 32, func(n *[pipes]int) { n[fma], n[alu], n[matrix], n[scalar] = 66, 65, 64, 67 }},
		{"no lanes told", "ampere", "2.00, 0.25, 12.0, 96, 16, 8192", 0, func(n *[pipes]int) { n[fma], n[alu], n[matrix], n[scalar] = 66, 65, 64, 67 }},
		// Of 64 lanes one matrix is for twice as many, and takes one instruction.
		{"64 lanes", "navi31", "1.50, 0.50, 12.0, 96, 16, 8192", 64, func(n *[pipes]int) { n[alu], n[matrix], n[scalar] = 131, 64, 67 }},
	} {
		r := tiled("matmul_q4_0_cm", "", c.lanes, c.count)
		if got := r.promptCost(c.device).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestPromptsStandBesideThePeers(t *testing.T) {
	few := func(n *[pipes]int) { n[alu] = 1000 }
	small, large := tiled("matmul_q4_0_cm", "SUBGROUPS_M=1", 32, few), tiled("matmul_q4_0_cm", "SUBGROUPS_M=4", 32, few)
	small.Products = 1024
	other := tiled("attention_f16_cm", "HEAD_DIM=256 WORKGROUP=128", 32, few)
	heads := tiled("attention_f16_cm", "HEAD_DIM=128 WORKGROUP=128", 32, few)
	other.Products = 8192
	theirs := tiled(peerPrefix+"matmul_q4_0_cm1", "", 32, func(n *[pipes]int) { n[alu] = 2000 })
	theirs.Loop.LoadBytes = 32
	attention := tiled(peerPrefix+"flash_attn_f16_cm1", "", 32, func(n *[pipes]int) { n[alu] = 2000 })
	all := map[string][]Record{}
	for _, d := range devices {
		all[d] = []Record{small, large, other, heads, theirs, attention, tiled("matmul_q4_0_addr", "", 32, few), tiled("matmul_tq2_0_dp", "", 32, few)}
	}
	cellsOf := func(s string) []string { return slices.Repeat([]string{s}, len(devices)) }
	want := row("attention_f16_cm", cellsOf("7.63, 3.81, 12.0, 96, 16, 8192")) + row(attention.Variant, cellsOf("15.26, 7.63, 12.0, 96, 16, 8192")) +
		row("matmul_q4_0_cm", cellsOf("7.63, 3.81, **12.0**, 96, 16, 8192")) + row(theirs.Variant, cellsOf("15.26, 7.63, 16.0, 96, 16, 8192"))
	empty := promptsBegin + promptsEnd
	got := strings.Join(newReport(all).promptRows(empty), "")
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// Without the peer its rows stay.
	for d := range all {
		all[d] = slices.DeleteFunc(all[d], func(r Record) bool { return isPeer("| " + r.Variant) })
	}
	if got := strings.Join(newReport(all).promptRows(promptsBegin+got+promptsEnd), ""); got != want {
		t.Errorf("without the peer\n%swant\n%s", got, want)
	}
}

func TestPromptsAreNoWorseThanThePeers(t *testing.T) {
	ours := tiled("matmul_q4_0_cm", "", 32, func(n *[pipes]int) { n[alu], n[xu] = 900, 100 })
	p := newReport(map[string][]Record{"navi31": {ours}})
	known := []excess{{"products", regexp.MustCompile("^matmul_"), []string{"navi31"}, []string{"instructions"}, "a reason"}}
	const before = "**7.63**, 3.43, 12.0, 96, 16, 8192"
	for _, c := range []struct {
		name, before, peer string
		excesses           []excess
		want               string
	}{
		{"as good", before, "7.63, 3.43, 12.0, 1, 1, 1", nil, ""},
		{"shorter", before, "7.00, 3.43, 12.0, 1, 1, 1", nil, "navi31: matmul_q4_0_cm has 7.63 instructions, llama.cpp matmul_q4_0_cm1 7.00"},
		{"faster", before, "7.63, 3.00, 12.0, 1, 1, 1", known, "navi31: matmul_q4_0_cm has 3.43 clocks, llama.cpp matmul_q4_0_cm1 3.00"},
		{"wider loads", before, "7.63, 3.43, 16.0, 1, 1, 1", known, "navi31: matmul_q4_0_cm has 12.0 bytes a load, llama.cpp matmul_q4_0_cm1 16.0"},
		{"known", before, "7.00, 3.43, 12.0, 1, 1, 1", known, ""},
		{"known, and worse now", "**7.50**, 3.43, 12.0, 1, 1, 1", "7.00, 3.43, 12.0, 1, 1, 1", known, "navi31: matmul_q4_0_cm has 7.63 instructions, the committed table 7.50"},
		{"known, but new", "-", "7.00, 3.43, 12.0, 1, 1, 1", known, "navi31: matmul_q4_0_cm is not in the committed table: run make isa-report"},
		{"no longer", before, "8.00, 3.43, 12.0, 1, 1, 1", known, "products: no longer worse than the peer's: it is no excess"},
		{"not to be had", before, "-", nil, ""},
	} {
		cellsOf := func(s string) []string { return slices.Repeat([]string{s}, len(devices)) }
		text := promptsBegin + row("matmul_q4_0_cm", cellsOf(c.before)) + row(peerPrefix+"matmul_q4_0_cm1", cellsOf(c.peer)) + promptsEnd
		got := ""
		if err := p.checkPrompts(text, c.excesses); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got, want := excessRows(known), "\n- products on navi31, instructions: a reason"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
