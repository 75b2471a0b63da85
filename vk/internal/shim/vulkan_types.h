// vulkan_types.h: the Vulkan structures and constants that the shim uses, and no others, in plain C types.
//
// Names are Vulkan's with Vs for Vk and VS_ for VK_, fields keep their names and order, handles that are not dispatchable are
// uint64_t and dispatchable ones void *. layout_test.go compares sizes, offsets and values with the distribution's headers when
// they are installed; building needs no Vulkan header. Source: Vulkan 1.3 specification.

#ifndef PUMICE_VULKAN_TYPES_H
#define PUMICE_VULKAN_TYPES_H

#include <stddef.h>
#include <stdint.h>

#define VS_SUCCESS 0
#define VS_INCOMPLETE 5
#define VS_ERROR_OUT_OF_HOST_MEMORY -1
#define VS_ERROR_INITIALIZATION_FAILED -3
#define VS_ERROR_LAYER_NOT_PRESENT -6
#define VS_ERROR_EXTENSION_NOT_PRESENT -7

#define VS_API_VERSION_1_1 4198400
#define VS_API_VERSION_1_2 4202496
#define VS_API_VERSION_1_3 4206592

#define VS_STRUCTURE_TYPE_APPLICATION_INFO 0
#define VS_STRUCTURE_TYPE_INSTANCE_CREATE_INFO 1
#define VS_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT 1000247000
#define VS_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CALLBACK_DATA_EXT 1000128003
#define VS_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT 1000128004
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 1000059001
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES 1000071004
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES 1000168000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES 1000094000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES 1000196000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES 1000225000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES 1000413001
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES 1000280001
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV 1000154001
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_2_AMD 1000227000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_BUILTINS_PROPERTIES_ARM 1000497001
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2 1000059000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES 1000083000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES 1000177000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES 1000082000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SUBGROUP_EXTENDED_TYPES_FEATURES 1000175000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES 1000207000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_BUFFER_DEVICE_ADDRESS_FEATURES 1000257000
#define VS_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO 1000244001
#define VS_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO 1000060000
#define VS_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT 2
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES 1000211000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES 1000225002
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES 1000314007
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES 1000280000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES 1000413000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR 1000269000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2 1000059006
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT 1000237000
#define VS_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO 2
#define VS_STRUCTURE_TYPE_DEVICE_CREATE_INFO 3
#define VS_STRUCTURE_TYPE_BUFFER_CREATE_INFO 12
#define VS_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO 5
#define VS_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO 13
#define VS_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO 16
#define VS_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO 32
#define VS_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO 30
#define VS_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO 1000225001
#define VS_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO 18
#define VS_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO 29
#define VS_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO 17
#define VS_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO 33
#define VS_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO 34
#define VS_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET 35
#define VS_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO 39
#define VS_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO 40
#define VS_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO 42
#define VS_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER 44
#define VS_STRUCTURE_TYPE_MEMORY_BARRIER 46
#define VS_STRUCTURE_TYPE_PIPELINE_INFO_KHR 1000269001
#define VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR 1000269002
#define VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR 1000269003
#define VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR 1000269004
#define VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR 1000269005
#define VS_STRUCTURE_TYPE_SUBMIT_INFO 4
#define VS_STRUCTURE_TYPE_FENCE_CREATE_INFO 8
#define VS_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO 9
#define VS_STRUCTURE_TYPE_EVENT_CREATE_INFO 10
#define VS_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO 11
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR 1000506000
#define VS_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR 1000506001
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV 1000593000
#define VS_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_MIXED_FLOAT_DOT_PRODUCT_FEATURES_VALVE 1000673000
#define VS_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV 1000593001
#define VS_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT 1000496000

#define VS_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR 1000001000
#define VS_STRUCTURE_TYPE_PRESENT_INFO_KHR 1000001001
#define VS_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER 45

#define VS_IMAGE_USAGE_TRANSFER_DST_BIT 2
#define VS_IMAGE_ASPECT_COLOR_BIT 1
#define VS_COLOR_SPACE_SRGB_NONLINEAR_KHR 0
#define VS_QUEUE_FAMILY_IGNORED 0xffffffffu

