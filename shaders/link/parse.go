package link

import (
	"errors"

	"pumice/internal/spirv"
)

type instruction = spirv.Instruction

// Numbers of the SPIR-V specification, version 1.6, section 3, and of SPV_KHR_physical_storage_buffer.
const (
	modelPhysicalStorageBuffer64 = 5348
	modelGLSL450                 = 1
	capabilityShader             = 1
	capabilityInt64              = 11
	capabilityPhysicalAddresses  = 5347
	executionModeLocalSize       = 17

	memoryAligned = 2
)

// layouts has the operands of each instruction that kernels may have: i is an id, l a literal. The last letter stands for all
// operands that are left. An instruction that is not here can't be linked.
var layouts = map[uint32]string{
	spirv.OpExtInst: "iiili", spirv.OpTypeVoid: "i", spirv.OpTypeBool: "i", spirv.OpTypeInt: "il", spirv.OpTypeFloat: "il",
	spirv.OpTypeVector: "iil", spirv.OpTypeArray: "iii", spirv.OpTypeRuntimeArray: "ii", spirv.OpTypeStruct: "i",
	spirv.OpTypePointer: "ili", spirv.OpTypeFunction: "i", spirv.OpTypeForwardPointer: "il", spirv.OpConstantTrue: "ii",
	spirv.OpConstantFalse: "ii", spirv.OpConstant: "iil", spirv.OpConstantComposite: "i", spirv.OpConstantNull: "ii",
	spirv.OpSpecConstantTrue: "ii", spirv.OpSpecConstantFalse: "ii", spirv.OpSpecConstant: "iil",
	spirv.OpSpecConstantComposite: "i", spirv.OpSpecConstantOp: "iili", spirv.OpFunction: "iili",
	spirv.OpFunctionParameter: "ii", spirv.OpFunctionEnd: "", spirv.OpVariable: "iili", spirv.OpLoad: "iiil",
	spirv.OpStore: "iil", spirv.OpAccessChain: "i", spirv.OpInBoundsAccessChain: "i", spirv.OpDecorate: "il",
	spirv.OpMemberDecorate: "il", spirv.OpVectorExtractDynamic: "i", spirv.OpVectorInsertDynamic: "i",
	spirv.OpVectorShuffle: "iiiil", spirv.OpCompositeConstruct: "i", spirv.OpCompositeExtract: "iiil",
	spirv.OpCompositeInsert: "iiiil", spirv.OpCopyObject: "iii", spirv.OpUndef: "ii", spirv.OpControlBarrier: "i",
	spirv.OpMemoryBarrier: "i", spirv.OpPhi: "i", spirv.OpLoopMerge: "iil", spirv.OpSelectionMerge: "il", spirv.OpLabel: "i",
	spirv.OpBranch: "i", spirv.OpBranchConditional: "iiil", spirv.OpReturn: "", spirv.OpUnreachable: "",
	spirv.OpGroupNonUniformElect: "iii", spirv.OpGroupNonUniformAll: "i", spirv.OpGroupNonUniformAny: "i",
	spirv.OpGroupNonUniformAllEqual: "i", spirv.OpGroupNonUniformBroadcast: "i", spirv.OpGroupNonUniformBroadcastFirst: "i",
	spirv.OpGroupNonUniformBallot: "i", spirv.OpGroupNonUniformShuffle: "i", spirv.OpGroupNonUniformShuffleXor: "i",
	spirv.OpGroupNonUniformShuffleUp: "i", spirv.OpGroupNonUniformShuffleDown: "i", spirv.OpGroupNonUniformQuadBroadcast: "i",
	spirv.OpGroupNonUniformQuadSwap: "i", spirv.OpSDot: "i", spirv.OpUDot: "i", spirv.OpSUDot: "i", spirv.OpSDotAccSat: "i",
	spirv.OpUDotAccSat: "i", spirv.OpSUDotAccSat: "i",
}

func init() {
	span := func(from, to uint32, layout string) {
		for op := from; op <= to; op++ {
			layouts[op] = layout
		}
	}
	span(109, 124, "i")     // conversions
	span(126, 152, "i")     // arithmetic
	span(154, 191, "i")     // truth values and comparisons
	span(194, 205, "i")     // bits
	span(207, 215, "i")     // derivatives, which kernels don't have
	span(227, 242, "i")     // atomics
	span(349, 364, "iiili") // sums and such of subgroups
}

// resultOf is where an instruction has the id that it defines: 0 or 1 of args, or -1.
func resultOf(op uint32) int {
	switch op {
	case spirv.OpExtInstImport, spirv.OpTypeVoid, spirv.OpTypeBool, spirv.OpTypeInt, spirv.OpTypeFloat, spirv.OpTypeVector, 28, 29, spirv.OpTypeStruct, spirv.OpTypePointer, spirv.OpTypeFunction, spirv.OpLabel:
		return 0
	case spirv.OpStore, spirv.OpControlBarrier, spirv.OpMemoryBarrier, spirv.OpLoopMerge, spirv.OpSelectionMerge, spirv.OpBranch, spirv.OpBranchConditional, spirv.OpSwitch, spirv.OpReturn, 255,
		spirv.OpFunctionEnd, spirv.OpDecorate, spirv.OpMemberDecorate, 39, 228, spirv.OpExtension, spirv.OpMemoryModel, spirv.OpEntryPoint, spirv.OpExecutionMode, spirv.OpCapability:
		return -1
	}
	return 1
}

// A module is SPIR-V, cut into its instructions.
type module struct {
	version uint32
	globals []instruction // before the first function
	body    []instruction // from OpFunction to OpFunctionEnd, of the only one
}

func parse(code []byte) (*module, error) {
	cut, err := spirv.Cut(code)
	if err != nil {
		return nil, err
	}
	m := &module{version: cut.Version}
	for _, in := range cut.List {
		switch {
		case in.Op == spirv.OpFunction && m.body != nil:
			return nil, errors.New("more than one function")
		case in.Op == spirv.OpFunction || m.body != nil:
			m.body = append(m.body, in)
		default:
			m.globals = append(m.globals, in)
		}
	}
	if m.body == nil {
		return nil, errors.New("no function")
	}
	return m, nil
}
