// pipeline.c: one compute pipeline with its layouts, made or unwound as a whole.

#include "shim_internal.h"

#include <stdlib.h>
#include <string.h>

static int32_t create_layouts(vs_device *d, const vs_pipeline_config *c, vs_pipeline *out, const char **failed_call) {
    VsDescriptorSetLayoutBinding bindings[VS_MAX_BINDINGS];
    memset(bindings, 0, sizeof bindings);
    for (uint32_t i = 0; i < c->num_bindings; i++) {
        bindings[i].binding = i;
        bindings[i].descriptorType = c->types[i];
        bindings[i].descriptorCount = 1;
        bindings[i].stageFlags = VS_SHADER_STAGE_COMPUTE_BIT;
    }
    VsDescriptorSetLayoutCreateInfo set = {.sType = VS_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = c->num_bindings,
                                           .pBindings = bindings};
    *failed_call = "vkCreateDescriptorSetLayout";
    int32_t r = d->CreateDescriptorSetLayout(d->handle, &set, NULL, &out->set_layout);
    if (r != VS_SUCCESS) return r;
    VsPushConstantRange push = {.stageFlags = VS_SHADER_STAGE_COMPUTE_BIT, .size = c->push_bytes};
    VsPipelineLayoutCreateInfo layout = {.sType = VS_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1,
                                         .pSetLayouts = &out->set_layout, .pushConstantRangeCount = c->push_bytes ? 1 : 0,
                                         .pPushConstantRanges = &push};
    *failed_call = "vkCreatePipelineLayout";
    return d->CreatePipelineLayout(d->handle, &layout, NULL, &out->layout);
}

static int32_t create_pipeline(vs_device *d, uint64_t cache, uint64_t module, const vs_pipeline_config *c, vs_pipeline *out) {
    VsSpecializationMapEntry entries[VS_MAX_SPEC];
    for (uint32_t i = 0; i < c->num_spec; i++) entries[i] = (VsSpecializationMapEntry){i, 4 * i, 4};
    VsSpecializationInfo spec = {.mapEntryCount = c->num_spec, .pMapEntries = entries, .dataSize = 4 * (size_t)c->num_spec,
                                 .pData = c->spec};
    VsPipelineShaderStageRequiredSubgroupSizeCreateInfo size = {
        .sType = VS_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO, .requiredSubgroupSize = c->subgroup_size};
    uint32_t capture = c->capture ? VS_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR | VS_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR : 0;
    VsComputePipelineCreateInfo info = {
        .sType = VS_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = capture | (c->dispatch_base ? VS_PIPELINE_CREATE_DISPATCH_BASE_BIT : 0),
        .stage = {.sType = VS_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = c->subgroup_size ? &size : NULL,
                  .flags = c->full_subgroups ? VS_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                  .stage = VS_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = c->num_spec ? &spec : NULL},
        .layout = out->layout,
        .basePipelineIndex = -1,
    };
    return d->CreateComputePipelines(d->handle, cache, 1, &info, NULL, &out->pipeline);
}

int32_t vs_pipeline_create(vs_device *d, uint64_t cache, const void *spirv, size_t size, const vs_pipeline_config *c, vs_pipeline *out,
                           const char **failed_call) {
    memset(out, 0, sizeof *out);
    int32_t r = create_layouts(d, c, out, failed_call);
    if (r == VS_SUCCESS) {
        // The words are copied because Go's bytes need not be aligned to four.
        uint32_t *words = malloc(size);
        uint64_t module = 0;
        *failed_call = "vkCreateShaderModule";
        r = VS_ERROR_OUT_OF_HOST_MEMORY;
        if (words) {
            memcpy(words, spirv, size);
            VsShaderModuleCreateInfo info = {.sType = VS_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = size, .pCode = words};
            r = d->CreateShaderModule(d->handle, &info, NULL, &module);
        }
        if (r == VS_SUCCESS) {
            *failed_call = "vkCreateComputePipelines";
            r = create_pipeline(d, cache, module, c, out);
            d->DestroyShaderModule(d->handle, module, NULL);
        }
        free(words);
    }
    if (r != VS_SUCCESS) {
        if (out->layout) d->DestroyPipelineLayout(d->handle, out->layout, NULL);
        if (out->set_layout) d->DestroyDescriptorSetLayout(d->handle, out->set_layout, NULL);
        memset(out, 0, sizeof *out);
    }
    return r;
}

// A compute pipeline has one executable.
static VsPipelineExecutableInfoKHR executable(uint64_t pipeline) {
    return (VsPipelineExecutableInfoKHR){.sType = VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline};
}

int32_t vs_pipeline_subgroup(vs_device *d, uint64_t pipeline, uint32_t *lanes) {
    VsPipelineInfoKHR info = {.sType = VS_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
    VsPipelineExecutablePropertiesKHR properties = {.sType = VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    uint32_t count = 1;
    int32_t r = d->GetPipelineExecutablePropertiesKHR(d->handle, &info, &count, &properties);
    *lanes = properties.subgroupSize;
    return r == VS_INCOMPLETE ? VS_SUCCESS : r;
}

int32_t vs_pipeline_statistics(vs_device *d, uint64_t pipeline, uint32_t *count, vs_statistic out[VS_MAX_STATISTICS]) {
    VsPipelineExecutableInfoKHR info = executable(pipeline);
    VsPipelineExecutableStatisticKHR list[VS_MAX_STATISTICS];
    memset(list, 0, sizeof list);
    for (int i = 0; i < VS_MAX_STATISTICS; i++) list[i].sType = VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    *count = VS_MAX_STATISTICS;
    int32_t r = d->GetPipelineExecutableStatisticsKHR(d->handle, &info, count, list);
    if (r != VS_SUCCESS) return r;
    for (uint32_t i = 0; i < *count; i++) {
        memcpy(out[i].name, list[i].name, sizeof out[i].name);
        switch (list[i].format) {
        case VS_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR: memcpy(&out[i].value, &list[i].value, 8); break;
        case VS_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: out[i].value = (double)(int64_t)list[i].value; break;
        default: out[i].value = (double)list[i].value;
        }
    }
    return r;
}

int32_t vs_pipeline_texts(vs_device *d, uint64_t pipeline, uint32_t *count, vs_text out[VS_MAX_TEXTS], char *bytes) {
    VsPipelineExecutableInfoKHR info = executable(pipeline);
    VsPipelineExecutableInternalRepresentationKHR list[VS_MAX_TEXTS];
    memset(list, 0, sizeof list);
    for (int i = 0; i < VS_MAX_TEXTS; i++) {
        list[i].sType = VS_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR;
        if (bytes) {
            list[i].dataSize = out[i].size;
            list[i].pData = bytes;
            bytes += out[i].size;
        }
    }
    *count = VS_MAX_TEXTS;
    int32_t r = d->GetPipelineExecutableInternalRepresentationsKHR(d->handle, &info, count, list);
    if (r != VS_SUCCESS && r != VS_INCOMPLETE) return r; // Mesa's ANV says that texts are cut which have just the size it asked for
    for (uint32_t i = 0; i < *count; i++) {
        memcpy(out[i].name, list[i].name, sizeof out[i].name);
        out[i].size = list[i].dataSize;
    }
    return VS_SUCCESS;
}
