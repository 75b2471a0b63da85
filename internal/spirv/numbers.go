package spirv

// Numbers of instructions, of its section 3.
const (
	OpUndef                         = 1
	OpName                          = 5
	OpLine                          = 8
	OpExtension                     = 10
	OpExtInstImport                 = 11
	OpExtInst                       = 12
	OpMemoryModel                   = 14
	OpEntryPoint                    = 15
	OpExecutionMode                 = 16
	OpCapability                    = 17
	OpTypeVoid                      = 19
	OpTypeBool                      = 20
	OpTypeInt                       = 21
	OpTypeFloat                     = 22
	OpTypeVector                    = 23
	OpTypeImage                     = 25
	OpTypeArray                     = 28
	OpTypeRuntimeArray              = 29
	OpTypeStruct                    = 30
	OpTypePointer                   = 32
	OpTypeFunction                  = 33
	OpTypeForwardPointer            = 39
	OpConstantTrue                  = 41
	OpConstantFalse                 = 42
	OpConstant                      = 43
	OpConstantComposite             = 44
	OpConstantNull                  = 46
	OpSpecConstantTrue              = 48
	OpSpecConstantFalse             = 49
	OpSpecConstant                  = 50
	OpSpecConstantComposite         = 51
	OpSpecConstantOp                = 52
	OpFunction                      = 54
	OpFunctionParameter             = 55
	OpFunctionEnd                   = 56
	OpFunctionCall                  = 57
	OpVariable                      = 59
	OpLoad                          = 61
	OpStore                         = 62
	OpAccessChain                   = 65
	OpInBoundsAccessChain           = 66
	OpDecorate                      = 71
	OpMemberDecorate                = 72
	OpVectorExtractDynamic          = 77
	OpVectorInsertDynamic           = 78
	OpVectorShuffle                 = 79
	OpCompositeConstruct            = 80
	OpCompositeExtract              = 81
	OpCompositeInsert               = 82
	OpCopyObject                    = 83
	OpUConvert                      = 113
	OpFConvert                      = 115
	OpConvertUToPtr                 = 120
	OpBitcast                       = 124
	OpIAdd                          = 128
	OpFAdd                          = 129
	OpISub                          = 130
	OpIMul                          = 132
	OpFMul                          = 133
	OpUDiv                          = 134
	OpUMod                          = 137
	OpVectorTimesScalar             = 142
	OpDot                           = 148
	OpLogicalOr                     = 166
	OpSelect                        = 169
	OpIEqual                        = 170
	OpINotEqual                     = 171
	OpUGreaterThanEqual             = 174
	OpULessThan                     = 176
	OpBitwiseOr                     = 197
	OpBitwiseAnd                    = 199
	OpBitFieldSExtract              = 202
	OpBitFieldUExtract              = 203
	OpControlBarrier                = 224
	OpMemoryBarrier                 = 225
	OpAtomicCompareExchange         = 230
	OpAtomicIAdd                    = 234
	OpPhi                           = 245
	OpLoopMerge                     = 246
	OpSelectionMerge                = 247
	OpLabel                         = 248
	OpBranch                        = 249
	OpBranchConditional             = 250
	OpSwitch                        = 251
	OpReturn                        = 253
	OpUnreachable                   = 255
	OpGroupNonUniformElect          = 333
	OpGroupNonUniformAll            = 334
	OpGroupNonUniformAny            = 335
	OpGroupNonUniformAllEqual       = 336
	OpGroupNonUniformBroadcast      = 337
	OpGroupNonUniformBroadcastFirst = 338
	OpGroupNonUniformBallot         = 339
	OpGroupNonUniformShuffle        = 345
	OpGroupNonUniformShuffleXor     = 346
	OpGroupNonUniformShuffleUp      = 347
	OpGroupNonUniformShuffleDown    = 348
	OpGroupNonUniformIAdd           = 349
	OpGroupNonUniformFAdd           = 350
	OpGroupNonUniformQuadBroadcast  = 365
	OpGroupNonUniformQuadSwap       = 366
	OpSDot                          = 4450
	OpUDot                          = 4451
	OpSUDot                         = 4452
	OpSDotAccSat                    = 4453
	OpUDotAccSat                    = 4454
	OpSUDotAccSat                   = 4455
	OpTypeCooperativeMatrix         = 4456
	OpCooperativeMatrixLoad         = 4457
	OpCooperativeMatrixStore        = 4458
	OpCooperativeMatrixMulAdd       = 4459
	OpFDot2MixAcc32VALVE            = 6916 // of SPV_VALVE_mixed_float_dot_product
)

// Numbers of decorations.
const (
	DecorationSpecID        = 1
	DecorationBlock         = 2
	DecorationArrayStride   = 6
	DecorationBuiltIn       = 11
	DecorationCoherent      = 23
	DecorationNonWritable   = 24
	DecorationNonReadable   = 25
	DecorationBinding       = 33
	DecorationDescriptorSet = 34
	DecorationOffset        = 35
	DecorationNoContraction = 42
)

// Numbers of built-in variables.
const (
	BuiltInNumWorkgroups             = 24
	BuiltInWorkgroupSize             = 25
	BuiltInWorkgroupID               = 26
	BuiltInLocalInvocationID         = 27
	BuiltInGlobalInvocationID        = 28
	BuiltInLocalInvocationIndex      = 29
	BuiltInSubgroupSize              = 36
	BuiltInNumSubgroups              = 38
	BuiltInSubgroupID                = 40
	BuiltInSubgroupLocalInvocationID = 41
)

// Numbers of storage classes.
const (
	StorageUniformConstant       = 0
	StorageInput                 = 1
	StorageUniform               = 2
	StorageWorkgroup             = 4
	StoragePrivate               = 6
	StorageFunction              = 7
	StoragePushConstant          = 9
	StorageStorageBuffer         = 12
	StoragePhysicalStorageBuffer = 5349
)