#define VS_LAYER_SETTING_TYPE_BOOL32_EXT 0
#define VS_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR 1
#define VS_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT 4
#define VS_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT 256
#define VS_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT 4096
#define VS_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT 1
#define VS_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT 2
#define VS_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT 4
#define VS_SHADER_STAGE_COMPUTE_BIT 32
#define VS_SHARING_MODE_EXCLUSIVE 0
#define VS_SHARING_MODE_CONCURRENT 1
#define VS_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER 4
#define VS_DESCRIPTOR_TYPE_STORAGE_BUFFER 7
#define VS_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT 2
#define VS_PIPELINE_BIND_POINT_COMPUTE 1
#define VS_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR 64
#define VS_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR 128
#define VS_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR 1
#define VS_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR 3
#define VS_COMMAND_BUFFER_LEVEL_PRIMARY 0
#define VS_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT 2
#define VS_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT 4
#define VS_PIPELINE_CREATE_DISPATCH_BASE_BIT 0x10
#define VS_QUERY_TYPE_TIMESTAMP 2

typedef struct VsApplicationInfo {
    uint32_t sType;
    const void *pNext;
    const char *pApplicationName;
    uint32_t applicationVersion;
    const char *pEngineName;
    uint32_t engineVersion, apiVersion;
} VsApplicationInfo;

typedef struct VsInstanceCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    const VsApplicationInfo *pApplicationInfo;
    uint32_t enabledLayerCount;
    const char *const *ppEnabledLayerNames;
    uint32_t enabledExtensionCount;
    const char *const *ppEnabledExtensionNames;
} VsInstanceCreateInfo;

typedef struct VsExtensionProperties {
    char extensionName[256];
    uint32_t specVersion;
} VsExtensionProperties;

typedef struct VsLayerProperties {
    char layerName[256];
    uint32_t specVersion, implementationVersion;
    char description[256];
} VsLayerProperties;

typedef struct VsValidationFeaturesEXT {
    uint32_t sType;
    const void *pNext;
    uint32_t enabledValidationFeatureCount;
    const void *pEnabledValidationFeatures;
    uint32_t disabledValidationFeatureCount;
    const void *pDisabledValidationFeatures;
} VsValidationFeaturesEXT;

typedef struct VsLayerSettingEXT {
    const char *pLayerName, *pSettingName;
    uint32_t type, valueCount;
    const void *pValues;
} VsLayerSettingEXT;

typedef struct VsLayerSettingsCreateInfoEXT {
    uint32_t sType;
    const void *pNext;
    uint32_t settingCount;
    const VsLayerSettingEXT *pSettings;
} VsLayerSettingsCreateInfoEXT;

typedef struct VsDebugUtilsMessengerCallbackDataEXT {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    const char *pMessageIdName;
    int32_t messageIdNumber;
    const char *pMessage;
    uint32_t queueLabelCount;
    const void *pQueueLabels;
    uint32_t cmdBufLabelCount;
    const void *pCmdBufLabels;
    uint32_t objectCount;
    const void *pObjects;
} VsDebugUtilsMessengerCallbackDataEXT;

typedef struct VsDebugUtilsMessengerCreateInfoEXT {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, messageSeverity, messageType;
    void *pfnUserCallback;
    void *pUserData;
} VsDebugUtilsMessengerCreateInfoEXT;

