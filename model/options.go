package model

import (
	"fmt"
	"runtime"

	"github.com/rs/zerolog"

	"pumice/internal/dtype"
)

// Options configure Load. The zero value is the default.
type Options struct {
	Context  int                     // most positions of a sequence; 0 means MaxPositionEmbeddings, at most DefaultContext
	DType    dtype.DType             // type to convert matrices to (see DType.ForRow); Invalid keeps theirs
	KVType   dtype.DType             // one of kernels.CacheTypes; Invalid means F16
	Chunk    int                     // most tokens of a prompt that are evaluated together; 0 means DefaultChunk; an encoder's is Context
	LoRA     []LoRA                  // adapters, added to the matrices in this order
	Taps     bool                    // record intermediate results that Plan.Tap reads; slower, for tests
	Workers  int                     // goroutines that convert weights; 0 means one for each processor, 2 to 16
	Progress func(done, total int64) // called with bytes of the matrices, one call at a time; may be nil
	Logger   zerolog.Logger

	// CacheBytes is the KV cache of all sequences together, at least what one takes. 0 stands for eight sequences of the
	// whole context, or as many as fit half of the memory that the device has left beside weights and activations.
	CacheBytes int64

	// HostBytes is host memory for pages of the KV cache that have no room on the device and no sequence uses.
	HostBytes int64

	pages int // of the KV cache; 0: not known yet
}

// Defaults of Options: positions of the KV cache, and tokens of a prompt evaluated together.
const (
	DefaultContext = 4096
	DefaultChunk   = 512
)

// normalise fills in the defaults that depend on the configuration.
func (o *Options) normalise(cfg *Config) error {
	if o.Context == 0 {
		o.Context = min(cfg.MaxPositionEmbeddings, DefaultContext)
	}
	if o.Context < 1 || o.Context > 1<<24 {
		return fmt.Errorf("model: a context of %d positions; 1 to %d are possible", o.Context, 1<<24)
	}
	if o.Context > cfg.MaxPositionEmbeddings && cfg.LearnedPositions {
		o.Logger.Warn().Int("context", o.Context).Int("trained", cfg.MaxPositionEmbeddings).Msg("the context is cut to the positions that the model has")
		o.Context = cfg.MaxPositionEmbeddings
	}
	if o.Context > cfg.MaxPositionEmbeddings {
		o.Logger.Warn().Int("context", o.Context).Int("trained", cfg.MaxPositionEmbeddings).Msg("the context is longer than the model was trained for")
	}
	if o.KVType == dtype.Invalid {
		o.KVType = dtype.F16
	}
	if o.Chunk == 0 {
		o.Chunk = DefaultChunk
	}
	if o.Chunk < 1 {
		return fmt.Errorf("model: a chunk of %d tokens", o.Chunk)
	}
	if o.Chunk = min(o.Chunk, o.Context); cfg.Encoder { // the keys of a whole text come before its first query
		o.Chunk = o.Context
	}
	if o.CacheBytes < 0 || o.HostBytes < 0 {
		return fmt.Errorf("model: a KV cache of %d bytes, and %d in host memory", o.CacheBytes, o.HostBytes)
	}
	if o.Workers == 0 {
		o.Workers = min(max(2, runtime.GOMAXPROCS(0)), 16)
	}
	return nil
}
