package main

import (
	"slices"
	"strings"
	"testing"
)

// The code has a loop of two rows per iteration, and a tail that is not a loop. The loop is entered at its test, as in
// ACO's layout.
const radv = `BB0:
	s_mov_b32 s0, s3                                            ; be800003
	s_branch BB2                                                ; bfa00279
BB1:
	buffer_load_b128 v[4:7], v3, s[16:19], 0 offen              ; e05c0000 80440403
	s_delay_alu instid0(VALU_DEP_1)                             ; bf870091
	v_cvt_f32_ubyte0_e32 v1, v2                                 ; 7e022302
BB3:
	buffer_load_ushort v2, v2, s[20:23], 0 offen                ; e0500000
	v_fmac_f32_e32 v1, v2, v3                                   ; 56020702
	v_dot2c_f32_f16 v1, v2, v3                                  ; 04020702
	s_waitcnt vmcnt(0)                                          ; bf8903f7
	s_cbranch_scc0 BB3                                          ; bfa10005
BB2:
	s_cmp_lt_u32 s0, s1                                         ; bf0a0100
	s_cbranch_scc1 BB1                                          ; bfa2fd84
BB4:
	v_dot4_i32_i8 v0, v1, v2, v3                                ; cc160000
	s_endpgm                                                    ; bfb00000
`

const nak = `block.u 0 L2 [] -> {
      r2      = lea r2 2 0x70                              // delay=4
                bra pT L4                                  // delay=5
} -> [1]
block 1 L4 [0, 1] -> {
      r8..12  = ld.global.a64.constant.b128 [r6..8]        // delay=2 wt=000001
@!p0  r1      = ffma.ftz r8 r2 r1                          // delay=4
      nop L4                                               // delay=1
@p0             bra pT L4                                  // delay=1
} -> [1, 2]
block 2 L5 [1] -> {
      r4..8   = hmma.m16n8k16.f32 r0..4 r8..10 rZ          // delay=4
                exit                                       // delay=1
} -> []
`

func workOf(w Work, _ bool) Work { return w }

func TestMainLoopCountsWhatATripTakes(t *testing.T) {
	blocks := parseRADV(radv)
	if w, want := workOf(mainLoop(blocks, 2, nil)), (Work{Instructions: 2 + 2*4 + 2, Loads: 3, LoadBytes: 16 + 2*2, Pipes: [pipes]int{fma: 4, alu: 1, memory: 3, scalar: 2 + 2}, FloatDots: 2}); w != want {
		t.Errorf("RADV: %+v, want %+v", w, want)
	} else if w = w.withoutFloatDots(); w.Instructions != 2+2*5+2 || w.Pipes[fma] != 6 || w.FloatDots != 0 {
		t.Errorf("RADV: %+v of a device without dots of float16 numbers", w)
	}
	if !has(blocks, dotInstruction) || has(blocks, matrixInstruction) {
		t.Error("RADV: dot and matrix instructions are mistaken")
	}
	if w, known := mainLoop(blocks, 1, []int{3}); !known || w.Instructions != 2+3*4+2 {
		t.Errorf("RADV: %+v, %t with three trips inside", w, known)
	}
	if w, known := mainLoop(blocks, 1, []int{3, 4}); known || w.Instructions != 2+4+2 {
		t.Errorf("RADV: %+v, %t with two loops inside", w, known)
	}
	blocks = parseNAK(nak)
	if w, want := workOf(mainLoop(blocks, 2, nil)), (Work{Instructions: 3, Loads: 1, LoadBytes: 16, Pipes: [pipes]int{fma: 1, memory: 1, scalar: 1}}); w != want {
		t.Errorf("NAK: %+v, want %+v", w, want)
	}
	if has(blocks, dotInstruction) || !has(blocks, matrixInstruction) {
		t.Error("NAK: dot and matrix instructions are mistaken")
	}
}

