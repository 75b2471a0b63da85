package store

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChoose(t *testing.T) {
	sharded := "README.md .gitattributes config.json generation_config.json model.safetensors.index.json model-00001-of-00002.safetensors " +
		"model-00002-of-00002.safetensors pytorch_model.bin.index.json pytorch_model-00001-of-00001.bin tokenizer.json vocab.txt chat_template.jinja " +
		"consolidated.safetensors original/params.json onnx/model.onnx 1_Pooling/config.json"
	quantised := "README.md config.json a-Q4_K_M.gguf a-Q8_0.gguf a-UD-Q2_K_XL.gguf mmproj-F16.gguf a.imatrix.gguf BF16/a-BF16-00001-of-00002.gguf BF16/a-BF16-00002-of-00002.gguf"
	for _, c := range []struct{ name, names, file, files, models string }{
		{"safetensors before all else", sharded, "", "1_Pooling/config.json chat_template.jinja config.json generation_config.json model-00001-of-00002.safetensors " +
			"model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.json vocab.txt", "DIR"},
		{"one safetensors", "config.json model.safetensors extra.safetensors tokenizer.model", "", "config.json model.safetensors tokenizer.model", "DIR"},
		{"torch where there is nothing else", "config.json pytorch_model.bin training_args.bin tokenizer.model a.py", "", "config.json pytorch_model.bin tokenizer.model", "DIR"},
		{"torch in several files", "config.json pytorch_model.bin.index.json pytorch_model-00001-of-00001.bin", "", "config.json pytorch_model-00001-of-00001.bin pytorch_model.bin.index.json", "DIR"},
		{"an adapter", "adapter_config.json adapter_model.safetensors README.md", "", "adapter_config.json adapter_model.safetensors", "DIR"},
		{"the usual quantisation", quantised, "", "a-Q4_K_M.gguf", "a-Q4_K_M.gguf"},
		{"the only GGUF file", "README.md b.GGUF mmproj-b.gguf", "", "b.GGUF", "b.GGUF"},
		{"by name", quantised, "a-Q8_0.gguf", "a-Q8_0.gguf", "a-Q8_0.gguf"},
		{"by quantisation", quantised, "q8_0", "a-Q8_0.gguf", "a-Q8_0.gguf"},
		{"by the end of a quantisation", quantised, "Q2_K_XL", "a-UD-Q2_K_XL.gguf", "a-UD-Q2_K_XL.gguf"},
		{"split, by quantisation", quantised, "BF16", "BF16/a-BF16-00001-of-00002.gguf BF16/a-BF16-00002-of-00002.gguf", "BF16/a-BF16-00001-of-00002.gguf"},
		{"split, by the name of a part", quantised, "BF16/a-BF16-00002-of-00002.gguf", "BF16/a-BF16-00001-of-00002.gguf BF16/a-BF16-00002-of-00002.gguf", "BF16/a-BF16-00001-of-00002.gguf"},
		{"a projector, by name", quantised, "mmproj-F16.gguf", "mmproj-F16.gguf", "mmproj-F16.gguf"},
		{"by pattern", quantised, "*-Q[48]_*", "a-Q4_K_M.gguf a-Q8_0.gguf", "a-Q4_K_M.gguf a-Q8_0.gguf"},
		{"by pattern, with a folder", quantised, "BF16/*00001*", "BF16/a-BF16-00001-of-00002.gguf BF16/a-BF16-00002-of-00002.gguf", "BF16/a-BF16-00001-of-00002.gguf"},
		{"by pattern, no GGUF", sharded, "model*", "model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json onnx/model.onnx", "DIR"},
	} {
		got, err := Choose(strings.Fields(c.names), c.file)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if models := strings.Join(got.Models, " "); cmp.Diff(strings.Fields(c.files), got.Files) != "" || models != strings.TrimPrefix(c.models, "DIR") {
			t.Errorf("%s: %q, models %q", c.name, got.Files, models)
		}
	}
	for _, c := range []struct{ names, file, want string }{
		{"README.md", "", "no model.safetensors"},
		{"a-Q4_0.gguf a-Q8_0.gguf", "", "say which of 2 models: a-Q4_0.gguf, a-Q8_0.gguf"},
		{"a-Q4_0.gguf", "Q4_K_M", `no file "Q4_K_M"`},
		{"a-Q4_K_M.gguf a-UD-Q4_K_M.gguf", "Q4_K_M", "say which of 2"},
		{"a-Q4_K_M.gguf", "Q4_K", `no file "Q4_K"`},
		{"a-00001-of-00003.gguf a-00003-of-00003.gguf", "", `"a-00002-of-00003.gguf" is missing`},
		{"a-00002-of-00002.gguf", "a-00002-of-00002.gguf", `"a-00001-of-00002.gguf" is missing`},
		{"config.json model.safetensors.index.json model-00001-of-00002.safetensors", "", `"model-00002-of-00002.safetensors" is missing`},
		{"a-00001-of-99999.gguf", "", "more than 10000 files"},
		{"a.gguf", "*.bin", `no file matches "*.bin"`},
		{"a.gguf", "[", "not a pattern"},
		{"a.gguf", "(", `no file "("`},
		{"small-a.gguf", "small", `no file "small"`},
	} {
		if got, err := Choose(strings.Fields(c.names), c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q among %q: %+v, %v; want %q", c.file, c.names, got, err, c.want)
		}
	}
}
