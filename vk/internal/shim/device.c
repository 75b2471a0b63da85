// device.c: device creation and the struct-carrying calls on objects of a device.

#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

#define LOAD(field) d->field = (__typeof__(d->field))in->GetDeviceProcAddr(d->handle, "vk" #field)

int32_t vs_device_create(vs_instance *in, uint64_t handle, uint32_t num_families, const uint32_t *families, vs_device **out) {
    *out = NULL;
    void *physical = (void *)(uintptr_t)handle;
    VsPhysicalDeviceProperties p;
    in->GetPhysicalDeviceProperties(physical, &p);
    uint32_t version = p.apiVersion;
    vs_extensions e = vs_device_extensions(in, physical);
    vs_features f;
    vs_query_features(in, physical, version, &e, &f);

    // An extension is enabled where the device's version does not already contain it.
    static const struct {
        const char *name;
        uint32_t core; // 0: not in any version
    } wanted[] = {
        {"VK_KHR_8bit_storage", VS_API_VERSION_1_2},
        {"VK_KHR_shader_float16_int8", VS_API_VERSION_1_2},
        {"VK_KHR_shader_subgroup_extended_types", VS_API_VERSION_1_2},
        {"VK_KHR_timeline_semaphore", VS_API_VERSION_1_2},
        {"VK_KHR_buffer_device_address", VS_API_VERSION_1_2},
        {"VK_KHR_vulkan_memory_model", VS_API_VERSION_1_2},
        {"VK_KHR_driver_properties", VS_API_VERSION_1_2},
        {"VK_KHR_shader_float_controls", VS_API_VERSION_1_2},
        {"VK_KHR_spirv_1_4", VS_API_VERSION_1_2},
        {"VK_EXT_subgroup_size_control", VS_API_VERSION_1_3},
        {"VK_KHR_synchronization2", VS_API_VERSION_1_3},
        {"VK_KHR_shader_integer_dot_product", VS_API_VERSION_1_3},
        {"VK_KHR_maintenance4", VS_API_VERSION_1_3},
        {"VK_KHR_pipeline_executable_properties", 0},
        {"VK_KHR_cooperative_matrix", 0},
        {"VK_NV_cooperative_matrix2", 0},
        {"VK_VALVE_shader_mixed_float_dot_product", 0},
        {"VK_EXT_memory_budget", 0},
        {"VK_EXT_external_memory_host", 0},
        {"VK_KHR_portability_subset", 0}, // must be enabled where offered (MoltenVK)
    };
    enum { NUM_WANTED = sizeof wanted / sizeof wanted[0] };
    const char *extensions[NUM_WANTED + 1];
    uint32_t num_extensions = 0;
    for (int i = 0; i < NUM_WANTED; i++)
        if ((wanted[i].core == 0 || version < wanted[i].core) && vs_has_extension(&e, wanted[i].name))
            extensions[num_extensions++] = wanted[i].name;

    int swapchains = in->surfaces && vs_has_extension(&e, "VK_KHR_swapchain");
    if (swapchains) extensions[num_extensions++] = "VK_KHR_swapchain";

    float priority = 1;
    VsDeviceQueueCreateInfo queues[2];
    memset(queues, 0, sizeof queues);
    for (uint32_t i = 0; i < num_families; i++) {
        queues[i].sType = VS_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
        queues[i].queueFamilyIndex = families[i];
        queues[i].queueCount = 1;
        queues[i].pQueuePriorities = &priority;
    }
    VsDeviceCreateInfo info = {.sType = VS_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &f.head, .queueCreateInfoCount = num_families,
                               .pQueueCreateInfos = queues, .enabledExtensionCount = num_extensions,
                               .ppEnabledExtensionNames = extensions};
    vs_device *d = calloc(1, sizeof *d);
    int32_t r = d ? in->CreateDevice(physical, &info, NULL, &d->handle) : VS_ERROR_OUT_OF_HOST_MEMORY;
    free(e.list);
    if (r != VS_SUCCESS) {
        free(d);
        return r;
    }
    d->addresses = f.device_address.bufferDeviceAddress;
    if (d->addresses) {
        LOAD(GetBufferDeviceAddress);
        if (!d->GetBufferDeviceAddress) // before Vulkan 1.2 it is the extension's
            d->GetBufferDeviceAddress = (__typeof__(d->GetBufferDeviceAddress))in->GetDeviceProcAddr(d->handle, "vkGetBufferDeviceAddressKHR");
    }
    LOAD(CreateBuffer);
    LOAD(GetBufferMemoryRequirements);
    LOAD(AllocateMemory);
    LOAD(CreateBufferView);
    LOAD(CreatePipelineCache);
    LOAD(CreateShaderModule);
    LOAD(DestroyShaderModule);
    LOAD(CreateDescriptorSetLayout);
    LOAD(DestroyDescriptorSetLayout);
    LOAD(CreatePipelineLayout);
    LOAD(DestroyPipelineLayout);
    LOAD(CreateComputePipelines);
    LOAD(GetPipelineExecutablePropertiesKHR);
    LOAD(GetPipelineExecutableStatisticsKHR);
    LOAD(GetPipelineExecutableInternalRepresentationsKHR);
    LOAD(CreateDescriptorPool);
    LOAD(AllocateDescriptorSets);
    LOAD(UpdateDescriptorSets);
    LOAD(CreateCommandPool);
    LOAD(AllocateCommandBuffers);
    LOAD(BeginCommandBuffer);
    LOAD(CmdBindDescriptorSets);
    LOAD(CmdPipelineBarrier);
    LOAD(CreateEvent);
    LOAD(CmdWaitEvents);
    LOAD(CmdDispatchBase);
    LOAD(CmdCopyBuffer);
    LOAD(CreateFence);
    LOAD(ResetFences);
    LOAD(WaitForFences);
    LOAD(CreateSemaphore);
    LOAD(CreateQueryPool);
    LOAD(QueueSubmit);
    if (swapchains) {
        LOAD(CreateSwapchainKHR);
        LOAD(DestroySwapchainKHR);
        LOAD(GetSwapchainImagesKHR);
        LOAD(AcquireNextImageKHR);
        LOAD(QueuePresentKHR);
        LOAD(CmdCopyBufferToImage);
    }
    *out = d;
    return VS_SUCCESS;
}

