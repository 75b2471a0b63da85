// Package pumice runs large language models through Vulkan.
//
// Open loads a model and gives an Engine, which holds the weights and the KV cache in device memory. A Session is one
// conversation with it: Generate continues a list of token ids, and evaluates only what the cache doesn't hold yet. The
// Engine's Tokenizer and ChatFormat turn text and messages into token ids. Devices lists what a model can run on.
//
// The package decides nothing about terminals, files of results or servers, writes no logs but to the Logger it is given,
// and fetches nothing from a network.
package pumice