typedef struct VsPhysicalDeviceLimits {
    uint32_t maxImageDimension1D, maxImageDimension2D, maxImageDimension3D, maxImageDimensionCube;
    uint32_t maxImageArrayLayers, maxTexelBufferElements, maxUniformBufferRange, maxStorageBufferRange;
    uint32_t maxPushConstantsSize, maxMemoryAllocationCount, maxSamplerAllocationCount;
    uint64_t bufferImageGranularity, sparseAddressSpaceSize;
    uint32_t maxBoundDescriptorSets, maxPerStageDescriptorSamplers, maxPerStageDescriptorUniformBuffers;
    uint32_t maxPerStageDescriptorStorageBuffers, maxPerStageDescriptorSampledImages, maxPerStageDescriptorStorageImages;
    uint32_t maxPerStageDescriptorInputAttachments, maxPerStageResources, maxDescriptorSetSamplers;
    uint32_t maxDescriptorSetUniformBuffers, maxDescriptorSetUniformBuffersDynamic, maxDescriptorSetStorageBuffers;
    uint32_t maxDescriptorSetStorageBuffersDynamic, maxDescriptorSetSampledImages, maxDescriptorSetStorageImages;
    uint32_t maxDescriptorSetInputAttachments, maxVertexInputAttributes, maxVertexInputBindings, maxVertexInputAttributeOffset;
    uint32_t maxVertexInputBindingStride, maxVertexOutputComponents, maxTessellationGenerationLevel, maxTessellationPatchSize;
    uint32_t maxTessellationControlPerVertexInputComponents, maxTessellationControlPerVertexOutputComponents;
    uint32_t maxTessellationControlPerPatchOutputComponents, maxTessellationControlTotalOutputComponents;
    uint32_t maxTessellationEvaluationInputComponents, maxTessellationEvaluationOutputComponents, maxGeometryShaderInvocations;
    uint32_t maxGeometryInputComponents, maxGeometryOutputComponents, maxGeometryOutputVertices, maxGeometryTotalOutputComponents;
    uint32_t maxFragmentInputComponents, maxFragmentOutputAttachments, maxFragmentDualSrcAttachments;
    uint32_t maxFragmentCombinedOutputResources, maxComputeSharedMemorySize, maxComputeWorkGroupCount[3];
    uint32_t maxComputeWorkGroupInvocations, maxComputeWorkGroupSize[3], subPixelPrecisionBits, subTexelPrecisionBits;
    uint32_t mipmapPrecisionBits, maxDrawIndexedIndexValue, maxDrawIndirectCount;
    float maxSamplerLodBias, maxSamplerAnisotropy;
    uint32_t maxViewports, maxViewportDimensions[2];
    float viewportBoundsRange[2];
    uint32_t viewportSubPixelBits;
    size_t minMemoryMapAlignment;
    uint64_t minTexelBufferOffsetAlignment, minUniformBufferOffsetAlignment, minStorageBufferOffsetAlignment;
    int32_t minTexelOffset;
    uint32_t maxTexelOffset;
    int32_t minTexelGatherOffset;
    uint32_t maxTexelGatherOffset;
    float minInterpolationOffset, maxInterpolationOffset;
    uint32_t subPixelInterpolationOffsetBits, maxFramebufferWidth, maxFramebufferHeight, maxFramebufferLayers;
    uint32_t framebufferColorSampleCounts, framebufferDepthSampleCounts, framebufferStencilSampleCounts;
    uint32_t framebufferNoAttachmentsSampleCounts, maxColorAttachments, sampledImageColorSampleCounts;
    uint32_t sampledImageIntegerSampleCounts, sampledImageDepthSampleCounts, sampledImageStencilSampleCounts;
    uint32_t storageImageSampleCounts, maxSampleMaskWords, timestampComputeAndGraphics;
    float timestampPeriod;
    uint32_t maxClipDistances, maxCullDistances, maxCombinedClipAndCullDistances, discreteQueuePriorities;
    float pointSizeRange[2], lineWidthRange[2], pointSizeGranularity, lineWidthGranularity;
    uint32_t strictLines, standardSampleLocations;
    uint64_t optimalBufferCopyOffsetAlignment, optimalBufferCopyRowPitchAlignment, nonCoherentAtomSize;
} VsPhysicalDeviceLimits;

typedef struct VsPhysicalDeviceSparseProperties {
    uint32_t residencyStandard2DBlockShape, residencyStandard2DMultisampleBlockShape, residencyStandard3DBlockShape;
    uint32_t residencyAlignedMipSize, residencyNonResidentStrict;
} VsPhysicalDeviceSparseProperties;

typedef struct VsPhysicalDeviceProperties {
    uint32_t apiVersion, driverVersion, vendorID, deviceID;
    uint32_t deviceType;
    char deviceName[256];
    uint8_t pipelineCacheUUID[16];
    VsPhysicalDeviceLimits limits;
    VsPhysicalDeviceSparseProperties sparseProperties;
} VsPhysicalDeviceProperties;

typedef struct VsPhysicalDeviceProperties2 {
    uint32_t sType;
    void *pNext;
    VsPhysicalDeviceProperties properties;
} VsPhysicalDeviceProperties2;

typedef struct VsPhysicalDeviceIDProperties {
    uint32_t sType;
    void *pNext;
    uint8_t deviceUUID[16], driverUUID[16], deviceLUID[8];
    uint32_t deviceNodeMask, deviceLUIDValid;
} VsPhysicalDeviceIDProperties;

typedef struct VsPhysicalDeviceMaintenance3Properties {
    uint32_t sType;
    void *pNext;
    uint32_t maxPerSetDescriptors;
    uint64_t maxMemoryAllocationSize;
} VsPhysicalDeviceMaintenance3Properties;

typedef struct VsPhysicalDeviceSubgroupProperties {
    uint32_t sType;
    void *pNext;
    uint32_t subgroupSize, supportedStages, supportedOperations, quadOperationsInAllStages;
} VsPhysicalDeviceSubgroupProperties;