void vs_device_free(vs_device *d) { free(d); }
void *vs_device_handle(vs_device *d) { return d->handle; }
void vs_device_fail_next(vs_device *d, int32_t result) { d->fail_next = result; }

int32_t vs_buffer_create(vs_device *d, uint64_t size, uint32_t usage, uint32_t num_families, const uint32_t *families, uint64_t *buffer,
                         uint64_t *mem_size, uint32_t *mem_types) {
    VsBufferCreateInfo info = {.sType = VS_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = size, .usage = usage};
    if (num_families > 1) {
        info.sharingMode = VS_SHARING_MODE_CONCURRENT;
        info.queueFamilyIndexCount = num_families;
        info.pQueueFamilyIndices = families;
    }
    int32_t r = d->CreateBuffer(d->handle, &info, NULL, buffer);
    if (r != VS_SUCCESS) return r;
    VsMemoryRequirements m = {0};
    d->GetBufferMemoryRequirements(d->handle, *buffer, &m);
    *mem_size = m.size;
    *mem_types = m.memoryTypeBits;
    return r;
}

int32_t vs_memory_allocate(vs_device *d, uint64_t size, uint32_t type, uint64_t *memory) {
    VsMemoryAllocateFlagsInfo flags = {.sType = VS_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO, .flags = VS_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VsMemoryAllocateInfo info = {.sType = VS_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .pNext = d->addresses ? &flags : NULL,
                                 .allocationSize = size, .memoryTypeIndex = type};
    return d->AllocateMemory(d->handle, &info, NULL, memory);
}

uint64_t vs_buffer_address(vs_device *d, uint64_t buffer) {
    VsBufferDeviceAddressInfo info = {.sType = VS_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO, .buffer = buffer};
    return d->addresses ? d->GetBufferDeviceAddress(d->handle, &info) : 0;
}

int32_t vs_view_create(vs_device *d, uint64_t buffer, uint32_t format, uint64_t offset, uint64_t range, uint64_t *view) {
    VsBufferViewCreateInfo info = {.sType = VS_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO, .buffer = buffer, .format = format, .offset = offset,
                                   .range = range};
    return d->CreateBufferView(d->handle, &info, NULL, view);
}

int32_t vs_cache_create(vs_device *d, const void *data, size_t size, uint64_t *cache) {
    VsPipelineCacheCreateInfo info = {.sType = VS_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO, .initialDataSize = size, .pInitialData = data};
    return d->CreatePipelineCache(d->handle, &info, NULL, cache);
}

int32_t vs_descriptor_pool_create(vs_device *d, uint32_t sets, uint32_t storage, uint32_t texel, uint64_t *pool) {
    VsDescriptorPoolSize sizes[2] = {{VS_DESCRIPTOR_TYPE_STORAGE_BUFFER, storage}, {VS_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, texel}};
    VsDescriptorPoolCreateInfo info = {.sType = VS_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = sets, .poolSizeCount = 2,
                                       .pPoolSizes = sizes};
    return d->CreateDescriptorPool(d->handle, &info, NULL, pool);
}

int32_t vs_set_make(vs_device *d, uint64_t pool, uint64_t layout, uint32_t n, const vs_descriptor *descriptors, uint64_t *set) {
    VsDescriptorSetAllocateInfo info = {.sType = VS_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO, .descriptorPool = pool,
                                        .descriptorSetCount = 1, .pSetLayouts = &layout};
    int32_t r = d->AllocateDescriptorSets(d->handle, &info, set);
    if (r != VS_SUCCESS) return r;
    VsDescriptorBufferInfo buffers[VS_MAX_BINDINGS];
    VsWriteDescriptorSet writes[VS_MAX_BINDINGS];
    memset(writes, 0, sizeof writes);
    for (uint32_t i = 0; i < n; i++) {
        writes[i].sType = VS_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
        writes[i].dstSet = *set;
        writes[i].dstBinding = i;
        writes[i].descriptorCount = 1;
        if (descriptors[i].view) {
            writes[i].descriptorType = VS_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
            writes[i].pTexelBufferView = &descriptors[i].view;
        } else {
            buffers[i] = (VsDescriptorBufferInfo){descriptors[i].buffer, descriptors[i].offset, descriptors[i].range};
            writes[i].descriptorType = VS_DESCRIPTOR_TYPE_STORAGE_BUFFER;
            writes[i].pBufferInfo = &buffers[i];
        }
    }
    if (n) d->UpdateDescriptorSets(d->handle, n, writes, 0, NULL);
    return r;
}

int32_t vs_fence_create(vs_device *d, uint64_t *fence) {
    VsFenceCreateInfo info = {.sType = VS_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    return d->CreateFence(d->handle, &info, NULL, fence);
}

int32_t vs_fence_wait(vs_device *d, uint64_t fence, uint64_t nanoseconds) {
    return d->WaitForFences(d->handle, 1, &fence, 1, nanoseconds);
}

int32_t vs_semaphore_create(vs_device *d, uint64_t *semaphore) {
    VsSemaphoreCreateInfo info = {.sType = VS_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
    return d->CreateSemaphore(d->handle, &info, NULL, semaphore);
}
