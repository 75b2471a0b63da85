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
// The API is what this package and the packages chat, sample and tokenizer export. Exported declarations also name types of
// other packages, and these may change without notice until they have moved or gone:
//
//   - model.Config: Engine.Config, Model.Config
//   - model.MemoryPlan, model.Smaller: Engine.Memory, MemoryCheck
//   - model.Pooling: its name here is Pooling
//   - pipeline.Counters: Result, Metrics, Step, Embeddings
//   - pipeline.Timing: Engine.Profile
//   - kernels.Path, pipeline.Compile, verify.Result: Device.Verify
//   - pipeline.Measurement, pipeline.Product, pipeline.Tuning: Device.Tune
//   - zerolog.Logger: Options.Logger, of github.com/rs/zerolog
//
// So may the types of errors that Open and the methods of Session document and that are from vk, model and checkpoint.
package pumice