typedef struct VsPhysicalDeviceDriverProperties {
    uint32_t sType;
    void *pNext;
    uint32_t driverID;
    char driverName[256], driverInfo[256];
    uint32_t conformanceVersion;
} VsPhysicalDeviceDriverProperties;

typedef struct VsPhysicalDeviceSubgroupSizeControlProperties {
    uint32_t sType;
    void *pNext;
    uint32_t minSubgroupSize, maxSubgroupSize, maxComputeWorkgroupSubgroups, requiredSubgroupSizeStages;
} VsPhysicalDeviceSubgroupSizeControlProperties;

typedef struct VsPhysicalDeviceMaintenance4Properties {
    uint32_t sType;
    void *pNext;
    uint64_t maxBufferSize;
} VsPhysicalDeviceMaintenance4Properties;

typedef struct VsPhysicalDeviceShaderIntegerDotProductProperties {
    uint32_t sType;
    void *pNext;
    uint32_t integerDotProduct8BitUnsignedAccelerated, integerDotProduct8BitSignedAccelerated;
    uint32_t integerDotProduct8BitMixedSignednessAccelerated, integerDotProduct4x8BitPackedUnsignedAccelerated;
    uint32_t integerDotProduct4x8BitPackedSignedAccelerated, integerDotProduct4x8BitPackedMixedSignednessAccelerated;
    uint32_t integerDotProduct16BitUnsignedAccelerated, integerDotProduct16BitSignedAccelerated;
    uint32_t integerDotProduct16BitMixedSignednessAccelerated, integerDotProduct32BitUnsignedAccelerated;
    uint32_t integerDotProduct32BitSignedAccelerated, integerDotProduct32BitMixedSignednessAccelerated;
    uint32_t integerDotProduct64BitUnsignedAccelerated, integerDotProduct64BitSignedAccelerated;
    uint32_t integerDotProduct64BitMixedSignednessAccelerated, integerDotProductAccumulatingSaturating8BitUnsignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating8BitSignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating8BitMixedSignednessAccelerated;
    uint32_t integerDotProductAccumulatingSaturating4x8BitPackedUnsignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating4x8BitPackedSignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating4x8BitPackedMixedSignednessAccelerated;
    uint32_t integerDotProductAccumulatingSaturating16BitUnsignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating16BitSignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating16BitMixedSignednessAccelerated;
    uint32_t integerDotProductAccumulatingSaturating32BitUnsignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating32BitSignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating32BitMixedSignednessAccelerated;
    uint32_t integerDotProductAccumulatingSaturating64BitUnsignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating64BitSignedAccelerated;
    uint32_t integerDotProductAccumulatingSaturating64BitMixedSignednessAccelerated;
} VsPhysicalDeviceShaderIntegerDotProductProperties;

typedef struct VsPhysicalDeviceShaderSMBuiltinsPropertiesNV {
    uint32_t sType;
    void *pNext;
    uint32_t shaderSMCount, shaderWarpsPerSM;
} VsPhysicalDeviceShaderSMBuiltinsPropertiesNV;

typedef struct VsPhysicalDeviceShaderCoreProperties2AMD {
    uint32_t sType;
    void *pNext;
    uint32_t shaderCoreFeatures, activeComputeUnitCount;
} VsPhysicalDeviceShaderCoreProperties2AMD;

typedef struct VsPhysicalDeviceShaderCoreBuiltinsPropertiesARM {
    uint32_t sType;
    void *pNext;
    uint64_t shaderCoreMask;
    uint32_t shaderCoreCount, shaderWarpsPerCore;
} VsPhysicalDeviceShaderCoreBuiltinsPropertiesARM;

