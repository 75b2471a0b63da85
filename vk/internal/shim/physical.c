// physical.c: one query for the properties and features of a physical device.

#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

vs_extensions vs_device_extensions(vs_instance *in, void *physical) {
    vs_extensions e = {0};
    uint32_t n = 0;
    if (in->EnumerateDeviceExtensionProperties(physical, NULL, &n, NULL) < 0 || n == 0) return e;
    e.list = calloc(n, sizeof *e.list);
    if (e.list && in->EnumerateDeviceExtensionProperties(physical, NULL, &n, e.list) >= 0) e.count = n;
    return e;
}

int vs_has_extension(const vs_extensions *e, const char *name) {
    for (uint32_t i = 0; i < e->count; i++)
        if (strcmp(e->list[i].extensionName, name) == 0) return 1;
    return 0;
}

// KNOWS says whether a block may be chained: it is core in the device's version, or the device has its extension.
#define KNOWS(since, extension) (version >= (since) || vs_has_extension(e, extension))
#define CHAIN(field, type)                                                                                                             \
    do {                                                                                                                               \
        f->field.sType = VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type;                                                                     \
        f->field.pNext = f->head.pNext;                                                                                                \
        f->head.pNext = &f->field;                                                                                                     \
    } while (0)

void vs_query_features(vs_instance *in, void *physical, uint32_t version, const vs_extensions *e, vs_features *f) {
    memset(f, 0, sizeof *f);
    f->head.sType = VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    CHAIN(storage16, 16BIT_STORAGE_FEATURES);
    if (KNOWS(VS_API_VERSION_1_2, "VK_KHR_8bit_storage")) CHAIN(storage8, 8BIT_STORAGE_FEATURES);
    if (KNOWS(VS_API_VERSION_1_2, "VK_KHR_shader_float16_int8")) CHAIN(float16_int8, SHADER_FLOAT16_INT8_FEATURES);
    if (KNOWS(VS_API_VERSION_1_2, "VK_KHR_shader_subgroup_extended_types")) CHAIN(extended_types, SHADER_SUBGROUP_EXTENDED_TYPES_FEATURES);
    if (KNOWS(VS_API_VERSION_1_2, "VK_KHR_timeline_semaphore")) CHAIN(timeline, TIMELINE_SEMAPHORE_FEATURES);
    if (KNOWS(VS_API_VERSION_1_2, "VK_KHR_buffer_device_address")) CHAIN(device_address, BUFFER_DEVICE_ADDRESS_FEATURES);
    if (KNOWS(VS_API_VERSION_1_2, "VK_KHR_vulkan_memory_model")) CHAIN(memory_model, VULKAN_MEMORY_MODEL_FEATURES);
    if (KNOWS(VS_API_VERSION_1_3, "VK_EXT_subgroup_size_control")) CHAIN(size_control, SUBGROUP_SIZE_CONTROL_FEATURES);
    if (KNOWS(VS_API_VERSION_1_3, "VK_KHR_synchronization2")) CHAIN(sync2, SYNCHRONIZATION_2_FEATURES);
    if (KNOWS(VS_API_VERSION_1_3, "VK_KHR_shader_integer_dot_product")) CHAIN(int_dot, SHADER_INTEGER_DOT_PRODUCT_FEATURES);
    if (KNOWS(VS_API_VERSION_1_3, "VK_KHR_maintenance4")) CHAIN(maintenance4, MAINTENANCE_4_FEATURES);
    if (vs_has_extension(e, "VK_KHR_pipeline_executable_properties")) CHAIN(executable, PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR);
    if (vs_has_extension(e, "VK_KHR_cooperative_matrix")) CHAIN(coop, COOPERATIVE_MATRIX_FEATURES_KHR);
    if (vs_has_extension(e, "VK_NV_cooperative_matrix2")) CHAIN(coop2, COOPERATIVE_MATRIX_2_FEATURES_NV);
    if (vs_has_extension(e, "VK_VALVE_shader_mixed_float_dot_product")) CHAIN(float_dot, SHADER_MIXED_FLOAT_DOT_PRODUCT_FEATURES_VALVE);
    in->GetPhysicalDeviceFeatures2(physical, &f->head);

    // Leave on only what we use: some features cost speed when enabled (robustBufferAccess) or need more set up.
    VsPhysicalDeviceFeatures core = {.shaderInt16 = f->head.features.shaderInt16, .shaderInt64 = f->head.features.shaderInt64};
    f->head.features = core;
    f->storage16.storagePushConstant16 = f->storage16.storageInputOutput16 = 0;
    f->storage8.storagePushConstant8 = 0;
    f->device_address.bufferDeviceAddressCaptureReplay = f->device_address.bufferDeviceAddressMultiDevice = 0;
    f->coop.cooperativeMatrixRobustBufferAccess = 0;
    f->float_dot.shaderMixedFloatDotProductFloat16AccFloat16 = f->float_dot.shaderMixedFloatDotProductBFloat16Acc = 0;
    f->float_dot.shaderMixedFloatDotProductFloat8AccFloat32 = 0;
    f->coop2.cooperativeMatrixReductions = f->coop2.cooperativeMatrixConversions = 0;
}

