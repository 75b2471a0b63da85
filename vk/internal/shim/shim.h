// shim.h: the calls that carry Vulkan structures, with plain values in and out.
//
// Every structure handed to the driver lives on the C stack or heap for the length of one call. Pointers that come from Go are
// read or written during the call and never kept. All functions return a VkResult as int32_t where they can fail.

#ifndef PUMICE_SHIM_H
#define PUMICE_SHIM_H

#include <stddef.h>
#include <stdint.h>

enum { VS_MAX_BINDINGS = 32, VS_MAX_SPEC = 64, VS_MAX_MATRICES = 128, VS_MAX_FAMILIES = 16, VS_MAX_STATISTICS = 32, VS_MAX_TEXTS = 16 };

typedef struct vs_instance vs_instance;
typedef struct vs_device vs_device;

typedef struct vs_matrix {
    uint32_t m, n, k, a_type, b_type, c_type, result_type, saturating, scope, invocations;
} vs_matrix;

// vs_physical_info is what one query of a physical device gives. Go mirrors it field by field (shim.go: PhysicalInfo).
typedef struct vs_physical_info {
    char name[256], driver_name[256], driver_info[256];
    uint8_t device_uuid[16], driver_uuid[16], cache_uuid[16];
    uint32_t api_version, driver_version, vendor_id, device_id, device_type;

    uint32_t max_storage_range, max_texel_elements, max_push_bytes, max_shared_bytes, max_invocations;
    uint32_t max_group_size[3], max_group_count[3];
    uint32_t subgroup_size, min_subgroup_size, max_subgroup_size, required_subgroup_size_stages;
    uint32_t subgroup_stages, subgroup_operations, compute_units;
    float timestamp_period;
    uint64_t max_allocation, max_buffer, min_storage_align, min_texel_align, atom_size;

    uint32_t float16, int8, int16, int64, storage8, storage16, int_dot, int_dot_accelerated, int_dot_mixed_accelerated, float_dot;
    uint32_t subgroup_size_control, full_subgroups, subgroup_extended_types, timeline, sync2, device_address, memory_model;
    uint32_t maintenance4, memory_budget, executable_properties, host_import, coop_matrix;
    uint32_t coop_workgroup, coop_flexible, coop_per_element, coop_tensors, coop_block_loads;

    uint32_t num_heaps, num_types, num_families, num_matrices, num_flexible;
    uint64_t heap_size[16];
    uint32_t heap_flags[16], type_flags[32], type_heap[32];
    uint32_t family_flags[VS_MAX_FAMILIES], family_count[VS_MAX_FAMILIES], family_timestamp_bits[VS_MAX_FAMILIES];
    vs_matrix matrices[VS_MAX_MATRICES];
    vs_matrix flexible[VS_MAX_MATRICES]; // m, n and k are what dimensions are multiples of, invocations a workgroup's
} vs_physical_info;

typedef struct vs_descriptor {
    uint64_t buffer, offset, range; // a storage buffer binding
    uint64_t view;                  // not zero: a uniform texel buffer binding, the rest unused
} vs_descriptor;

typedef struct vs_pipeline_config {
    uint32_t num_bindings, push_bytes, num_spec, subgroup_size, full_subgroups, dispatch_base, capture;
    uint32_t types[VS_MAX_BINDINGS]; // VkDescriptorType of each binding
    uint32_t spec[VS_MAX_SPEC];      // constant_id is the index
} vs_pipeline_config;

typedef struct vs_pipeline {
    uint64_t set_layout, layout, pipeline;
} vs_pipeline;

// vs_statistic is a number that the compiler reports for a pipeline, vs_text one of its forms of the shader.
typedef struct vs_statistic {
    char name[256];
    double value;
} vs_statistic;

typedef struct vs_text {
    char name[256];
    uint64_t size;
} vs_text;

// vs_surface_info is what a physical device says of a surface. Go mirrors it (shim.go: SurfaceInfo).
typedef struct vs_surface_info {
    uint32_t supported; // by queues of the family
    uint32_t min_images, max_images, width, height, min_width, min_height, max_width, max_height;
    uint32_t transform, alpha, usage; // VkSurfaceTransformFlagBitsKHR, VkCompositeAlphaFlagsKHR, VkImageUsageFlags
    uint32_t num_formats, num_modes;
    uint32_t formats[64], modes[16]; // of the color space sRGB; VkPresentModeKHR
} vs_surface_info;

// vs_swapchain_config describes a swapchain whose images are written by copies.
typedef struct vs_swapchain_config {
    uint64_t surface, old;
    uint32_t images, format, width, height, transform, alpha, mode;
} vs_swapchain_config;

// Loader. vs_load opens the first of the platform's loader libraries and returns vkGetInstanceProcAddr, NULL when there is none.
void *vs_load(void);

// Instance. message_id is handed to the Go callback with each message; validation turns the Khronos layer on, surfaces
// the extensions that windows need, as far as the loader has them.
int32_t vs_instance_create(int validation, int surfaces, uintptr_t message_id, vs_instance **out);
void vs_instance_destroy(vs_instance *in);
void *vs_instance_handle(vs_instance *in);
int32_t vs_instance_devices(vs_instance *in, uint32_t *count, uint64_t *out);
void vs_physical_query(vs_instance *in, uint64_t physical, vs_physical_info *out);
void vs_memory_budget(vs_instance *in, uint64_t physical, uint64_t budget[16], uint64_t usage[16]);