typedef struct VsPhysicalDeviceFeatures {
    uint32_t robustBufferAccess, fullDrawIndexUint32, imageCubeArray, independentBlend;
    uint32_t geometryShader, tessellationShader, sampleRateShading, dualSrcBlend;
    uint32_t logicOp, multiDrawIndirect, drawIndirectFirstInstance, depthClamp;
    uint32_t depthBiasClamp, fillModeNonSolid, depthBounds, wideLines;
    uint32_t largePoints, alphaToOne, multiViewport, samplerAnisotropy;
    uint32_t textureCompressionETC2, textureCompressionASTC_LDR, textureCompressionBC, occlusionQueryPrecise;
    uint32_t pipelineStatisticsQuery, vertexPipelineStoresAndAtomics, fragmentStoresAndAtomics;
    uint32_t shaderTessellationAndGeometryPointSize, shaderImageGatherExtended, shaderStorageImageExtendedFormats;
    uint32_t shaderStorageImageMultisample, shaderStorageImageReadWithoutFormat, shaderStorageImageWriteWithoutFormat;
    uint32_t shaderUniformBufferArrayDynamicIndexing, shaderSampledImageArrayDynamicIndexing;
    uint32_t shaderStorageBufferArrayDynamicIndexing, shaderStorageImageArrayDynamicIndexing, shaderClipDistance;
    uint32_t shaderCullDistance, shaderFloat64, shaderInt64, shaderInt16;
    uint32_t shaderResourceResidency, shaderResourceMinLod, sparseBinding, sparseResidencyBuffer;
    uint32_t sparseResidencyImage2D, sparseResidencyImage3D, sparseResidency2Samples, sparseResidency4Samples;
    uint32_t sparseResidency8Samples, sparseResidency16Samples, sparseResidencyAliased, variableMultisampleRate;
    uint32_t inheritedQueries;
} VsPhysicalDeviceFeatures;

typedef struct VsPhysicalDeviceFeatures2 {
    uint32_t sType;
    void *pNext;
    VsPhysicalDeviceFeatures features;
} VsPhysicalDeviceFeatures2;

typedef struct VsPhysicalDevice16BitStorageFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t storageBuffer16BitAccess, uniformAndStorageBuffer16BitAccess, storagePushConstant16, storageInputOutput16;
} VsPhysicalDevice16BitStorageFeatures;

typedef struct VsPhysicalDevice8BitStorageFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t storageBuffer8BitAccess, uniformAndStorageBuffer8BitAccess, storagePushConstant8;
} VsPhysicalDevice8BitStorageFeatures;

typedef struct VsPhysicalDeviceShaderFloat16Int8Features {
    uint32_t sType;
    void *pNext;
    uint32_t shaderFloat16, shaderInt8;
} VsPhysicalDeviceShaderFloat16Int8Features;

typedef struct VsPhysicalDeviceShaderSubgroupExtendedTypesFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t shaderSubgroupExtendedTypes;
} VsPhysicalDeviceShaderSubgroupExtendedTypesFeatures;

typedef struct VsPhysicalDeviceTimelineSemaphoreFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t timelineSemaphore;
} VsPhysicalDeviceTimelineSemaphoreFeatures;

typedef struct VsPhysicalDeviceBufferDeviceAddressFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t bufferDeviceAddress, bufferDeviceAddressCaptureReplay, bufferDeviceAddressMultiDevice;
} VsPhysicalDeviceBufferDeviceAddressFeatures;

typedef struct VsPhysicalDeviceVulkanMemoryModelFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t vulkanMemoryModel, vulkanMemoryModelDeviceScope, vulkanMemoryModelAvailabilityVisibilityChains;
} VsPhysicalDeviceVulkanMemoryModelFeatures;

typedef struct VsPhysicalDeviceSubgroupSizeControlFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t subgroupSizeControl, computeFullSubgroups;
} VsPhysicalDeviceSubgroupSizeControlFeatures;

typedef struct VsPhysicalDeviceSynchronization2Features {
    uint32_t sType;
    void *pNext;
    uint32_t synchronization2;
} VsPhysicalDeviceSynchronization2Features;

typedef struct VsPhysicalDeviceShaderIntegerDotProductFeatures {
    uint32_t sType;
    void *pNext;
    uint32_t shaderIntegerDotProduct;
} VsPhysicalDeviceShaderIntegerDotProductFeatures;

typedef struct VsPhysicalDeviceMaintenance4Features {
    uint32_t sType;
    void *pNext;
    uint32_t maintenance4;
} VsPhysicalDeviceMaintenance4Features;

typedef struct VsPhysicalDevicePipelineExecutablePropertiesFeaturesKHR {
    uint32_t sType;
    void *pNext;
    uint32_t pipelineExecutableInfo;
} VsPhysicalDevicePipelineExecutablePropertiesFeaturesKHR;

typedef struct VsMemoryType {
    uint32_t propertyFlags, heapIndex;
} VsMemoryType;

typedef struct VsMemoryHeap {
    uint64_t size;
    uint32_t flags;
} VsMemoryHeap;

