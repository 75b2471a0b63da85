#version 450
// peak by cooperative matrices: y[s] = the sum of CHAINS matrices, (CM_M, CM_N) float32; matrix j begins with j everywhere
// and becomes A B + matrix, p.rounds * STEPS times. y has one sum for each subgroup s
//
// As peak.comp. x has A, (CM_M, CM_K) float16, row-major, then B, (CM_K, CM_N) float16, column-major; all subgroups have the
// same. A step is 2 CM_M CM_N CM_K operations of each matrix. Shared memory: 2 CM_K (CM_M + CM_N) bytes, 1024 for 16 x 16 x 16.
//
// A CPU driver takes matrices apart into scalar products. Those of an A and a B that stay the same are computed before the loop,
// once for all matrices, and only additions are left. With FRESH each step loads two A and two B for the products of the four
// matrices, as a kernel of tiles does, from a place that is the same and that no compiler can know.
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#pragma use_vulkan_memory_model
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 128u;
layout(constant_id = 1) const uint CM_M = 16u;
layout(constant_id = 2) const uint CM_N = 16u;
layout(constant_id = 3) const uint CM_K = 16u;
layout(constant_id = 4) const bool FRESH = false;
layout(std430, binding = 0) readonly buffer X { uvec2 x[]; };
layout(std430, binding = 1) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push { uint rounds; } p;

#define CHAINS 4u // kernels.peakMatrices: 2 by 2
#define STEPS 16u // kernels.peakSteps
const uint A_SIZE = CM_M * CM_K / 4u, B_SIZE = CM_N * CM_K / 4u;
shared uvec2 tile[A_SIZE + B_SIZE];

void main() {
    for (uint i = gl_LocalInvocationIndex; i < A_SIZE + B_SIZE; i += WORKGROUP) tile[i] = x[i];
    barrier(); // the tile is written
    coopmat<float16_t, gl_ScopeSubgroup, CM_M, CM_K, gl_MatrixUseA> a[2];
    coopmat<float16_t, gl_ScopeSubgroup, CM_K, CM_N, gl_MatrixUseB> b[2];
    uint zero = p.rounds >> 31u, at = 0u;
#define LOAD \
    [[unroll]] for (uint i = 0u; i < 2u; i++) { \
        coopMatLoad(a[i], tile, at, CM_K / 4u, gl_CooperativeMatrixLayoutRowMajor); \
        coopMatLoad(b[i], tile, A_SIZE + at, CM_K / 4u, gl_CooperativeMatrixLayoutColumnMajor); \
        if (FRESH) at += zero; \
    }
    LOAD
    coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator> z[CHAINS];
    [[unroll]] for (uint j = 0u; j < CHAINS; j++)
        z[j] = coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>(float(j));
    const uint rounds = FRESH ? p.rounds * STEPS : p.rounds; // each of one step, which is enough code, or of STEPS
    for (uint round = 0u; round < rounds; round++)
        [[unroll]] for (uint s = 0u; s < STEPS; s++) {
            if (FRESH && s > 0u) break;
            if (FRESH) { LOAD }
            [[unroll]] for (uint j = 0u; j < CHAINS; j++) z[j] = coopMatMulAdd(a[j / 2u], b[j % 2u], z[j]);
        }
    [[unroll]] for (uint j = 1u; j < CHAINS; j++) z[0] += z[j];
    uint subgroup = gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID;
    coopMatStore(z[0], y, subgroup * CM_M * CM_N, CM_N, gl_CooperativeMatrixLayoutRowMajor);
}
