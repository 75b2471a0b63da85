package model

// A layerRange is the consecutive layers of a model that one device has: first, and those after it up to but not end.
type layerRange struct{ first, end int }

// allLayers is the range of every layer.
func (c *Config) allLayers() layerRange { return layerRange{0, c.NumHiddenLayers} }

// hasEmbedding says whether the range begins with the embedding; another one is given the residual stream.
func (r layerRange) hasEmbedding() bool { return r.first == 0 }

// hasHead says whether the range ends with the final norm and the head; another one leaves the residual stream.
func (r layerRange) hasHead(c *Config) bool { return r.end == c.NumHiddenLayers }

// count is the number of layers.
func (r layerRange) count() int { return r.end - r.first }

// progress turns the progress of loading r into that of all n layers, which are loaded in order: every layer counts as
// much as one of r's.
func (r layerRange) progress(report func(done, total int64), n int) func(done, total int64) {
	return func(done, total int64) {
		all := total * int64(n) / int64(r.count())
		report(all*int64(r.first)/int64(n)+done, all)
	}
}