typedef struct VsPhysicalDeviceMemoryProperties {
    uint32_t memoryTypeCount;
    VsMemoryType memoryTypes[32];
    uint32_t memoryHeapCount;
    VsMemoryHeap memoryHeaps[16];
} VsPhysicalDeviceMemoryProperties;

typedef struct VsPhysicalDeviceMemoryProperties2 {
    uint32_t sType;
    void *pNext;
    VsPhysicalDeviceMemoryProperties memoryProperties;
} VsPhysicalDeviceMemoryProperties2;

typedef struct VsPhysicalDeviceMemoryBudgetPropertiesEXT {
    uint32_t sType;
    void *pNext;
    uint64_t heapBudget[16], heapUsage[16];
} VsPhysicalDeviceMemoryBudgetPropertiesEXT;

typedef struct VsExtent3D {
    uint32_t width, height, depth;
} VsExtent3D;

typedef struct VsQueueFamilyProperties {
    uint32_t queueFlags, queueCount, timestampValidBits;
    VsExtent3D minImageTransferGranularity;
} VsQueueFamilyProperties;

typedef struct VsDeviceQueueCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, queueFamilyIndex, queueCount;
    const float *pQueuePriorities;
} VsDeviceQueueCreateInfo;

typedef struct VsDeviceCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, queueCreateInfoCount;
    const VsDeviceQueueCreateInfo *pQueueCreateInfos;
    uint32_t enabledLayerCount;
    const char *const *ppEnabledLayerNames;
    uint32_t enabledExtensionCount;
    const char *const *ppEnabledExtensionNames;
    const VsPhysicalDeviceFeatures *pEnabledFeatures;
} VsDeviceCreateInfo;

typedef struct VsBufferCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    uint64_t size;
    uint32_t usage, sharingMode, queueFamilyIndexCount;
    const uint32_t *pQueueFamilyIndices;
} VsBufferCreateInfo;

typedef struct VsMemoryRequirements {
    uint64_t size, alignment;
    uint32_t memoryTypeBits;
} VsMemoryRequirements;

typedef struct VsMemoryAllocateInfo {
    uint32_t sType;
    const void *pNext;
    uint64_t allocationSize;
    uint32_t memoryTypeIndex;
} VsMemoryAllocateInfo;

typedef struct VsMemoryAllocateFlagsInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    uint32_t deviceMask;
} VsMemoryAllocateFlagsInfo;

typedef struct VsBufferDeviceAddressInfo {
    uint32_t sType;
    const void *pNext;
    uint64_t buffer;
} VsBufferDeviceAddressInfo;

typedef struct VsBufferViewCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    uint64_t buffer;
    uint32_t format;
    uint64_t offset, range;
} VsBufferViewCreateInfo;

typedef struct VsShaderModuleCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    size_t codeSize;
    const uint32_t *pCode;
} VsShaderModuleCreateInfo;

typedef struct VsDescriptorSetLayoutBinding {
    uint32_t binding, descriptorType, descriptorCount, stageFlags;
    const uint64_t *pImmutableSamplers;
} VsDescriptorSetLayoutBinding;

typedef struct VsDescriptorSetLayoutCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, bindingCount;
    const VsDescriptorSetLayoutBinding *pBindings;
} VsDescriptorSetLayoutCreateInfo;

typedef struct VsPushConstantRange {
    uint32_t stageFlags, offset, size;
} VsPushConstantRange;

typedef struct VsPipelineLayoutCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, setLayoutCount;
    const uint64_t *pSetLayouts;
    uint32_t pushConstantRangeCount;
    const VsPushConstantRange *pPushConstantRanges;
} VsPipelineLayoutCreateInfo;

typedef struct VsSpecializationMapEntry {
    uint32_t constantID, offset;
    size_t size;
} VsSpecializationMapEntry;

typedef struct VsSpecializationInfo {
    uint32_t mapEntryCount;
    const VsSpecializationMapEntry *pMapEntries;
    size_t dataSize;
    const void *pData;
} VsSpecializationInfo;

typedef struct VsPipelineShaderStageRequiredSubgroupSizeCreateInfo {
    uint32_t sType;
    void *pNext;
    uint32_t requiredSubgroupSize;
} VsPipelineShaderStageRequiredSubgroupSizeCreateInfo;

typedef struct VsPipelineShaderStageCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, stage;
    uint64_t module;
    const char *pName;
    const VsSpecializationInfo *pSpecializationInfo;
} VsPipelineShaderStageCreateInfo;

