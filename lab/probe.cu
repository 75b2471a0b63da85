// probe measures on an NVIDIA GPU what kernels for it can at most do, and writes one JSON object: the ceilings beside which
// tools/gpu-lab.sh reports. Not part of the program.
//
//   nvcc -O3 -arch=native lab/probe.cu -o probe && ./probe
//
//   rates        operations a clock and multiprocessor of what turns packed integers into products: conversion of a byte (I2F.U8
//                or PRMT and I2FP, as the compiler likes) and of a word (I2FP), the magic number (LOP3, FADD), dot products of
//                four bytes (DP4A), products of two halves (HFMA2), and FFMA to compare with
//   read         bytes a second that a kernel reads: of 1 GiB, which no cache holds, and of a third of the second-level cache
//   empty        microseconds a kernel of a chain of empty ones in a stream, and in a graph
//   grid_barrier microseconds a barrier of all workgroups of a cooperative launch
//
// Each figure is the best of several launches. Rates count the clock by clock64 within a multiprocessor, so that they hold at
// whatever frequency it runs.
#include <cooperative_groups.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#define CHECK(call)                                                                             \
    do {                                                                                        \
        cudaError_t error = (call);                                                             \
        if (error != cudaSuccess) {                                                             \
            fprintf(stderr, "probe: %s: %s\n", #call, cudaGetErrorString(error));               \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)

static const int THREADS = 1024, CHAINS = 8, TRIPS = 512;

struct ConvertByte {
    static __device__ void step(uint32_t &v, float &f) {
        f += __uint2float_rn((v >> 8) & 0xffu);
        v += 0x01010101u;
    }
    static const int PER_STEP = 1;
};
struct ConvertWord {
    static __device__ void step(uint32_t &v, float &f) {
        f += __int2float_rn((int)v);
        v += 0x9e3779b9u;
    }
    static const int PER_STEP = 1;
};
struct Magic {
    static __device__ void step(uint32_t &v, float &f) {
        f += __uint_as_float((v & 0x000f0000u) | 0x4b000000u) - 8388608.0f;
        v += 0x01010101u;
    }
    static const int PER_STEP = 1;
};
struct DotBytes {
    static __device__ void step(uint32_t &v, float &f) {
        v = (uint32_t)__dp4a((int)v, 0x01020304, (int)v);
    }
    static const int PER_STEP = 1;
};
struct Halves {
    static __device__ void step(uint32_t &v, float &f) {
        __half2 h = *reinterpret_cast<__half2 *>(&v);
        h = __hfma2(h, h, h);
        v = *reinterpret_cast<uint32_t *>(&h);
    }
    static const int PER_STEP = 1;
};
struct Fma {
    static __device__ void step(uint32_t &v, float &f) { f = __fmaf_rn(f, 1.0001f, 0.5f); }
    static const int PER_STEP = 1;
};

// CHAINS independent chains of steps in each thread, so that no step waits for the one before.
template <class Op> __global__ void rate(uint32_t seed, float *sink, long long *clocks) {
    uint32_t v[CHAINS];
    float f[CHAINS];
    for (int i = 0; i < CHAINS; i++) {
        v[i] = seed + threadIdx.x * 7919u + i;
        f[i] = (float)i;
    }
    __syncthreads();
    long long start = clock64();
    for (int t = 0; t < TRIPS; t++) {
#pragma unroll
        for (int i = 0; i < CHAINS; i++) Op::step(v[i], f[i]);
    }
    __syncthreads();
    long long end = clock64();
    float sum = 0.0f;
    for (int i = 0; i < CHAINS; i++) sum += f[i] + __uint_as_float(v[i] & 0x3fffffffu);
    sink[blockIdx.x * blockDim.x + threadIdx.x] = sum;
    if (threadIdx.x == 0) clocks[blockIdx.x] = end - start;
}

template <class Op> static double measure_rate() {
    float *sink;
    long long *clocks, took, best = 0;
    CHECK(cudaMalloc(&sink, THREADS * sizeof(float)));
    CHECK(cudaMalloc(&clocks, sizeof(long long)));
    for (int i = 0; i < 5; i++) {
        rate<Op><<<1, THREADS>>>(12345u + i, sink, clocks);
        CHECK(cudaMemcpy(&took, clocks, sizeof took, cudaMemcpyDeviceToHost));
        if (best == 0 || took < best) best = took;
    }
    CHECK(cudaFree(sink));
    CHECK(cudaFree(clocks));
    return (double)THREADS * CHAINS * TRIPS * Op::PER_STEP / (double)best;
}

__global__ void read_all(const uint4 *x, size_t units, uint32_t *sink) {
    uint4 sum = {0, 0, 0, 0};
    size_t stride = (size_t)gridDim.x * blockDim.x, at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
#pragma unroll 8
    for (; at < units; at += stride) {
        uint4 v = x[at];
        sum.x ^= v.x;
        sum.y ^= v.y;
        sum.z ^= v.z;
        sum.w ^= v.w;
    }
    if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x12345678u) *sink = sum.x; // else the loads could be left out
}

__global__ void nothing() {}

__global__ void barriers(int count) {
    cooperative_groups::grid_group grid = cooperative_groups::this_grid();
    for (int i = 0; i < count; i++) grid.sync();
}

// seconds that work takes on the device, the best of five.
template <class Work> static double seconds(Work work) {
    cudaEvent_t begin, end;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    float best = 0.0f;
    for (int i = 0; i < 6; i++) { // the first one warms up
        CHECK(cudaEventRecord(begin));
        work();
        CHECK(cudaEventRecord(end));
        CHECK(cudaEventSynchronize(end));
        float ms = 0.0f;
        CHECK(cudaEventElapsedTime(&ms, begin, end));
        if (i == 1 || (i > 1 && ms < best)) best = ms;
    }
    CHECK(cudaGetLastError());
    CHECK(cudaEventDestroy(begin));
    CHECK(cudaEventDestroy(end));
    return best / 1e3;
}

static double read_rate(const cudaDeviceProp &device, size_t bytes, int passes) {
    uint4 *x;
    uint32_t *sink;
    CHECK(cudaMalloc(&x, bytes));
    CHECK(cudaMalloc(&sink, sizeof *sink));
    CHECK(cudaMemset(x, 1, bytes));
    double took = seconds([&] {
        for (int i = 0; i < passes; i++) read_all<<<device.multiProcessorCount * 8, 256>>>(x, bytes / sizeof *x, sink);
    });
    CHECK(cudaFree(x));
    CHECK(cudaFree(sink));
    return (double)bytes * passes / took;
}

int main() {
    cudaDeviceProp device;
    CHECK(cudaGetDeviceProperties(&device, 0));
    printf("{\"device\": \"%s\", \"multiprocessors\": %d, \"l2_bytes\": %d,\n", device.name, device.multiProcessorCount, device.l2CacheSize);
    printf(" \"rates\": {\"convert_byte\": %.1f, \"convert_word\": %.1f, \"magic\": %.1f, \"dp4a\": %.1f, \"hfma2\": %.1f, \"ffma\": %.1f},\n",
           measure_rate<ConvertByte>(), measure_rate<ConvertWord>(), measure_rate<Magic>(), measure_rate<DotBytes>(), measure_rate<Halves>(),
           measure_rate<Fma>());
    printf(" \"read\": {\"dram\": %.4g, \"l2\": %.4g},\n", read_rate(device, (size_t)1 << 30, 4),
           read_rate(device, (size_t)device.l2CacheSize / 3 / 16 * 16, 64));

    const int kernels = 200;
    double stream = seconds([&] {
        for (int i = 0; i < kernels; i++) nothing<<<device.multiProcessorCount, 128>>>();
    });
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CHECK(cudaStreamCreate(&s));
    CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < kernels; i++) nothing<<<device.multiProcessorCount, 128, 0, s>>>();
    CHECK(cudaStreamEndCapture(s, &graph));
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    double replayed = seconds([&] { CHECK(cudaGraphLaunch(executable, 0)); });
    printf(" \"empty\": {\"stream_us\": %.3f, \"graph_us\": %.3f},\n", stream / kernels * 1e6, replayed / kernels * 1e6);

    int count = 1000, resident = 0;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, barriers, 256, 0));
    void *arguments[] = {&count};
    double synced = seconds([&] {
        CHECK(cudaLaunchCooperativeKernel((void *)barriers, dim3(device.multiProcessorCount), dim3(256), arguments, 0, 0));
    });
    printf(" \"grid_barrier\": {\"us\": %.3f, \"resident\": %d}}\n", synced / count * 1e6, resident);
    return 0;
}
