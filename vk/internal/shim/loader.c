// loader.c: opens the system's Vulkan loader by its run-time name; the development symlink (libvulkan.so) is not needed.

#include "shim_internal.h"

#if defined(_WIN32)
#include <windows.h>
static void *open_library(const char *name) { return (void *)LoadLibraryA(name); }
static void *find_symbol(void *lib, const char *name) { return (void *)GetProcAddress((HMODULE)lib, name); }
static const char *const names[] = {"vulkan-1.dll"};
#elif defined(__APPLE__)
#include <dlfcn.h>
static void *open_library(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
static void *find_symbol(void *lib, const char *name) { return dlsym(lib, name); }
static const char *const names[] = {"libvulkan.1.dylib", "libvulkan.dylib", "libMoltenVK.dylib", "/usr/local/lib/libvulkan.1.dylib",
                                    "/opt/homebrew/lib/libvulkan.1.dylib"};
#else
#include <dlfcn.h>
static void *open_library(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
static void *find_symbol(void *lib, const char *name) { return dlsym(lib, name); }
#if defined(__ANDROID__)
static const char *const names[] = {"libvulkan.so"};
#else
static const char *const names[] = {"libvulkan.so.1"};
#endif
#endif

PFN_getInstanceProcAddr vs_get_instance_proc_addr;

void *vs_load(void) {
    // The library stays open for the life of the process: function pointers of every instance lead into it.
    for (size_t i = 0; !vs_get_instance_proc_addr && i < sizeof names / sizeof names[0]; i++) {
        void *lib = open_library(names[i]);
        if (lib) vs_get_instance_proc_addr = (PFN_getInstanceProcAddr)find_symbol(lib, "vkGetInstanceProcAddr");
    }
    return (void *)vs_get_instance_proc_addr;
}