// Device. families holds one or two different queue family indices, one queue is made of each.
int32_t vs_device_create(vs_instance *in, uint64_t physical, uint32_t num_families, const uint32_t *families, vs_device **out);
void vs_device_free(vs_device *d); // frees the table only; call vkDestroyDevice first
void *vs_device_handle(vs_device *d);
void vs_device_fail_next(vs_device *d, int32_t result); // the next submit returns result without submitting; for tests

int32_t vs_buffer_create(vs_device *d, uint64_t size, uint32_t usage, uint32_t num_families, const uint32_t *families, uint64_t *buffer,
                         uint64_t *mem_size, uint32_t *mem_types);
// vs_buffer_address returns 0 on devices without bufferDeviceAddress; else the buffer must be bound to memory and have
// the usage for it.
uint64_t vs_buffer_address(vs_device *d, uint64_t buffer);
int32_t vs_memory_allocate(vs_device *d, uint64_t size, uint32_t type, uint64_t *memory);
int32_t vs_view_create(vs_device *d, uint64_t buffer, uint32_t format, uint64_t offset, uint64_t range, uint64_t *view);

int32_t vs_cache_create(vs_device *d, const void *data, size_t size, uint64_t *cache);
int32_t vs_pipeline_create(vs_device *d, uint64_t cache, const void *spirv, size_t size, const vs_pipeline_config *c, vs_pipeline *out,
                           const char **failed_call);

// For a pipeline created with capture set. vs_pipeline_texts with bytes NULL fills out with the texts' sizes; called
// again, it fills bytes with all texts, one after another, of these sizes.
int32_t vs_pipeline_subgroup(vs_device *d, uint64_t pipeline, uint32_t *lanes);
int32_t vs_pipeline_statistics(vs_device *d, uint64_t pipeline, uint32_t *count, vs_statistic out[VS_MAX_STATISTICS]);
int32_t vs_pipeline_texts(vs_device *d, uint64_t pipeline, uint32_t *count, vs_text out[VS_MAX_TEXTS], char *bytes);

int32_t vs_descriptor_pool_create(vs_device *d, uint32_t sets, uint32_t storage, uint32_t texel, uint64_t *pool);
int32_t vs_set_make(vs_device *d, uint64_t pool, uint64_t layout, uint32_t n, const vs_descriptor *descriptors, uint64_t *set);

int32_t vs_command_pool_create(vs_device *d, uint32_t family, uint64_t *pool);
int32_t vs_command_buffer_allocate(vs_device *d, uint64_t pool, uint64_t *cmd);
int32_t vs_command_begin(vs_device *d, uint64_t cmd, int repeat); // repeat: it may be pending more than once
void vs_cmd_bind_set(vs_device *d, uint64_t cmd, uint64_t layout, uint64_t set);
// A barrier waits for all earlier commands, or with an event for those before the command that sets it.
void vs_cmd_barrier(vs_device *d, uint64_t cmd, uint64_t event, uint32_t src_stages, uint32_t dst_stages, uint32_t src_access,
                    uint32_t dst_access);
void vs_cmd_buffer_barrier(vs_device *d, uint64_t cmd, uint64_t event, uint32_t src_stages, uint32_t dst_stages, uint32_t src_access,
                           uint32_t dst_access, uint32_t count, const uint64_t *buffers);
// vs_cmd_dispatch_base records n workgroups that count from base; the pipeline has the flag for it.
void vs_cmd_dispatch_base(vs_device *d, uint64_t cmd, const uint32_t base[3], const uint32_t n[3]);
void vs_cmd_copy(vs_device *d, uint64_t cmd, uint64_t src, uint64_t src_offset, uint64_t dst, uint64_t dst_offset, uint64_t size);

int32_t vs_event_create(vs_device *d, uint64_t *event);
int32_t vs_fence_create(vs_device *d, uint64_t *fence);
int32_t vs_fence_wait(vs_device *d, uint64_t fence, uint64_t nanoseconds);
int32_t vs_semaphore_create(vs_device *d, uint64_t *semaphore);
int32_t vs_query_pool_create(vs_device *d, uint32_t count, uint64_t *pool);
// vs_submit resets fence, then submits n command buffers in order. It waits for the binary semaphore wait and signals the binary
// semaphore signal, each unless 0.
int32_t vs_submit(vs_device *d, uint64_t queue, uint32_t n, const uint64_t *cmds, uint64_t wait, uint64_t signal, uint64_t fence);


// Surfaces and swapchains, of an instance made with surfaces. A device has swapchains if the instance has surfaces and
// the driver has the extension; vs_swapchain_create returns VK_ERROR_EXTENSION_NOT_PRESENT where it does not.
int32_t vs_surface_query(vs_instance *in, uint64_t physical, uint64_t surface, uint32_t family, vs_surface_info *out);
void vs_surface_destroy(vs_instance *in, uint64_t surface);
int32_t vs_swapchain_create(vs_device *d, const vs_swapchain_config *c, uint64_t *swapchain);
int32_t vs_swapchain_images(vs_device *d, uint64_t swapchain, uint32_t *count, uint64_t *images);
void vs_swapchain_destroy(vs_device *d, uint64_t swapchain);
// vs_swapchain_acquire does not wait: the result is VK_NOT_READY where no image is free.
int32_t vs_swapchain_acquire(vs_device *d, uint64_t swapchain, uint64_t semaphore, uint32_t *index);
int32_t vs_present(vs_device *d, uint64_t queue, uint64_t swapchain, uint32_t index, uint64_t wait);
// vs_cmd_show records the copy of width * height pixels of four bytes, row by row, to an image whose contents do not
// matter, and makes the image ready to present.
void vs_cmd_show(vs_device *d, uint64_t cmd, uint64_t buffer, uint64_t offset, uint64_t image, uint32_t width, uint32_t height);

#endif
