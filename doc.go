// Package pumice runs large language models through Vulkan.
//
// Open loads a model and returns an Engine, which holds the weights and the KV cache in device memory. A Session is one
// conversation with it: Generate continues a list of token ids, and evaluates only the tokens that the cache doesn't
// hold yet. An Engine has as many sessions as one likes: those at work share its steps, and all share its cache. The
// Engine's Tokenizer and ChatFormat turn text and messages into token ids. The function Devices lists the devices that a
// model can run on.
//
// The package knows nothing of terminals, files of results or servers. It logs only to the Logger it is given, and
// fetches nothing from a network.
package pumice
