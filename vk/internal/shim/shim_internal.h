// shim_internal.h: function tables shared by the shim's C files.

#ifndef PUMICE_SHIM_INTERNAL_H
#define PUMICE_SHIM_INTERNAL_H

#include "shim.h"
#include "vulkan_types.h"

#if defined(_WIN32)
#define VS_CALL __stdcall
#else
#define VS_CALL
#endif

typedef void(VS_CALL *PFN_void)(void);
typedef PFN_void(VS_CALL *PFN_getInstanceProcAddr)(void *instance, const char *name);

extern PFN_getInstanceProcAddr vs_get_instance_proc_addr;

struct vs_instance {
    void *handle;
    uint64_t messenger;
    int surfaces; // made for windows
    PFN_void(VS_CALL *GetDeviceProcAddr)(void *device, const char *name);
    void(VS_CALL *DestroyInstance)(void *, const void *);
    int32_t(VS_CALL *EnumeratePhysicalDevices)(void *, uint32_t *, void **);
    int32_t(VS_CALL *EnumerateDeviceExtensionProperties)(void *, const char *, uint32_t *, VsExtensionProperties *);
    void(VS_CALL *GetPhysicalDeviceProperties)(void *, VsPhysicalDeviceProperties *);
    void(VS_CALL *GetPhysicalDeviceProperties2)(void *, VsPhysicalDeviceProperties2 *);
    void(VS_CALL *GetPhysicalDeviceFeatures2)(void *, VsPhysicalDeviceFeatures2 *);
    void(VS_CALL *GetPhysicalDeviceMemoryProperties)(void *, VsPhysicalDeviceMemoryProperties *);
    void(VS_CALL *GetPhysicalDeviceMemoryProperties2)(void *, VsPhysicalDeviceMemoryProperties2 *);
    void(VS_CALL *GetPhysicalDeviceQueueFamilyProperties)(void *, uint32_t *, VsQueueFamilyProperties *);
    int32_t(VS_CALL *GetPhysicalDeviceCooperativeMatrixPropertiesKHR)(void *, uint32_t *, VsCooperativeMatrixPropertiesKHR *);
    int32_t(VS_CALL *GetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV)(void *, uint32_t *,
                                                                                      VsCooperativeMatrixFlexibleDimensionsPropertiesNV *);
    int32_t(VS_CALL *CreateDevice)(void *, const VsDeviceCreateInfo *, const void *, void **);
    int32_t(VS_CALL *CreateDebugUtilsMessengerEXT)(void *, const VsDebugUtilsMessengerCreateInfoEXT *, const void *, uint64_t *);
    void(VS_CALL *DestroyDebugUtilsMessengerEXT)(void *, uint64_t, const void *);

    // NULL unless the instance was made with surfaces.
    void(VS_CALL *DestroySurfaceKHR)(void *, uint64_t, const void *);
    int32_t(VS_CALL *GetPhysicalDeviceSurfaceSupportKHR)(void *, uint32_t, uint64_t, uint32_t *);
    int32_t(VS_CALL *GetPhysicalDeviceSurfaceCapabilitiesKHR)(void *, uint64_t, VsSurfaceCapabilitiesKHR *);
    int32_t(VS_CALL *GetPhysicalDeviceSurfaceFormatsKHR)(void *, uint64_t, uint32_t *, VsSurfaceFormatKHR *);
    int32_t(VS_CALL *GetPhysicalDeviceSurfacePresentModesKHR)(void *, uint64_t, uint32_t *, uint32_t *);
};

