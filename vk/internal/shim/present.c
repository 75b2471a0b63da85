// present.c: surfaces of windows, and the images that they show.

#include "shim_internal.h"

int32_t vs_surface_query(vs_instance *in, uint64_t handle, uint64_t surface, uint32_t family, vs_surface_info *out) {
    void *physical = (void *)(uintptr_t)handle;
    if (!in->surfaces) return VS_ERROR_EXTENSION_NOT_PRESENT;
    int32_t r = in->GetPhysicalDeviceSurfaceSupportKHR(physical, family, surface, &out->supported);
    if (r != VS_SUCCESS || !out->supported) return r;
    VsSurfaceCapabilitiesKHR c = {0};
    if ((r = in->GetPhysicalDeviceSurfaceCapabilitiesKHR(physical, surface, &c)) != VS_SUCCESS) return r;
    out->min_images = c.minImageCount;
    out->max_images = c.maxImageCount;
    out->width = c.currentExtent.width;
    out->height = c.currentExtent.height;
    out->min_width = c.minImageExtent.width;
    out->min_height = c.minImageExtent.height;
    out->max_width = c.maxImageExtent.width;
    out->max_height = c.maxImageExtent.height;
    out->transform = c.currentTransform;
    out->alpha = c.supportedCompositeAlpha;
    out->usage = c.supportedUsageFlags;

    VsSurfaceFormatKHR formats[sizeof out->formats / sizeof out->formats[0]];
    uint32_t n = sizeof formats / sizeof formats[0];
    r = in->GetPhysicalDeviceSurfaceFormatsKHR(physical, surface, &n, formats);
    if (r != VS_SUCCESS && r != VS_INCOMPLETE) return r;
    for (uint32_t i = 0; i < n; i++)
        if (formats[i].colorSpace == VS_COLOR_SPACE_SRGB_NONLINEAR_KHR) out->formats[out->num_formats++] = formats[i].format;
    out->num_modes = sizeof out->modes / sizeof out->modes[0];
    r = in->GetPhysicalDeviceSurfacePresentModesKHR(physical, surface, &out->num_modes, out->modes);
    return r == VS_INCOMPLETE ? VS_SUCCESS : r;
}

void vs_surface_destroy(vs_instance *in, uint64_t surface) { in->DestroySurfaceKHR(in->handle, surface, NULL); }

int32_t vs_swapchain_create(vs_device *d, const vs_swapchain_config *c, uint64_t *swapchain) {
    if (!d->CreateSwapchainKHR) return VS_ERROR_EXTENSION_NOT_PRESENT;
    VsSwapchainCreateInfoKHR info = {.sType = VS_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR, .surface = c->surface,
                                     .minImageCount = c->images, .imageFormat = c->format,
                                     .imageColorSpace = VS_COLOR_SPACE_SRGB_NONLINEAR_KHR, .imageExtent = {c->width, c->height},
                                     .imageArrayLayers = 1, .imageUsage = VS_IMAGE_USAGE_TRANSFER_DST_BIT,
                                     .imageSharingMode = VS_SHARING_MODE_EXCLUSIVE, .preTransform = c->transform,
                                     .compositeAlpha = c->alpha, .presentMode = c->mode, .clipped = 1, .oldSwapchain = c->old};
    return d->CreateSwapchainKHR(d->handle, &info, NULL, swapchain);
}

int32_t vs_swapchain_images(vs_device *d, uint64_t swapchain, uint32_t *count, uint64_t *images) {
    return d->GetSwapchainImagesKHR(d->handle, swapchain, count, images);
}

void vs_swapchain_destroy(vs_device *d, uint64_t swapchain) { d->DestroySwapchainKHR(d->handle, swapchain, NULL); }

int32_t vs_swapchain_acquire(vs_device *d, uint64_t swapchain, uint64_t semaphore, uint32_t *index) {
    return d->AcquireNextImageKHR(d->handle, swapchain, 0, semaphore, 0, index);
}

int32_t vs_present(vs_device *d, uint64_t queue, uint64_t swapchain, uint32_t index, uint64_t wait) {
    VsPresentInfoKHR info = {.sType = VS_STRUCTURE_TYPE_PRESENT_INFO_KHR, .waitSemaphoreCount = 1, .pWaitSemaphores = &wait,
                             .swapchainCount = 1, .pSwapchains = &swapchain, .pImageIndices = &index};
    return d->QueuePresentKHR((void *)(uintptr_t)queue, &info);
}

void vs_cmd_show(vs_device *d, uint64_t cmd, uint64_t buffer, uint64_t offset, uint64_t image, uint32_t width, uint32_t height) {
    enum { UNDEFINED = 0, TRANSFER_DST = 7, PRESENT_SRC = 1000001002 }; // VkImageLayout
    const uint32_t transfer = 0x1000, bottom = 0x2000, write = 0x1000;  // stages, VK_ACCESS_TRANSFER_WRITE_BIT
    void *handle = (void *)(uintptr_t)cmd;
    VsImageMemoryBarrier b = {.sType = VS_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER, .dstAccessMask = write, .oldLayout = UNDEFINED,
                              .newLayout = TRANSFER_DST, .srcQueueFamilyIndex = VS_QUEUE_FAMILY_IGNORED,
                              .dstQueueFamilyIndex = VS_QUEUE_FAMILY_IGNORED, .image = image,
                              .subresourceRange = {VS_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1}};
    d->CmdPipelineBarrier(handle, transfer, transfer, 0, 0, NULL, 0, NULL, 1, &b);
    VsBufferImageCopy region = {.bufferOffset = offset, .imageSubresource = {VS_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
                                .imageExtent = {width, height, 1}};
    d->CmdCopyBufferToImage(handle, buffer, image, TRANSFER_DST, 1, &region);
    b.srcAccessMask = write; // the semaphore that presenting waits for makes it visible
    b.dstAccessMask = 0;
    b.oldLayout = TRANSFER_DST;
    b.newLayout = PRESENT_SRC;
    d->CmdPipelineBarrier(handle, transfer, bottom, 0, 0, NULL, 0, NULL, 1, &b);
}
