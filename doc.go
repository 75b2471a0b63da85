// Package pumice runs large language models through Vulkan.
//
// Open loads a model and returns an Engine, which holds the weights and the KV cache in device memory. A Session is one
// conversation with it: Generate continues a list of token ids, and evaluates only the tokens that the cache doesn't
// hold yet. Start takes the same as a Request and returns a Generation, which gives one token at a time. An Engine has as
// many sessions as one likes: those at work share its steps, and all share its cache. The Engine's Tokenizer and
// ChatFormat turn text and messages into token ids.
//
// A Model is what a model is on disk. OpenModel needs no device: it reads the configuration, and the tokenizer when that
// is asked for. CheckMemory computes the memory that the model would take, and Load returns an Engine. Open is all this
// in one.
//
// The function Devices lists the devices that a model can run on. A Device is one of these, open. Open opens what an
// Engine needs, and the Engine closes it. With OpenDevice and Options.On several Engines are on one Device, such as a
// model and one that guesses its tokens: their steps take turns. A Device also checks and measures its kernels (Verify,
// Tune).
//
// The package knows nothing of terminals, files of results or servers. It logs only to the Logger it is given, and
// fetches nothing from a network.
//
// # What is API
//
// The API is what this package and the packages chat, sample and tokenizer export. Types and errors of lower packages that
// belong to it have names here, such as Config and ErrNoDevice; what else lower packages export may change without
// notice. Options.Logger is a zerolog.Logger, of github.com/rs/zerolog.
package pumice
