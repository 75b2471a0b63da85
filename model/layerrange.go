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
