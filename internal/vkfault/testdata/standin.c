// standin.c: a libvulkan.so.1 that forwards every call to the real loader, makes chosen calls fail or hang, and
// tracks the lifetimes of objects.
//
// PUMICE_VKFAULT lists faults as FUNCTION:N:WHAT, with commas between: the Nth call of the function, or with N+ every
// call from the Nth on, does WHAT:
//   a number  the call is not made and returns this VkResult
//   never     for vkWaitForFences: the time limit passes without the fence being signalled
//   late      the call is made 700 ms later
//   hang      the call never returns
// PUMICE_VKFAULT_AFTER, if set, is a file: calls are counted from the moment that it exists.
// PUMICE_VKFAULT_LOADER is the path of the real loader.
//
// A line on standard error that begins with "[vkfault]" reports an object that was destroyed twice, or not before its
// device, or while it might be in use: the program had not seen the end of all submitted work.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// The arguments of these functions, at most six, are integers or pointers, and are forwarded unchanged.
typedef int64_t (*function)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
typedef function (*get_proc)(void *, const char *);

// The kinds of objects: the function that creates them, the argument into which it puts the handle, and the function
// that destroys them.
#define KINDS(X)                                                                                                                \
    X(vkAllocateMemory, 3, vkFreeMemory) X(vkCreateBuffer, 3, vkDestroyBuffer) X(vkCreateBufferView, 3, vkDestroyBufferView)    \
    X(vkCreateFence, 3, vkDestroyFence) X(vkCreateSemaphore, 3, vkDestroySemaphore) X(vkCreateQueryPool, 3, vkDestroyQueryPool) \
    X(vkCreateCommandPool, 3, vkDestroyCommandPool) X(vkCreateDescriptorPool, 3, vkDestroyDescriptorPool)                       \
    X(vkCreateDescriptorSetLayout, 3, vkDestroyDescriptorSetLayout) X(vkCreatePipelineLayout, 3, vkDestroyPipelineLayout)       \
    X(vkCreateShaderModule, 3, vkDestroyShaderModule) X(vkCreatePipelineCache, 3, vkDestroyPipelineCache)                       \
    X(vkCreateComputePipelines, 5, vkDestroyPipeline)
// Functions without objects, which can only fail.
#define OTHERS(X)                                                                                                            \
    X(vkQueueSubmit) X(vkWaitForFences) X(vkResetFences) X(vkBindBufferMemory) X(vkMapMemory) X(vkAllocateDescriptorSets)    \
    X(vkAllocateCommandBuffers) X(vkBeginCommandBuffer) X(vkEndCommandBuffer) X(vkDestroyDevice) X(vkCreateDevice)           \
    X(vkCreateInstance) X(vkEnumeratePhysicalDevices) X(vkGetPipelineCacheData) X(vkGetQueryPoolResults)

enum {
#define X(make, at, destroy) MAKE_##make, DESTROY_##make,
    KINDS(X)
#undef X
#define X(name) OTHER_##name,
    OTHERS(X)
#undef X
    COUNT,
    FIRST_OTHER = OTHER_vkQueueSubmit // after an even number of creating and destroying functions
};

static const char *const names[COUNT] = {
#define X(make, at, destroy) #make, #destroy,
    KINDS(X)
#undef X
#define X(name) #name,
    OTHERS(X)
#undef X
};
static const int handle_at[COUNT] = {
#define X(make, at, destroy) at, 0,
    KINDS(X)
#undef X
};

// nap sleeps for so many nanoseconds, whatever signals come: Go's runtime sends its threads some.
static void nap(uint64_t ns) {
    struct timespec left = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

enum { NONE, RETURN, NEVER, LATE, HANG };
static struct {
    int at, onwards, what, result;
} faults[COUNT];
static function real[COUNT];
static int calls[COUNT];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct object {
    int kind; // index of the creating function; OTHER_vkQueueSubmit for running work, whose handle is its fence's
    uint64_t handle;
} objects[1 << 16];
static int num_objects;

static void add(int kind, uint64_t handle) {
    pthread_mutex_lock(&lock);
    if (num_objects == sizeof objects / sizeof objects[0]) abort();
    objects[num_objects++] = (struct object){kind, handle};
    pthread_mutex_unlock(&lock);
}

// take removes an object, and reports whether it existed.
static int take(int kind, uint64_t handle) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = num_objects - 1; i >= 0 && !found; i--) {
        if (objects[i].kind != kind || objects[i].handle != handle) continue;
        objects[i] = objects[--num_objects];
        found = 1;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static int living(int kind) {
    int n = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < num_objects; i++) n += objects[i].kind == kind;
    pthread_mutex_unlock(&lock);
    return n;
}