struct vs_device {
    void *handle;
    int32_t fail_next;
    uint32_t addresses; // buffers have device addresses
    int32_t(VS_CALL *CreateBuffer)(void *, const VsBufferCreateInfo *, const void *, uint64_t *);
    void(VS_CALL *GetBufferMemoryRequirements)(void *, uint64_t, VsMemoryRequirements *);
    int32_t(VS_CALL *AllocateMemory)(void *, const VsMemoryAllocateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *CreateBufferView)(void *, const VsBufferViewCreateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *CreatePipelineCache)(void *, const VsPipelineCacheCreateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *CreateShaderModule)(void *, const VsShaderModuleCreateInfo *, const void *, uint64_t *);
    void(VS_CALL *DestroyShaderModule)(void *, uint64_t, const void *);
    int32_t(VS_CALL *CreateDescriptorSetLayout)(void *, const VsDescriptorSetLayoutCreateInfo *, const void *, uint64_t *);
    void(VS_CALL *DestroyDescriptorSetLayout)(void *, uint64_t, const void *);
    int32_t(VS_CALL *CreatePipelineLayout)(void *, const VsPipelineLayoutCreateInfo *, const void *, uint64_t *);
    void(VS_CALL *DestroyPipelineLayout)(void *, uint64_t, const void *);
    int32_t(VS_CALL *CreateComputePipelines)(void *, uint64_t, uint32_t, const VsComputePipelineCreateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *GetPipelineExecutablePropertiesKHR)(void *, const VsPipelineInfoKHR *, uint32_t *, VsPipelineExecutablePropertiesKHR *);
    int32_t(VS_CALL *GetPipelineExecutableStatisticsKHR)(void *, const VsPipelineExecutableInfoKHR *, uint32_t *, VsPipelineExecutableStatisticKHR *);
    int32_t(VS_CALL *GetPipelineExecutableInternalRepresentationsKHR)(void *, const VsPipelineExecutableInfoKHR *, uint32_t *,
                                                                      VsPipelineExecutableInternalRepresentationKHR *);
    int32_t(VS_CALL *CreateDescriptorPool)(void *, const VsDescriptorPoolCreateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *AllocateDescriptorSets)(void *, const VsDescriptorSetAllocateInfo *, uint64_t *);
    void(VS_CALL *UpdateDescriptorSets)(void *, uint32_t, const VsWriteDescriptorSet *, uint32_t, const void *);
    int32_t(VS_CALL *CreateCommandPool)(void *, const VsCommandPoolCreateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *AllocateCommandBuffers)(void *, const VsCommandBufferAllocateInfo *, void **);
    int32_t(VS_CALL *BeginCommandBuffer)(void *, const VsCommandBufferBeginInfo *);
    void(VS_CALL *CmdBindDescriptorSets)(void *, uint32_t, uint64_t, uint32_t, uint32_t, const uint64_t *, uint32_t, const uint32_t *);
    void(VS_CALL *CmdPipelineBarrier)(void *, uint32_t, uint32_t, uint32_t, uint32_t, const VsMemoryBarrier *, uint32_t, const void *,
                                      uint32_t, const void *);
    int32_t(VS_CALL *CreateEvent)(void *, const VsEventCreateInfo *, const void *, uint64_t *);
    void(VS_CALL *CmdWaitEvents)(void *, uint32_t, const uint64_t *, uint32_t, uint32_t, uint32_t, const VsMemoryBarrier *, uint32_t,
                                 const VsBufferMemoryBarrier *, uint32_t, const void *);
    void(VS_CALL *CmdDispatchBase)(void *, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
    void(VS_CALL *CmdCopyBuffer)(void *, uint64_t, uint64_t, uint32_t, const VsBufferCopy *);
    int32_t(VS_CALL *CreateFence)(void *, const VsFenceCreateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *ResetFences)(void *, uint32_t, const uint64_t *);
    int32_t(VS_CALL *WaitForFences)(void *, uint32_t, const uint64_t *, uint32_t, uint64_t);
    int32_t(VS_CALL *CreateSemaphore)(void *, const VsSemaphoreCreateInfo *, const void *, uint64_t *);
    int32_t(VS_CALL *CreateQueryPool)(void *, const VsQueryPoolCreateInfo *, const void *, uint64_t *);
    uint64_t(VS_CALL *GetBufferDeviceAddress)(void *, const VsBufferDeviceAddressInfo *);
    int32_t(VS_CALL *QueueSubmit)(void *, uint32_t, const VsSubmitInfo *, uint64_t);

    // The device calls of swapchains, NULL on a device without them.
    int32_t(VS_CALL *CreateSwapchainKHR)(void *, const VsSwapchainCreateInfoKHR *, const void *, uint64_t *);
    void(VS_CALL *DestroySwapchainKHR)(void *, uint64_t, const void *);
    int32_t(VS_CALL *GetSwapchainImagesKHR)(void *, uint64_t, uint32_t *, uint64_t *);
    int32_t(VS_CALL *AcquireNextImageKHR)(void *, uint64_t, uint64_t, uint64_t, uint64_t, uint32_t *);
    int32_t(VS_CALL *QueuePresentKHR)(void *, const VsPresentInfoKHR *);
    void(VS_CALL *CmdCopyBufferToImage)(void *, uint64_t, uint64_t, uint32_t, uint32_t, const VsBufferImageCopy *);
};

// vs_features holds a device's feature chain; head.pNext leads through the blocks the device knows.
typedef struct vs_features {
    VsPhysicalDeviceFeatures2 head;
    VsPhysicalDevice16BitStorageFeatures storage16;
    VsPhysicalDevice8BitStorageFeatures storage8;
    VsPhysicalDeviceShaderFloat16Int8Features float16_int8;
    VsPhysicalDeviceShaderSubgroupExtendedTypesFeatures extended_types;
    VsPhysicalDeviceTimelineSemaphoreFeatures timeline;
    VsPhysicalDeviceBufferDeviceAddressFeatures device_address;
    VsPhysicalDeviceVulkanMemoryModelFeatures memory_model;
    VsPhysicalDeviceSubgroupSizeControlFeatures size_control;
    VsPhysicalDeviceSynchronization2Features sync2;
    VsPhysicalDeviceShaderIntegerDotProductFeatures int_dot;
    VsPhysicalDeviceMaintenance4Features maintenance4;
    VsPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executable;
    VsPhysicalDeviceCooperativeMatrixFeaturesKHR coop;
    VsPhysicalDeviceCooperativeMatrix2FeaturesNV coop2;
    VsPhysicalDeviceShaderMixedFloatDotProductFeaturesVALVE float_dot;
} vs_features;

// vs_extensions lists a device's extensions. The caller frees list.
typedef struct vs_extensions {
    uint32_t count;
    VsExtensionProperties *list;
} vs_extensions;

vs_extensions vs_device_extensions(vs_instance *in, void *physical);
int vs_has_extension(const vs_extensions *e, const char *name);
// vs_query_features fills f for a device of the given version and leaves the booleans that we use and the device has.
void vs_query_features(vs_instance *in, void *physical, uint32_t version, const vs_extensions *e, vs_features *f);

#endif
