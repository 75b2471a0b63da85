package quantize

import (
	"fmt"
	"slices"
	"strings"

	"pumice/internal/dtype"
	"pumice/model"
)

// A Mix is a mixture of types that llama.cpp has a name for: most matrices have Type, and those whose errors a model feels most
// have more bits. The rules are llama.cpp's without an importance matrix (src/llama-quant.cpp at 007dbbf, llama_tensor_get_type_impl), so that
// a file has the types that llama-quantize would give it.
type Mix struct {
	Name     string      // llama.cpp's, such as Q4_K_M
	Type     dtype.DType // of matrices for which there is no rule
	FileType uint32      // llama.cpp's number (llama.h, enum llama_ftype)
	rules    []mixRule   // the first that applies to a tensor counts
}

// A mixRule gives the tensors of a part, in some layers of some models, another type.
type mixRule struct {
	part   part
	layers func(layer, layers int) bool
	models func(x *model.Export) bool
	to     dtype.DType
}

// A part is what the names of its tensors end with, besides "weight".
type part []string

var (
	attnV   = part{"attn_v", "attn_qkv"}
	attnOut = part{"attn_output"}
	ffnDown = part{"ffn_down"}
)

func (p part) has(name string) bool {
	for _, end := range p {
		if strings.HasSuffix(name, "."+end+".weight") {
			return true
		}
	}
	return false
}

// Layers of a rule.
var (
	every     = func(int, int) bool { return true }
	eighth    = func(layer, layers int) bool { return layer < layers/8 }
	sixteenth = func(layer, layers int) bool { return layer < layers/16 }
	// half are the first and the last eighth, and every third layer between them (use_more_bits).
	half = func(layer, layers int) bool {
		return layer < layers/8 || layer >= 7*layers/8 || (layer-layers/8)%3 == 2
	}
)

func first(n int) func(int, int) bool { return func(layer, _ int) bool { return layer < n } }

// Models of a rule.
var (
	all     = func(*model.Export) bool { return true }
	grouped = func(x *model.Export) bool { return x.Heads >= 4*x.KVHeads }
	falcon  = func(x *model.Export) bool { return x.Architecture == "falcon" }
	others  = func(x *model.Export) bool { return !falcon(x) }
)

// mixes are all mixtures of types that package dtype has. A name that is also a type's stands for the mixture where
// llama.cpp's names are meant.
var mixes = []Mix{
	{"Q2_K", dtype.Q2_K, 10, []mixRule{
		{attnV, every, grouped, dtype.Q4_K}, {attnV, every, all, dtype.Q3_K}, {ffnDown, every, all, dtype.Q3_K}, {attnOut, every, others, dtype.Q3_K},
	}},
	{"Q2_K_S", dtype.Q2_K, 21, []mixRule{
		{attnV, every, grouped, dtype.Q4_K}, {ffnDown, eighth, all, dtype.Q4_K},
	}},
	{"Q3_K_S", dtype.Q3_K, 11, nil},
	{"Q3_K_M", dtype.Q3_K, 12, []mixRule{
		{attnV, first(2), all, dtype.Q5_K}, {attnV, every, all, dtype.Q4_K},
		{ffnDown, sixteenth, all, dtype.Q5_K}, {ffnDown, every, others, dtype.Q4_K}, {ffnDown, half, falcon, dtype.Q4_K},
		{attnOut, every, others, dtype.Q4_K},
	}},
	{"Q3_K_L", dtype.Q3_K, 13, []mixRule{
		{attnV, every, all, dtype.Q5_K}, {ffnDown, every, others, dtype.Q5_K}, {attnOut, every, others, dtype.Q5_K},
		{ffnDown, every, falcon, dtype.Q4_K}, {attnOut, every, falcon, dtype.Q4_K},
	}},
	{"Q4_K_S", dtype.Q4_K, 14, []mixRule{
		{attnV, first(4), all, dtype.Q5_K}, {ffnDown, eighth, others, dtype.Q5_K},
	}},
	{"Q4_K_M", dtype.Q4_K, 15, []mixRule{
		{attnV, half, all, dtype.Q6_K}, {ffnDown, half, others, dtype.Q6_K},
		{ffnDown, sixteenth, falcon, dtype.Q6_K}, {ffnDown, half, falcon, dtype.Q5_K},
	}},
	{"Q5_K_S", dtype.Q5_K, 16, nil},
	{"Q5_K_M", dtype.Q5_K, 17, []mixRule{
		{attnV, half, all, dtype.Q6_K}, {ffnDown, half, all, dtype.Q6_K},
	}},
	{"IQ4_NL", dtype.IQ4_NL, 25, []mixRule{
		{attnV, every, grouped, dtype.Q5_K}, {ffnDown, eighth, all, dtype.Q5_K},
	}},
	{"IQ4_XS", dtype.IQ4_XS, 30, []mixRule{
		{attnV, every, grouped, dtype.Q5_K}, {ffnDown, eighth, all, dtype.Q5_K},
	}},
}

// MixNamed returns the mixture with a name, in upper or lower case, nil if there is none.
func MixNamed(name string) *Mix {
	for i := range mixes {
		if strings.EqualFold(mixes[i].Name, name) {
			return &mixes[i]
		}
	}
	return nil
}

// MixNumbered returns the mixture of a number of llama.cpp, nil if there is none.
func MixNumbered(fileType uint32) *Mix {
	for i := range mixes {
		if mixes[i].FileType == fileType {
			return &mixes[i]
		}
	}
	return nil
}

// MixNames lists the mixtures whose names are no type's, in lower case.
func MixNames() (names []string) {
	for _, m := range mixes {
		if _, err := dtype.Parse(m.Name); err != nil {
			names = append(names, strings.ToLower(m.Name))
		}
	}
	return names
}

// typeOf returns the type of a matrix in a file of the mixture, before rows that its blocks don't divide get another.
func (m *Mix) typeOf(t *model.ExportTensor, x *model.Export) dtype.DType {
	isHead := func(t model.ExportTensor) bool { return t.Role == model.HeadMatrix }
	if isHead(*t) || t.Role == model.EmbeddingMatrix && !slices.ContainsFunc(x.Tensors, isHead) { // the embedding is the head
		if falcon(x) {
			return dtype.Q8_0
		}
		return dtype.Q6_K
	}
	layer := 0
	if _, err := fmt.Sscanf(t.Name, "blk.%d.", &layer); err != nil {
		return m.Type
	}
	to := m.Type
	for _, r := range m.rules {
		if r.part.has(t.Name) && r.layers(layer, x.Layers) && r.models(x) {
			to = r.to
			break
		}
	}
	// The values of Llama 2 70B and its like are an eighth of the queries, so that more bits cost little.
	const layersOf70B = 80
	if attnV.has(t.Name) && x.Layers == layersOf70B && x.Heads > x.KVHeads && (to == dtype.Q3_K || to == dtype.Q4_K) {
		to = dtype.Q5_K
	}
	return to
}