typedef struct VsComputePipelineCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    VsPipelineShaderStageCreateInfo stage;
    uint64_t layout, basePipelineHandle;
    int32_t basePipelineIndex;
} VsComputePipelineCreateInfo;

typedef struct VsPipelineCacheCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    size_t initialDataSize;
    const void *pInitialData;
} VsPipelineCacheCreateInfo;

typedef struct VsDescriptorPoolSize {
    uint32_t type, descriptorCount;
} VsDescriptorPoolSize;

typedef struct VsDescriptorPoolCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, maxSets, poolSizeCount;
    const VsDescriptorPoolSize *pPoolSizes;
} VsDescriptorPoolCreateInfo;

typedef struct VsDescriptorSetAllocateInfo {
    uint32_t sType;
    const void *pNext;
    uint64_t descriptorPool;
    uint32_t descriptorSetCount;
    const uint64_t *pSetLayouts;
} VsDescriptorSetAllocateInfo;

typedef struct VsDescriptorBufferInfo {
    uint64_t buffer, offset, range;
} VsDescriptorBufferInfo;

typedef struct VsWriteDescriptorSet {
    uint32_t sType;
    const void *pNext;
    uint64_t dstSet;
    uint32_t dstBinding, dstArrayElement, descriptorCount, descriptorType;
    const void *pImageInfo;
    const VsDescriptorBufferInfo *pBufferInfo;
    const uint64_t *pTexelBufferView;
} VsWriteDescriptorSet;

typedef struct VsCommandPoolCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, queueFamilyIndex;
} VsCommandPoolCreateInfo;

typedef struct VsCommandBufferAllocateInfo {
    uint32_t sType;
    const void *pNext;
    uint64_t commandPool;
    uint32_t level, commandBufferCount;
} VsCommandBufferAllocateInfo;

typedef struct VsCommandBufferBeginInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    const void *pInheritanceInfo;
} VsCommandBufferBeginInfo;

typedef struct VsMemoryBarrier {
    uint32_t sType;
    const void *pNext;
    uint32_t srcAccessMask, dstAccessMask;
} VsMemoryBarrier;

typedef struct VsBufferMemoryBarrier {
    uint32_t sType;
    const void *pNext;
    uint32_t srcAccessMask, dstAccessMask;
    uint32_t srcQueueFamilyIndex, dstQueueFamilyIndex;
    uint64_t buffer, offset, size;
} VsBufferMemoryBarrier;

typedef struct VsBufferCopy {
    uint64_t srcOffset, dstOffset, size;
} VsBufferCopy;

typedef struct VsSubmitInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t waitSemaphoreCount;
    const uint64_t *pWaitSemaphores;
    const uint32_t *pWaitDstStageMask;
    uint32_t commandBufferCount;
    void *const *pCommandBuffers;
    uint32_t signalSemaphoreCount;
    const uint64_t *pSignalSemaphores;
} VsSubmitInfo;

typedef struct VsFenceCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
} VsFenceCreateInfo;

typedef struct VsSemaphoreCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
} VsSemaphoreCreateInfo;

typedef struct VsEventCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
} VsEventCreateInfo;

typedef struct VsQueryPoolCreateInfo {
    uint32_t sType;
    const void *pNext;
    uint32_t flags, queryType, queryCount, pipelineStatistics;
} VsQueryPoolCreateInfo;

typedef struct VsPhysicalDeviceCooperativeMatrixFeaturesKHR {
    uint32_t sType;
    void *pNext;
    uint32_t cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} VsPhysicalDeviceCooperativeMatrixFeaturesKHR;

typedef struct VsCooperativeMatrixPropertiesKHR {
    uint32_t sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    uint32_t AType, BType, CType, ResultType;
    uint32_t saturatingAccumulation, scope;
} VsCooperativeMatrixPropertiesKHR;

typedef struct VsPhysicalDeviceCooperativeMatrix2FeaturesNV {
    uint32_t sType;
    void *pNext;
    uint32_t cooperativeMatrixWorkgroupScope, cooperativeMatrixFlexibleDimensions, cooperativeMatrixReductions;
    uint32_t cooperativeMatrixConversions, cooperativeMatrixPerElementOperations, cooperativeMatrixTensorAddressing;
    uint32_t cooperativeMatrixBlockLoads;
} VsPhysicalDeviceCooperativeMatrix2FeaturesNV;

