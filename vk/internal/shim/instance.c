// instance.c: instance creation, validation layer, messages.

#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

// pumiceVulkanMessage is exported by callback.go.
extern void pumiceVulkanMessage(uintptr_t id, uint32_t severity, uint32_t types, int32_t number, char *name, char *text);

static const char *const validation_layer = "VK_LAYER_KHRONOS_validation";

static uint32_t VS_CALL on_message(uint32_t severity, uint32_t types, const VsDebugUtilsMessengerCallbackDataEXT *data, void *user) {
    pumiceVulkanMessage((uintptr_t)user, severity, types, data->messageIdNumber, (char *)data->pMessageIdName, (char *)data->pMessage);
    return 0;
}

static int has_instance_extension(const char *layer, const char *name) {
    int32_t(VS_CALL * enumerate)(const char *, uint32_t *, VsExtensionProperties *) = (int32_t(VS_CALL *)(
        const char *, uint32_t *, VsExtensionProperties *))vs_get_instance_proc_addr(NULL, "vkEnumerateInstanceExtensionProperties");
    uint32_t n = 0;
    int found = 0;
    if (!enumerate || enumerate(layer, &n, NULL) < 0 || n == 0) return 0;
    VsExtensionProperties *list = calloc(n, sizeof *list);
    if (list && enumerate(layer, &n, list) >= 0)
        for (uint32_t i = 0; i < n; i++) found |= strcmp(list[i].extensionName, name) == 0;
    free(list);
    return found;
}

static int has_layer(const char *name) {
    int32_t(VS_CALL * enumerate)(uint32_t *, VsLayerProperties *) =
        (int32_t(VS_CALL *)(uint32_t *, VsLayerProperties *))vs_get_instance_proc_addr(NULL, "vkEnumerateInstanceLayerProperties");
    uint32_t n = 0;
    int found = 0;
    if (!enumerate || enumerate(&n, NULL) < 0 || n == 0) return 0;
    VsLayerProperties *list = calloc(n, sizeof *list);
    if (list && enumerate(&n, list) >= 0)
        for (uint32_t i = 0; i < n; i++) found |= strcmp(list[i].layerName, name) == 0;
    free(list);
    return found;
}

#define LOAD(field) in->field = (__typeof__(in->field))vs_get_instance_proc_addr(in->handle, "vk" #field)

