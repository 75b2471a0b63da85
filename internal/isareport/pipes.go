package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A pipe is a kind of unit that executes instructions. Each has a rate of its own, so that the fullest one bounds a loop.
type pipe int

const (
	fma     pipe = iota // float multiplication and addition; of NVIDIA integer multiplication and dot products too
	alu                 // other arithmetic of the lanes
	xu                  // transcendental functions; of NVIDIA conversions and counts of bits too
	memory              // loads and stores, global and shared
	shuffle             // passing values between lanes
	matrix              // cooperative matrices
	scalar              // what all lanes share, and branches
	pipes
)

var pipeNames = [pipes]string{"FMA", "ALU", "XU", "MEM", "SHFL", "MMA", "scalar"}

// pipePatterns say which pipe an instruction takes; the first that matches counts, and alu takes the rest. NVIDIA's rates by
// instruction: CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions". AMD's: RDNA ISA documents.
var pipePatterns = []struct {
	pipe    pipe
	pattern *regexp.Regexp
}{
	{matrix, matrixInstruction},
	{shuffle, regexp.MustCompile(`^(shfl|vote|redux|ds_bpermute|ds_permute|ds_swizzle|v_permlane|v_readlane|v_readfirstlane|v_writelane)`)},
	{memory, regexp.MustCompile(`^(ld|st|ldc|lds|sts|ldsm|atom|red|buffer_|global_|flat_|scratch_|ds_|s_load|s_buffer_load|tex|tld|suld|sust)[._]?`)},
	{scalar, regexp.MustCompile(`^(s_|bra|exit|bar|bssy|bsync|break|warpsync|membar|cctl|nop|r2ur|u[a-z0-9]+\b|cs2r|s2r|s2ur|kill|depbar)`)},
	{xu, regexp.MustCompile(`^(mufu|(i2f|f2i|f2f)\b|popc|flo|brev|v_(exp|log|rcp|rsq|sqrt|sin|cos)_|v_s_(exp|log|rcp|rsq|sqrt)_)`)},
	{fma, regexp.MustCompile(`^(ffma|fadd|fmul|hfma2|hadd2|hmul2|imad|imul|idp|v_(pk_|dual_)?(fma|fmac|fmaak|fmamk|add|sub|subrev|mul|mad|mac|dot2|dot2c|dot2acc)(_legacy)?_(f32|f16|mix)|v_fma_mix|v_dot)`)},
}

// pipeOf is the pipe of an instruction.
func pipeOf(code string) pipe {
	for _, p := range pipePatterns {
		if p.pattern.MatchString(code) {
			return p.pipe
		}
	}
	return alu
}

// pipeCell says how many instructions each pipe has, a weight where there are weights, else a trip of the loop.
func pipeCell(r Record) string {
	var list []string
	for p, n := range r.Loop.Pipes {
		switch {
		case n == 0:
		case r.Weights > 0:
			list = append(list, fmt.Sprintf("%.2f %s", float64(n)/float64(r.Weights), pipeNames[p]))
		default:
			list = append(list, fmt.Sprintf("%d %s", n, pipeNames[p]))
		}
	}
	return strings.Join(list, ", ")
}

// parsePipes reads a cell of pipeCell.
func parsePipes(cell string) (counts [pipes]float64, err error) {
	for _, part := range strings.Split(cell, ", ") {
		number, name, _ := strings.Cut(part, " ")
		p := slices.Index(pipeNames[:], name)
		n, err := strconv.ParseFloat(number, 64)
		if p < 0 || err != nil {
			return counts, fmt.Errorf("no instructions of a pipe: %q", part)
		}
		counts[p] = n
	}
	return counts, nil
}

// fullest is the clocks of a unit of so many instructions of a lane, on a device of tools/mesa.sh: those of the pipe that takes
// longest.
func fullest(device string, counts [pipes]float64) float64 {
	rates := nvidiaRates
	switch device {
	case "ampere":
	case "turing":
		rates[fma] = 64
	default:
		rates = amdRates
		rates[alu] = 64 // and FMA together
		counts[alu] += counts[fma]
	}
	most := 0.0
	for p, rate := range rates {
		if rate > 0 {
			most = max(most, counts[p]/rate)
		}
	}
	return most
}