func TestIntelsInstructionsAreFound(t *testing.T) {
	const moves = "mov(8)          g47<1>UD        g0.1<0,1,0>UD                   { align1 WE_all 1Q };\n"
	for _, c := range []struct {
		code        string
		matrix, dot bool
	}{
		{"dpas.8x8(16)    g60<1>F         g60<1,1,0>F     g20<1,1,0>HF    g40<1,1,0>HF    { align1 1H $1 };", true, false},
		{"dp4a(16)        g30<1>D         g30<1,1,0>D     g12<1,1,0>D     g14<1,1,1>D     { align1 1H };", false, true},
		{"(+f0.0) dp4a(8) g30<1>D         g30<1,1,0>D     g12<1,1,0>D     g14<1,1,1>D     { align1 1Q };", false, true},
		{"send(8)         nullUD          g35UD           g8UD            0x62003504\n                ugm MsgDesc: ( store, dpas dp4a )", false, false},
	} {
		text := moves + c.code + "\n" + moves
		if m, d := intelMatrix.MatchString(text), intelDot.MatchString(text); m != c.matrix || d != c.dot {
			t.Errorf("%s: matrix %t, dot %t", c.code, m, d)
		}
	}
}

func TestReportRefusesWhatBreaksARule(t *testing.T) {
	good := Record{Kernel: "matvec_q4_0_sg[32 0]", Variant: "matvec_q4_0_sg", Weights: 8, Loop: Work{Instructions: 24, Loads: 1, LoadBytes: 16}}
	good.Waves = 16
	on := func(list ...Record) map[string][]Record {
		all := map[string][]Record{}
		for _, d := range devices {
			all[d] = list
		}
		return all
	}
	empty := loopsBegin + loopsEnd + promptsBegin + promptsEnd + pipesBegin + pipesEnd + kernelsBegin + kernelsEnd
	written, err := newReport(on(good)).write(empty)
	if err != nil || !strings.Contains(written, "| matvec_q4_0_sg | 3.00, 16.0 |") {
		t.Fatalf("%v\n%s", err, written)
	}
	longer, spilling, crowded := good, good, good
	longer.Loop.Instructions, spilling.Spills, crowded.Waves = 25, 3, 15
	for _, c := range []struct {
		name, want string
		record     Record
	}{
		{"as committed", "", good},
		{"longer", "takes 3.12 instructions a weight", longer},
		{"fewer subgroups", "leaves room for 15 subgroups, the committed table has 16", crowded},
		{"spill", "spills 3 registers", spilling},
		{"matrix", "no matrix instruction", Record{Kernel: "x", Variant: "matmul_f16_cm"}},
		{"dot", "no dot instruction", Record{Kernel: "x", Variant: "matmul_q4_0_dp"}},
		{"new", "not in the committed table", Record{Kernel: "x", Variant: "matvec_f16_sg", Weights: 8, Loop: good.Loop}},
	} {
		err := newReport(on(c.record)).check(written)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Intel's devices have no rows in these tables.
	intel := newReport(map[string][]Record{"dg2": {spilling}, "bmg": {{Kernel: "x", Variant: "matmul_f16_cm"}, {Kernel: "y", Variant: "matvec_q4_0_dp2"}}})
	want := "bmg: x has no matrix instruction\nbmg: y has no dot instruction\ndg2: matvec_q4_0_sg[32 0] spills 3 registers"
	if err := intel.check(written); err == nil || err.Error() != want {
		t.Errorf("Intel: %v", err)
	}
	// A report made without the peer keeps the peer's rows.
	theirs := "| " + peerPrefix + "mul_mat_vec_f16 | 1 | 1 | 1 | 1 | 1 |\n"
	kept, err := newReport(on(good)).write(strings.Replace(written, loopsEnd, theirs+loopsEnd, 1))
	if err != nil || strings.Count(kept, theirs) != 1 {
		t.Errorf("%v\n%s", err, kept)
	}
}

func TestPipes(t *testing.T) {
	for _, c := range []struct {
		want pipe
		code []string
	}{
		{fma, []string{"ffma.ftz r8 r2 r1", "fadd.ftz", "imad", "hfma2", "idp4.u8.s8", "v_fmac_f32_e32 v1", "v_pk_fma_f16", "v_dual_fmac_f32", "v_fma_mix_f32", "v_dot4_i32_iu8"}},
		{alu, []string{"lop3.lut", "iadd3", "shf.r.u32", "prmt", "sel", "i2fp.s32", "v_cvt_f32_ubyte0_e32", "v_and_b32_e32", "v_lshl_or_b32", "v_add_nc_u32_e32"}},
		{xu, []string{"mufu.ex2", "i2f.u8", "f2i.s32", "popc", "v_exp_f32_e32", "v_rcp_f32_e32"}},
		{memory, []string{"ld.global.b128", "ldc.b32", "st.shared.b32", "ldsm.m16n8", "atom.global", "buffer_load_b128", "global_load_b128", "ds_load_b128", "s_load_b64", "s_buffer_load_b32"}},
		{shuffle, []string{"shfl.bfly", "ds_bpermute_b32", "v_permlanex16_b32", "v_readlane_b32"}},
		{matrix, []string{"hmma.m16n8k16.f32", "v_wmma_f32_16x16x16_f16"}},
		{scalar, []string{"bra pT L4", "exit", "bar.sync", "s_cmp_lt_u32 s0", "uiadd3", "s2r"}},
	} {
		for _, code := range c.code {
			if got := pipeOf(code); got != c.want {
				t.Errorf("%s: %s, want %s", code, pipeNames[got], pipeNames[c.want])
			}
		}
	}
}

// TestProductsAreNoWorseThanThePeers: ours takes 3 instructions a weight, of which one is a conversion, in loads of 16 bytes.
func TestProductsAreNoWorseThanThePeers(t *testing.T) {
	ours := Record{Variant: "matvec_q4_0_sg", Weights: 8, Loop: Work{Instructions: 24, Loads: 1, LoadBytes: 16}}
	ours.Loop.Pipes[xu], ours.Loop.Pipes[fma] = 8, 16
	p := &report{variants: map[string]map[string]Record{"matvec_q4_0_sg": {"navi31": ours, "ampere": ours}}}
	for _, c := range []struct {
		name, loop, pipes string
		want              []string
	}{
		{"as good", "3.00, 16.0", "1.00 XU, 2.00 FMA", nil},
		{"worse", "4.00, 4.0", "1.12 XU, 4.50 ALU", nil},
		{"shorter", "2.90, 16.0", "1.00 XU", []string{
			"navi31: matvec_q4_0_sg takes 3.00 instructions a weight, llama.cpp mul_mat_vec_q4_0 2.90",
			"ampere: matvec_q4_0_sg takes 3.00 instructions a weight, llama.cpp mul_mat_vec_q4_0 2.90"}},
		{"wider loads", "3.00, 16.1", "1.00 XU", []string{
			"navi31: a load of matvec_q4_0_sg has 16.0 bytes, of llama.cpp mul_mat_vec_q4_0 16.1",
			"ampere: a load of matvec_q4_0_sg has 16.0 bytes, of llama.cpp mul_mat_vec_q4_0 16.1"}},
		// 16 conversions a clock on both; 64 other instructions.
		{"fewer conversions", "3.00, 16.0", "0.50 XU, 2.50 ALU", []string{
			"navi31: matvec_q4_0_sg takes 0.0625 clocks a weight and unit, llama.cpp mul_mat_vec_q4_0 0.0391",
			"ampere: matvec_q4_0_sg takes 0.0625 clocks a weight and unit, llama.cpp mul_mat_vec_q4_0 0.0391"}},
		{"not to be read", "3.00", "1.00 XU", []string{
			`navi31: the committed table has no numbers of llama.cpp mul_mat_vec_q4_0: "3.00"`,
			`ampere: the committed table has no numbers of llama.cpp mul_mat_vec_q4_0: "3.00"`}},
		{"pipes not to be read", "3.00, 16.0", "1.00 CPU", []string{
			`navi31: llama.cpp mul_mat_vec_q4_0: no instructions of a pipe: "1.00 CPU"`,
			`ampere: llama.cpp mul_mat_vec_q4_0: no instructions of a pipe: "1.00 CPU"`}},
	} {
		cellsOf := func(s string, n int) []string { return slices.Repeat([]string{s}, n) }
		peer := peerPrefix + "mul_mat_vec_q4_0"
		text := loopsBegin + row("matvec_q4_0_sg", cellsOf("3.00, 16.0", len(devices))) + row(peer, cellsOf(c.loop, len(devices))) + loopsEnd +
			pipesBegin + row(peer, cellsOf(c.pipes, len(checkedDevices))) + pipesEnd
		got := ""
		if err := p.check(text); err != nil {
			got = err.Error()
		}
		if got != strings.Join(c.want, "\n") {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}