int32_t vs_instance_create(int validation, int surfaces, uintptr_t message_id, vs_instance **out) {
    *out = NULL;
    int32_t(VS_CALL * create)(const VsInstanceCreateInfo *, const void *, void **) =
        (int32_t(VS_CALL *)(const VsInstanceCreateInfo *, const void *, void **))vs_get_instance_proc_addr(NULL, "vkCreateInstance");
    // A loader without vkEnumerateInstanceVersion is Vulkan 1.0, which refuses a higher version and lacks what we need.
    if (!create || !vs_get_instance_proc_addr(NULL, "vkEnumerateInstanceVersion")) return VS_ERROR_INITIALIZATION_FAILED;

    // A windowing library makes a surface by the extension of its platform.
    static const char *const of_surfaces[] = {"VK_KHR_surface",       "VK_KHR_xlib_surface",  "VK_KHR_xcb_surface",  "VK_KHR_wayland_surface",
                                              "VK_KHR_win32_surface", "VK_EXT_metal_surface", "VK_MVK_macos_surface"};
    enum { NUM_OF_SURFACES = sizeof of_surfaces / sizeof of_surfaces[0] };
    const char *layers[1], *extensions[4 + NUM_OF_SURFACES];
    uint32_t num_layers = 0, num_extensions = 0, flags = 0;
    VsApplicationInfo app = {.sType = VS_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "pumice", .pEngineName = "pumice",
                             .apiVersion = VS_API_VERSION_1_3};
    VsDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VS_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VS_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VS_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VS_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT | VS_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VS_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = (void *)on_message,
        .pUserData = (void *)message_id,
    };
    uint32_t enable[] = {VS_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    VsValidationFeaturesEXT features = {.sType = VS_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT, .pNext = &messenger,
                                        .enabledValidationFeatureCount = 1, .pEnabledValidationFeatures = enable};
    // Newer layers check shader accesses only if asked to; the layer of the 1.3 series always does.
    uint32_t on = 1;
    VsLayerSettingEXT setting = {validation_layer, "syncval_shader_accesses_heuristic", VS_LAYER_SETTING_TYPE_BOOL32_EXT, 1, &on};
    VsLayerSettingsCreateInfoEXT settings = {.sType = VS_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT, .pNext = &features,
                                             .settingCount = 1, .pSettings = &setting};
    VsInstanceCreateInfo info = {.sType = VS_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &app};
    if (validation) {
        if (!has_layer(validation_layer)) return VS_ERROR_LAYER_NOT_PRESENT;
        if (!has_instance_extension(validation_layer, "VK_EXT_validation_features")) return VS_ERROR_EXTENSION_NOT_PRESENT;
        layers[num_layers++] = validation_layer;
        extensions[num_extensions++] = "VK_EXT_debug_utils";
        extensions[num_extensions++] = "VK_EXT_validation_features";
        info.pNext = &features;
        if (has_instance_extension(validation_layer, "VK_EXT_layer_settings")) {
            extensions[num_extensions++] = "VK_EXT_layer_settings";
            info.pNext = &settings;
        }
    }
    surfaces = surfaces && has_instance_extension(NULL, of_surfaces[0]);
    for (int i = 0; surfaces && i < NUM_OF_SURFACES; i++)
        if (has_instance_extension(NULL, of_surfaces[i])) extensions[num_extensions++] = of_surfaces[i];
    if (has_instance_extension(NULL, "VK_KHR_portability_enumeration")) {
        extensions[num_extensions++] = "VK_KHR_portability_enumeration";
        flags |= VS_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
    }
    info.flags = flags;
    info.enabledLayerCount = num_layers;
    info.ppEnabledLayerNames = layers;
    info.enabledExtensionCount = num_extensions;
    info.ppEnabledExtensionNames = extensions;

    vs_instance *in = calloc(1, sizeof *in);
    if (!in) return VS_ERROR_OUT_OF_HOST_MEMORY;
    int32_t r = create(&info, NULL, &in->handle);
    if (r != VS_SUCCESS) {
        free(in);
        return r;
    }
    LOAD(GetDeviceProcAddr);
    LOAD(DestroyInstance);
    LOAD(EnumeratePhysicalDevices);
    LOAD(EnumerateDeviceExtensionProperties);
    LOAD(GetPhysicalDeviceProperties);
    LOAD(GetPhysicalDeviceProperties2);
    LOAD(GetPhysicalDeviceFeatures2);
    LOAD(GetPhysicalDeviceMemoryProperties);
    LOAD(GetPhysicalDeviceMemoryProperties2);
    LOAD(GetPhysicalDeviceQueueFamilyProperties);
    LOAD(GetPhysicalDeviceCooperativeMatrixPropertiesKHR);
    LOAD(GetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV);
    LOAD(CreateDevice);
    LOAD(CreateDebugUtilsMessengerEXT);
    LOAD(DestroyDebugUtilsMessengerEXT);
    in->surfaces = surfaces;
    if (surfaces) {
        LOAD(DestroySurfaceKHR);
        LOAD(GetPhysicalDeviceSurfaceSupportKHR);
        LOAD(GetPhysicalDeviceSurfaceCapabilitiesKHR);
        LOAD(GetPhysicalDeviceSurfaceFormatsKHR);
        LOAD(GetPhysicalDeviceSurfacePresentModesKHR);
    }
    if (validation && in->CreateDebugUtilsMessengerEXT) {
        messenger.pNext = NULL;
        r = in->CreateDebugUtilsMessengerEXT(in->handle, &messenger, NULL, &in->messenger);
        if (r != VS_SUCCESS) {
            vs_instance_destroy(in);
            return r;
        }
    }
    *out = in;
    return VS_SUCCESS;
}

void vs_instance_destroy(vs_instance *in) {
    if (in->messenger) in->DestroyDebugUtilsMessengerEXT(in->handle, in->messenger, NULL);
    in->DestroyInstance(in->handle, NULL);
    free(in);
}

void *vs_instance_handle(vs_instance *in) { return in->handle; }

int32_t vs_instance_devices(vs_instance *in, uint32_t *count, uint64_t *out) {
    void *list[64];
    uint32_t n = *count < 64 ? *count : 64;
    int32_t r = in->EnumeratePhysicalDevices(in->handle, &n, list);
    if (r < 0) return r;
    for (uint32_t i = 0; i < n; i++) out[i] = (uint64_t)(uintptr_t)list[i];
    *count = n;
    return VS_SUCCESS;
}