// destroyed records the end of an object. Submitted work may use any memory and pipeline, but only its own views,
// sets and pools, which can't be told from those of other work and so are not checked.
static void destroyed(int maker, const char *by, uint64_t handle) {
    if (handle == 0) return;
    if (!take(maker, handle)) fprintf(stderr, "[vkfault] %s of an object that does not exist\n", by);
    int shared = maker == MAKE_vkAllocateMemory || maker == MAKE_vkCreateBuffer || maker == MAKE_vkCreateComputePipelines;
    if ((shared && living(OTHER_vkQueueSubmit)) || (maker == MAKE_vkCreateFence && take(OTHER_vkQueueSubmit, handle)))
        fprintf(stderr, "[vkfault] %s while work runs\n", by);
}

static int counting(void) {
    static int begun;
    if (!begun) {
        const char *after = getenv("PUMICE_VKFAULT_AFTER");
        begun = !after || !access(after, F_OK);
    }
    return begun;
}

static int64_t call(int i, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    int n = counting() ? __sync_add_and_fetch(&calls[i], 1) : 0;
    if (faults[i].what && (n == faults[i].at || (faults[i].onwards && n > faults[i].at))) switch (faults[i].what) {
        case RETURN: return faults[i].result;
        case NEVER: nap(e < 1000000000 ? e : 1000000000); return 2; // VK_TIMEOUT
        case LATE: nap(700000000); break;
        case HANG: for (;;) pause();
        }
    if (i < FIRST_OTHER && i % 2) destroyed(i - 1, names[i], b);
    if (i == OTHER_vkDestroyDevice && living(OTHER_vkQueueSubmit)) fprintf(stderr, "[vkfault] vkDestroyDevice while work runs\n");
    if (i == OTHER_vkDestroyDevice)
        for (int k = 0; k < FIRST_OTHER; k += 2)
            if (living(k)) fprintf(stderr, "[vkfault] %d objects of %s are left\n", living(k), names[k]);
    int64_t r = real[i](a, b, c, d, e, f);
    if ((int32_t)r != 0) return r;
    if (i == OTHER_vkQueueSubmit && d) add(i, d);
    if (i == OTHER_vkWaitForFences)
        for (uint32_t k = 0; k < (uint32_t)b; k++) take(OTHER_vkQueueSubmit, ((uint64_t *)c)[k]);
    if (i < FIRST_OTHER && i % 2 == 0) add(i, *(uint64_t *)(handle_at[i] == 3 ? d : f));
    return r;
}

#define X(name) static int64_t my_##name(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) { return call(OTHER_##name, a, b, c, d, e, f); }
OTHERS(X)
#undef X
#define X(make, at, destroy)                                                                                                             \
    static int64_t my_##make(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) { return call(MAKE_##make, a, b, c, d, e, f); } \
    static int64_t my_##destroy(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) { return call(DESTROY_##make, a, b, c, d, e, f); }
KINDS(X)
#undef X
static const function mine[COUNT] = {
#define X(make, at, destroy) my_##make, my_##destroy,
    KINDS(X)
#undef X
#define X(name) my_##name,
    OTHERS(X)
#undef X
};

static void read_faults(void) {
    char *list = strdup(getenv("PUMICE_VKFAULT") ? getenv("PUMICE_VKFAULT") : "");
    for (char *s = strtok(list, ","); s; s = strtok(NULL, ",")) {
        char name[64], onwards[2] = "", what[16] = "";
        int at, i = 0;
        if (sscanf(s, "%63[^:]:%d%1[+]:%15s", name, &at, onwards, what) < 4 && sscanf(s, "%63[^:]:%d:%15s", name, &at, what) < 3) abort();
        while (i < COUNT && strcmp(names[i], name)) i++;
        if (i == COUNT) abort();
        faults[i].at = at;
        faults[i].onwards = onwards[0] == '+';
        faults[i].what = !strcmp(what, "never") ? NEVER : !strcmp(what, "late") ? LATE : !strcmp(what, "hang") ? HANG : RETURN;
        faults[i].result = atoi(what);
    }
    free(list);
}

static get_proc loader;

static function get_device_proc(void *device, const char *name) {
    static get_proc next;
    if (!next) next = (get_proc)dlsym(dlopen(getenv("PUMICE_VKFAULT_LOADER"), RTLD_NOW), "vkGetDeviceProcAddr");
    function f = next(device, name);
    for (int i = 0; f && i < COUNT; i++)
        if (!strcmp(names[i], name)) {
            real[i] = f; // programs under test use one device
            return mine[i];
        }
    return f;
}

function vkGetInstanceProcAddr(void *instance, const char *name) {
    if (!loader) {
        read_faults();
        void *lib = dlopen(getenv("PUMICE_VKFAULT_LOADER"), RTLD_NOW);
        if (!lib) return NULL;
        loader = (get_proc)dlsym(lib, "vkGetInstanceProcAddr");
    }
    if (!strcmp(name, "vkGetInstanceProcAddr")) return (function)vkGetInstanceProcAddr;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (function)get_device_proc;
    function f = loader(instance, name);
    for (int i = 0; f && i < COUNT; i++)
        if (!strcmp(names[i], name)) {
            if (!real[i]) real[i] = f;
            return mine[i];
        }
    return f;
}
