// Package pumice runs large language models on any Vulkan GPU.
package pumice
