package model

// xverse is XVERSE-7B, -13B and -65B and their Chat versions: Llama's decoder, untied, with
// as many key-value heads as heads and no rope scaling. Old checkpoints carry inv_freq
// tensors, which nothing asks for.
var xverse = Family{
	Name:          "xverse",
	Architectures: []string{"XverseForCausalLM"},
	GGUF:          []string{"xverse"},
	Names:         huggingFaceNames,
	PermutedQK:    true,
	ReadHF:        readLlama,
	ReadGGUF:      readLlamaGGUF,
	WriteGGUF:     writeLlamaGGUF,
}