typedef struct VsPhysicalDeviceShaderMixedFloatDotProductFeaturesVALVE {
    uint32_t sType;
    void *pNext;
    uint32_t shaderMixedFloatDotProductFloat16AccFloat32, shaderMixedFloatDotProductFloat16AccFloat16;
    uint32_t shaderMixedFloatDotProductBFloat16Acc, shaderMixedFloatDotProductFloat8AccFloat32;
} VsPhysicalDeviceShaderMixedFloatDotProductFeaturesVALVE;

typedef struct VsCooperativeMatrixFlexibleDimensionsPropertiesNV {
    uint32_t sType;
    void *pNext;
    uint32_t MGranularity, NGranularity, KGranularity;
    uint32_t AType, BType, CType, ResultType;
    uint32_t saturatingAccumulation, scope, workgroupInvocations;
} VsCooperativeMatrixFlexibleDimensionsPropertiesNV;

typedef struct VsPipelineInfoKHR {
    uint32_t sType;
    const void *pNext;
    uint64_t pipeline;
} VsPipelineInfoKHR;

typedef struct VsPipelineExecutablePropertiesKHR {
    uint32_t sType;
    void *pNext;
    uint32_t stages;
    char name[256];
    char description[256];
    uint32_t subgroupSize;
} VsPipelineExecutablePropertiesKHR;

typedef struct VsPipelineExecutableInfoKHR {
    uint32_t sType;
    const void *pNext;
    uint64_t pipeline;
    uint32_t executableIndex;
} VsPipelineExecutableInfoKHR;

typedef struct VsPipelineExecutableStatisticKHR {
    uint32_t sType;
    void *pNext;
    char name[256];
    char description[256];
    uint32_t format;
    uint64_t value;
} VsPipelineExecutableStatisticKHR;

typedef struct VsPipelineExecutableInternalRepresentationKHR {
    uint32_t sType;
    void *pNext;
    char name[256];
    char description[256];
    uint32_t isText;
    size_t dataSize;
    void *pData;
} VsPipelineExecutableInternalRepresentationKHR;

typedef struct VsExtent2D {
    uint32_t width, height;
} VsExtent2D;

typedef struct VsSurfaceCapabilitiesKHR {
    uint32_t minImageCount, maxImageCount;
    VsExtent2D currentExtent, minImageExtent, maxImageExtent;
    uint32_t maxImageArrayLayers, supportedTransforms, currentTransform, supportedCompositeAlpha, supportedUsageFlags;
} VsSurfaceCapabilitiesKHR;

typedef struct VsSurfaceFormatKHR {
    uint32_t format, colorSpace;
} VsSurfaceFormatKHR;

typedef struct VsSwapchainCreateInfoKHR {
    uint32_t sType;
    const void *pNext;
    uint32_t flags;
    uint64_t surface;
    uint32_t minImageCount, imageFormat, imageColorSpace;
    VsExtent2D imageExtent;
    uint32_t imageArrayLayers, imageUsage, imageSharingMode, queueFamilyIndexCount;
    const uint32_t *pQueueFamilyIndices;
    uint32_t preTransform, compositeAlpha, presentMode, clipped;
    uint64_t oldSwapchain;
} VsSwapchainCreateInfoKHR;

typedef struct VsPresentInfoKHR {
    uint32_t sType;
    const void *pNext;
    uint32_t waitSemaphoreCount;
    const uint64_t *pWaitSemaphores;
    uint32_t swapchainCount;
    const uint64_t *pSwapchains;
    const uint32_t *pImageIndices;
    int32_t *pResults;
} VsPresentInfoKHR;

typedef struct VsImageSubresourceRange {
    uint32_t aspectMask, baseMipLevel, levelCount, baseArrayLayer, layerCount;
} VsImageSubresourceRange;

typedef struct VsImageMemoryBarrier {
    uint32_t sType;
    const void *pNext;
    uint32_t srcAccessMask, dstAccessMask, oldLayout, newLayout, srcQueueFamilyIndex, dstQueueFamilyIndex;
    uint64_t image;
    VsImageSubresourceRange subresourceRange;
} VsImageMemoryBarrier;

typedef struct VsImageSubresourceLayers {
    uint32_t aspectMask, mipLevel, baseArrayLayer, layerCount;
} VsImageSubresourceLayers;

typedef struct VsOffset3D {
    int32_t x, y, z;
} VsOffset3D;

typedef struct VsBufferImageCopy {
    uint64_t bufferOffset;
    uint32_t bufferRowLength, bufferImageHeight;
    VsImageSubresourceLayers imageSubresource;
    VsOffset3D imageOffset;
    VsExtent3D imageExtent;
} VsBufferImageCopy;

#endif