#define CHAIN_PROPERTIES(block, type)                                                                                                  \
    do {                                                                                                                               \
        block.sType = VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type;                                                                        \
        block.pNext = p2.pNext;                                                                                                        \
        p2.pNext = &block;                                                                                                             \
    } while (0)

static void query_properties(vs_instance *in, void *physical, uint32_t version, const vs_extensions *e, vs_physical_info *out) {
    VsPhysicalDeviceProperties2 p2 = {.sType = VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    VsPhysicalDeviceIDProperties id = {0};
    VsPhysicalDeviceMaintenance3Properties m3 = {0};
    VsPhysicalDeviceMaintenance4Properties m4 = {0};
    VsPhysicalDeviceSubgroupProperties subgroup = {0};
    VsPhysicalDeviceDriverProperties driver = {0};
    VsPhysicalDeviceSubgroupSizeControlProperties size_control = {0};
    VsPhysicalDeviceShaderIntegerDotProductProperties dot = {0};
    VsPhysicalDeviceShaderSMBuiltinsPropertiesNV nvidia = {0};
    VsPhysicalDeviceShaderCoreProperties2AMD amd = {0};
    VsPhysicalDeviceShaderCoreBuiltinsPropertiesARM arm = {0};
    CHAIN_PROPERTIES(id, ID_PROPERTIES);
    CHAIN_PROPERTIES(m3, MAINTENANCE_3_PROPERTIES);
    CHAIN_PROPERTIES(subgroup, SUBGROUP_PROPERTIES);
    if (KNOWS(VS_API_VERSION_1_2, "VK_KHR_driver_properties")) CHAIN_PROPERTIES(driver, DRIVER_PROPERTIES);
    if (KNOWS(VS_API_VERSION_1_3, "VK_EXT_subgroup_size_control")) CHAIN_PROPERTIES(size_control, SUBGROUP_SIZE_CONTROL_PROPERTIES);
    if (KNOWS(VS_API_VERSION_1_3, "VK_KHR_maintenance4")) CHAIN_PROPERTIES(m4, MAINTENANCE_4_PROPERTIES);
    if (KNOWS(VS_API_VERSION_1_3, "VK_KHR_shader_integer_dot_product")) CHAIN_PROPERTIES(dot, SHADER_INTEGER_DOT_PRODUCT_PROPERTIES);
    if (vs_has_extension(e, "VK_NV_shader_sm_builtins")) CHAIN_PROPERTIES(nvidia, SHADER_SM_BUILTINS_PROPERTIES_NV);
    if (vs_has_extension(e, "VK_AMD_shader_core_properties2")) CHAIN_PROPERTIES(amd, SHADER_CORE_PROPERTIES_2_AMD);
    if (vs_has_extension(e, "VK_ARM_shader_core_builtins")) CHAIN_PROPERTIES(arm, SHADER_CORE_BUILTINS_PROPERTIES_ARM);
    in->GetPhysicalDeviceProperties2(physical, &p2);

    const VsPhysicalDeviceLimits *l = &p2.properties.limits;
    memcpy(out->driver_name, driver.driverName, sizeof out->driver_name);
    memcpy(out->driver_info, driver.driverInfo, sizeof out->driver_info);
    memcpy(out->device_uuid, id.deviceUUID, 16);
    memcpy(out->driver_uuid, id.driverUUID, 16);
    out->max_storage_range = l->maxStorageBufferRange;
    out->max_texel_elements = l->maxTexelBufferElements;
    out->max_push_bytes = l->maxPushConstantsSize;
    out->max_shared_bytes = l->maxComputeSharedMemorySize;
    out->max_invocations = l->maxComputeWorkGroupInvocations;
    memcpy(out->max_group_size, l->maxComputeWorkGroupSize, sizeof out->max_group_size);
    memcpy(out->max_group_count, l->maxComputeWorkGroupCount, sizeof out->max_group_count);
    out->min_storage_align = l->minStorageBufferOffsetAlignment;
    out->min_texel_align = l->minTexelBufferOffsetAlignment;
    out->atom_size = l->nonCoherentAtomSize;
    out->timestamp_period = l->timestampPeriod;
    out->max_allocation = m3.maxMemoryAllocationSize;
    out->max_buffer = m4.maxBufferSize;
    out->subgroup_size = subgroup.subgroupSize;
    out->subgroup_stages = subgroup.supportedStages;
    out->subgroup_operations = subgroup.supportedOperations;
    out->min_subgroup_size = size_control.minSubgroupSize;
    out->max_subgroup_size = size_control.maxSubgroupSize;
    out->required_subgroup_size_stages = size_control.requiredSubgroupSizeStages;
    out->int_dot_accelerated = dot.integerDotProduct4x8BitPackedSignedAccelerated;
    out->int_dot_mixed_accelerated = dot.integerDotProduct4x8BitPackedMixedSignednessAccelerated;
    out->compute_units = nvidia.shaderSMCount + amd.activeComputeUnitCount + arm.shaderCoreCount; // a driver has one of them
}

static void query_memory(vs_instance *in, void *physical, vs_physical_info *out) {
    VsPhysicalDeviceMemoryProperties m = {0};
    in->GetPhysicalDeviceMemoryProperties(physical, &m);
    out->num_heaps = m.memoryHeapCount;
    out->num_types = m.memoryTypeCount;
    for (uint32_t i = 0; i < m.memoryHeapCount; i++) {
        out->heap_size[i] = m.memoryHeaps[i].size;
        out->heap_flags[i] = m.memoryHeaps[i].flags;
    }
    for (uint32_t i = 0; i < m.memoryTypeCount; i++) {
        out->type_flags[i] = m.memoryTypes[i].propertyFlags;
        out->type_heap[i] = m.memoryTypes[i].heapIndex;
    }
}

static void query_families(vs_instance *in, void *physical, vs_physical_info *out) {
    VsQueueFamilyProperties list[VS_MAX_FAMILIES];
    uint32_t n = VS_MAX_FAMILIES;
    in->GetPhysicalDeviceQueueFamilyProperties(physical, &n, list);
    out->num_families = n;
    for (uint32_t i = 0; i < n; i++) {
        out->family_flags[i] = list[i].queueFlags;
        out->family_count[i] = list[i].queueCount;
        out->family_timestamp_bits[i] = list[i].timestampValidBits;
    }
}

static void query_matrices(vs_instance *in, void *physical, vs_physical_info *out) {
    if (!out->coop_matrix || !in->GetPhysicalDeviceCooperativeMatrixPropertiesKHR) return;
    VsCooperativeMatrixPropertiesKHR list[VS_MAX_MATRICES];
    memset(list, 0, sizeof list);
    for (int i = 0; i < VS_MAX_MATRICES; i++) list[i].sType = VS_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    uint32_t n = VS_MAX_MATRICES;
    if (in->GetPhysicalDeviceCooperativeMatrixPropertiesKHR(physical, &n, list) < 0) return;
    out->num_matrices = n;
    for (uint32_t i = 0; i < n; i++)
        out->matrices[i] = (vs_matrix){list[i].MSize, list[i].NSize, list[i].KSize,      list[i].AType,
                                       list[i].BType, list[i].CType, list[i].ResultType, list[i].saturatingAccumulation,
                                       list[i].scope,  0};
}

static void query_flexible_matrices(vs_instance *in, void *physical, vs_physical_info *out) {
    if (!out->coop_flexible || !in->GetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV) return;
    VsCooperativeMatrixFlexibleDimensionsPropertiesNV list[VS_MAX_MATRICES];
    memset(list, 0, sizeof list);
    for (int i = 0; i < VS_MAX_MATRICES; i++) list[i].sType = VS_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV;
    uint32_t n = VS_MAX_MATRICES;
    if (in->GetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV(physical, &n, list) < 0) return;
    out->num_flexible = n;
    for (uint32_t i = 0; i < n; i++)
        out->flexible[i] =
            (vs_matrix){list[i].MGranularity, list[i].NGranularity, list[i].KGranularity,           list[i].AType, list[i].BType,
                        list[i].CType,        list[i].ResultType,   list[i].saturatingAccumulation, list[i].scope, list[i].workgroupInvocations};
}

void vs_physical_query(vs_instance *in, uint64_t handle, vs_physical_info *out) {
    void *physical = (void *)(uintptr_t)handle;
    memset(out, 0, sizeof *out);
    VsPhysicalDeviceProperties p;
    in->GetPhysicalDeviceProperties(physical, &p);
    memcpy(out->name, p.deviceName, sizeof out->name);
    memcpy(out->cache_uuid, p.pipelineCacheUUID, 16);
    out->api_version = p.apiVersion;
    out->driver_version = p.driverVersion;
    out->vendor_id = p.vendorID;
    out->device_id = p.deviceID;
    out->device_type = p.deviceType;
    if (p.apiVersion < VS_API_VERSION_1_1) return; // the caller refuses it

    vs_extensions e = vs_device_extensions(in, physical);
    query_properties(in, physical, p.apiVersion, &e, out);
    vs_features f;
    vs_query_features(in, physical, p.apiVersion, &e, &f);
    out->float16 = f.float16_int8.shaderFloat16;
    out->int8 = f.float16_int8.shaderInt8;
    out->int16 = f.head.features.shaderInt16;
    out->int64 = f.head.features.shaderInt64;
    out->storage8 = f.storage8.storageBuffer8BitAccess;
    out->storage16 = f.storage16.storageBuffer16BitAccess;
    out->int_dot = f.int_dot.shaderIntegerDotProduct;
    out->int_dot_accelerated &= out->int_dot;
    out->int_dot_mixed_accelerated &= out->int_dot;
    out->float_dot = f.float_dot.shaderMixedFloatDotProductFloat16AccFloat32;
    out->subgroup_size_control = f.size_control.subgroupSizeControl;
    out->full_subgroups = f.size_control.computeFullSubgroups;
    out->subgroup_extended_types = f.extended_types.shaderSubgroupExtendedTypes;
    out->timeline = f.timeline.timelineSemaphore;
    out->sync2 = f.sync2.synchronization2;
    out->device_address = f.device_address.bufferDeviceAddress;
    out->memory_model = f.memory_model.vulkanMemoryModel;
    out->maintenance4 = f.maintenance4.maintenance4;
    out->executable_properties = f.executable.pipelineExecutableInfo;
    out->coop_matrix = f.coop.cooperativeMatrix;
    out->coop_workgroup = f.coop2.cooperativeMatrixWorkgroupScope;
    out->coop_flexible = f.coop2.cooperativeMatrixFlexibleDimensions;
    out->coop_per_element = f.coop2.cooperativeMatrixPerElementOperations;
    out->coop_tensors = f.coop2.cooperativeMatrixTensorAddressing;
    out->coop_block_loads = f.coop2.cooperativeMatrixBlockLoads;
    out->memory_budget = vs_has_extension(&e, "VK_EXT_memory_budget");
    out->host_import = vs_has_extension(&e, "VK_EXT_external_memory_host");
    free(e.list);
    query_memory(in, physical, out);
    query_families(in, physical, out);
    query_matrices(in, physical, out);
    query_flexible_matrices(in, physical, out);
}

void vs_memory_budget(vs_instance *in, uint64_t physical, uint64_t budget[16], uint64_t usage[16]) {
    VsPhysicalDeviceMemoryBudgetPropertiesEXT b = {.sType = VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VsPhysicalDeviceMemoryProperties2 m = {.sType = VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &b};
    in->GetPhysicalDeviceMemoryProperties2((void *)(uintptr_t)physical, &m);
    memcpy(budget, b.heapBudget, sizeof b.heapBudget);
    memcpy(usage, b.heapUsage, sizeof b.heapUsage);
}
