// commands.c: command pools and buffers, barriers, events, copies, queries, submission.

#include "shim_internal.h"

static void *command(uint64_t cmd) { return (void *)(uintptr_t)cmd; }

int32_t vs_command_pool_create(vs_device *d, uint32_t family, uint64_t *pool) {
    VsCommandPoolCreateInfo info = {.sType = VS_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VS_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT, .queueFamilyIndex = family};
    return d->CreateCommandPool(d->handle, &info, NULL, pool);
}

int32_t vs_command_buffer_allocate(vs_device *d, uint64_t pool, uint64_t *cmd) {
    VsCommandBufferAllocateInfo info = {.sType = VS_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = pool,
                                        .level = VS_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1};
    void *handle = NULL;
    int32_t r = d->AllocateCommandBuffers(d->handle, &info, &handle);
    *cmd = (uint64_t)(uintptr_t)handle;
    return r;
}

int32_t vs_command_begin(vs_device *d, uint64_t cmd, int repeat) {
    VsCommandBufferBeginInfo info = {.sType = VS_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = repeat ? VS_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT : 0};
    return d->BeginCommandBuffer(command(cmd), &info);
}

void vs_cmd_bind_set(vs_device *d, uint64_t cmd, uint64_t layout, uint64_t set) {
    d->CmdBindDescriptorSets(command(cmd), VS_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0, NULL);
}

int32_t vs_event_create(vs_device *d, uint64_t *event) {
    VsEventCreateInfo info = {.sType = VS_STRUCTURE_TYPE_EVENT_CREATE_INFO};
    return d->CreateEvent(d->handle, &info, NULL, event);
}

// barrier records a barrier, or the second half of one whose first half is the setting of event.
static void barrier(vs_device *d, uint64_t cmd, uint64_t event, uint32_t src_stages, uint32_t dst_stages, uint32_t memories,
                    const VsMemoryBarrier *memory, uint32_t buffers, const VsBufferMemoryBarrier *list) {
    if (event)
        d->CmdWaitEvents(command(cmd), 1, &event, src_stages, dst_stages, memories, memory, buffers, list, 0, NULL);
    else
        d->CmdPipelineBarrier(command(cmd), src_stages, dst_stages, 0, memories, memory, buffers, list, 0, NULL);
}

void vs_cmd_barrier(vs_device *d, uint64_t cmd, uint64_t event, uint32_t src_stages, uint32_t dst_stages, uint32_t src_access,
                    uint32_t dst_access) {
    VsMemoryBarrier b = {.sType = VS_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = src_access, .dstAccessMask = dst_access};
    barrier(d, cmd, event, src_stages, dst_stages, 1, &b, 0, NULL);
}

void vs_cmd_buffer_barrier(vs_device *d, uint64_t cmd, uint64_t event, uint32_t src_stages, uint32_t dst_stages, uint32_t src_access,
                           uint32_t dst_access, uint32_t count, const uint64_t *buffers) {
    VsBufferMemoryBarrier list[VS_MAX_BINDINGS];
    for (uint32_t i = 0; i < count; i++)
        list[i] = (VsBufferMemoryBarrier){
            .sType = VS_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
            .srcAccessMask = src_access,
            .dstAccessMask = dst_access,
            .srcQueueFamilyIndex = UINT32_MAX, // not a transfer between queues
            .dstQueueFamilyIndex = UINT32_MAX,
            .buffer = buffers[i],
            .size = UINT64_MAX, // to its end
        };
    barrier(d, cmd, event, src_stages, dst_stages, 0, NULL, count, list);
}

void vs_cmd_dispatch_base(vs_device *d, uint64_t cmd, const uint32_t base[3], const uint32_t n[3]) {
    d->CmdDispatchBase(command(cmd), base[0], base[1], base[2], n[0], n[1], n[2]);
}

void vs_cmd_copy(vs_device *d, uint64_t cmd, uint64_t src, uint64_t src_offset, uint64_t dst, uint64_t dst_offset, uint64_t size) {
    VsBufferCopy region = {src_offset, dst_offset, size};
    d->CmdCopyBuffer(command(cmd), src, dst, 1, &region);
}

int32_t vs_query_pool_create(vs_device *d, uint32_t count, uint64_t *pool) {
    VsQueryPoolCreateInfo info = {.sType = VS_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, .queryType = VS_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = count};
    return d->CreateQueryPool(d->handle, &info, NULL, pool);
}

int32_t vs_submit(vs_device *d, uint64_t queue, uint32_t n, const uint64_t *cmds, uint64_t wait, uint64_t signal, uint64_t fence) {
    if (d->fail_next) {
        int32_t r = d->fail_next;
        d->fail_next = 0;
        return r;
    }
    if (fence) {
        int32_t r = d->ResetFences(d->handle, 1, &fence);
        if (r != VS_SUCCESS) return r;
    }
    _Static_assert(sizeof(void *) == sizeof *cmds, "a handle is a pointer");
    uint32_t stages = 0x10000; // VK_PIPELINE_STAGE_ALL_COMMANDS_BIT
    VsSubmitInfo info = {.sType = VS_STRUCTURE_TYPE_SUBMIT_INFO, .waitSemaphoreCount = wait ? 1 : 0, .pWaitSemaphores = &wait,
                         .pWaitDstStageMask = &stages, .commandBufferCount = n, .pCommandBuffers = (void *const *)cmds,
                         .signalSemaphoreCount = signal ? 1 : 0, .pSignalSemaphores = &signal};
    return d->QueueSubmit(command(queue), 1, &info, fence);
}
