package link

import (
	"errors"

	"pumice/internal/spirv"
)

type instruction = spirv.Instruction

// Numbers of the SPIR-V specification, version 1.6, section 3, and of SPV_KHR_physical_storage_buffer.
const (
	opExtension             = 10
	opExtInstImport         = 11
	opExtInst               = 12
	opMemoryModel           = 14
	opEntryPoint            = 15
	opExecutionMode         = 16
	opCapability            = 17
	opTypeVoid              = 19
	opTypeBool              = 20
	opTypeInt               = 21
	opTypeFloat             = 22
	opTypeVector            = 23
	opTypeStruct            = 30
	opTypePointer           = 32
	opTypeFunction          = 33
	opConstantTrue          = 41
	opConstantFalse         = 42
	opConstant              = 43
	opSpecConstantTrue      = 48
	opSpecConstantFalse     = 49
	opSpecConstant          = 50
	opSpecConstantOp        = 52
	opFunction              = 54
	opFunctionParameter     = 55
	opFunctionEnd           = 56
	opFunctionCall          = 57
	opVariable              = 59
	opLoad                  = 61
	opStore                 = 62
	opAccessChain           = 65
	opInBoundsAccessChain   = 66
	opDecorate              = 71
	opMemberDecorate        = 72
	opCompositeConstruct    = 80
	opCompositeExtract      = 81
	opCopyObject            = 83
	opConvertUToPtr         = 120
	opIAdd                  = 128
	opISub                  = 130
	opIMul                  = 132
	opUDiv                  = 134
	opUMod                  = 137
	opIEqual                = 170
	opINotEqual             = 171
	opUGreaterThanEqual     = 174
	opULessThan             = 176
	opUConvert              = 113
	opLogicalOr             = 166
	opSelect                = 169
	opBitwiseOr             = 197
	opBitwiseAnd            = 199
	opAtomicCompareExchange = 230
	opControlBarrier        = 224
	opMemoryBarrier         = 225
	opAtomicIAdd            = 234
	opPhi                   = 245
	opLoopMerge             = 246
	opSelectionMerge        = 247
	opLabel                 = 248
	opBranch                = 249
	opBranchConditional     = 250
	opSwitch                = 251
	opReturn                = 253

	decorationSpecID        = 1
	decorationBlock         = 2
	decorationBuiltIn       = 11
	decorationCoherent      = 23
	decorationNonWritable   = 24
	decorationNonReadable   = 25
	decorationBinding       = 33
	decorationDescriptorSet = 34
	decorationOffset        = 35

	builtInNumWorkgroups       = 24
	builtInWorkgroupSize       = 25
	builtInWorkgroupID         = 26
	builtInLocalInvocationID   = 27
	builtInGlobalInvocationID  = 28
	builtInLocalInvocationIdx  = 29
	classInput                 = 1
	classWorkgroup             = 4
	classPrivate               = 6
	classFunction              = 7
	classPushConstant          = 9
	classStorageBuffer         = 12
	classPhysicalStorageBuffer = 5349

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
	opExtInst: "iiili", 19: "i", 20: "i", 21: "il", 22: "il", 23: "iil", 28: "iii", 29: "ii", 30: "i", 32: "ili", 33: "i", 39: "il",
	41: "ii", 42: "ii", 43: "iil", 44: "i", 46: "ii", 48: "ii", 49: "ii", 50: "iil", 51: "i", opSpecConstantOp: "iili",
	opFunction: "iili", opFunctionParameter: "ii", opFunctionEnd: "", opVariable: "iili", opLoad: "iiil", opStore: "iil",
	opAccessChain: "i", opInBoundsAccessChain: "i", opDecorate: "il", opMemberDecorate: "il",
	77: "i", 78: "i", 79: "iiiil", 80: "i", 81: "iiil", 82: "iiiil", opCopyObject: "iii", 1: "ii",
	opControlBarrier: "i", opMemoryBarrier: "i", opPhi: "i", opLoopMerge: "iil", opSelectionMerge: "il", opLabel: "i", opBranch: "i",
	opBranchConditional: "iiil", opReturn: "", 255: "",
	333: "iii", 334: "i", 335: "i", 336: "i", 337: "i", 338: "i", 339: "i", 345: "i", 346: "i", 347: "i", 348: "i", 365: "i", 366: "i",
	4450: "i", 4451: "i", 4452: "i", 4453: "i", 4454: "i", 4455: "i",
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
	case opExtInstImport, opTypeVoid, opTypeBool, opTypeInt, opTypeFloat, opTypeVector, 28, 29, opTypeStruct, opTypePointer, opTypeFunction, opLabel:
		return 0
	case opStore, opControlBarrier, opMemoryBarrier, opLoopMerge, opSelectionMerge, opBranch, opBranchConditional, opSwitch, opReturn, 255,
		opFunctionEnd, opDecorate, opMemberDecorate, 39, 228, opExtension, opMemoryModel, opEntryPoint, opExecutionMode, opCapability:
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
		case in.Op == opFunction && m.body != nil:
			return nil, errors.New("more than one function")
		case in.Op == opFunction || m.body != nil:
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
