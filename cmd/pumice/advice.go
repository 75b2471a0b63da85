package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"pumice"
	"pumice/chat"
	"pumice/hub"
	"pumice/sample"
)

// flagOf is the flag that sets a field of pumice.Options, pumice.GenerateOptions, pumice.EmbedOptions or sample.Params.
var flagOf = map[string]string{
	"Device": "--device", "Devices": "--devices", "Context": "--context", "DType": "--dtype", "KVType": "--kv-type",
	"KVMemory": "--kv-memory", "KVHost": "--kv-host", "KVDisk": "--kv-disk", "KVDir": "--cache-dir",
	"LoRA": "--lora", "KernelPath": "--kernel-path", "ChatTemplate": "--chat-template", "CacheDir": "--cache-dir",
	"Validation": "--validation",

	"Pooling": "--pooling", "Dimensions": "--dimensions",

	"MaxTokens": "-n", "Stop": "--stop", "IgnoreEOS": "--ignore-eos", "Pipeline": "--pipeline",
	"TopLogProbs": "--logprobs", "DraftTokens": "--draft-tokens",

	"Temperature": "--temp", "TopK": "--top-k", "TopP": "--top-p", "MinP": "--min-p", "Seed": "--seed",
	"RepeatPenalty": "--repeat-penalty", "PresencePenalty": "--presence-penalty",
	"FrequencyPenalty": "--frequency-penalty",
}

// spelt returns the text of an error in the words of the command line: flags take the place of option fields, and what
// would help, a flag or a command, is added.
func spelt(err error) string {
	text := err.Error()
	var option *pumice.OptionError
	var param *sample.ParamError
	var prompt *pumice.PromptError
	var fit *pumice.FitError
	var cache *pumice.CacheError
	var long *chat.TooLongError
	var absent *pumice.ModelError
	var noFormat *chat.NoFormatError
	var refused *hub.StatusError
	switch {
	case errors.As(err, &option):
		if flag := flagOf[option.Field]; flag != "" {
			flagged := fmt.Sprintf("%s %q: want %s", flag, option.Value, option.Want)
			return strings.Replace(text, option.Error(), flagged, 1)
		}
	case errors.As(err, &param):
		if flag := flagOf[param.Field]; flag != "" {
			flagged := fmt.Sprintf("%s %g: want %s", flag, param.Value, param.Want)
			return strings.Replace(text, param.Error(), flagged, 1)
		}
	case errors.As(err, &prompt):
		return text + ": shorten it, or ask for a longer one with --context"
	case errors.As(err, &long):
		return text + ", which leaves room for the answer in the context: shorten it, or ask for a longer one with --context"
	case errors.As(err, &cache):
		return text + ": ask for more with --kv-memory, or for less with --context"
	case errors.As(err, &fit):
		return text + "; " + smaller(fit.Fits)
	case errors.As(err, &absent) && absent.Hub:
		return text + ": fetch it with `pumice pull " + absent.Model + "`"
	case errors.As(err, &refused) && (refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden):
		return text + ": there is no such model, or it needs a token (HF_TOKEN) of an account that has accepted its terms"
	case errors.As(err, &noFormat):
		return text + ": choose a format with --chat-template, a Jinja file or one of " +
			strings.Join(chat.Names(), ", ")
	}
	return text
}

// smaller says which flags would make a model fit.
func smaller(s pumice.Smaller) string {
	var flags []string
	if s.Context > 0 {
		flags = append(flags, fmt.Sprintf("--context %d", s.Context))
	}
	if s.KVType != "" {
		flags = append(flags, "--kv-type "+strings.ToLower(s.KVType))
	}
	if s.DType != "" {
		flags = append(flags, "--dtype "+strings.ToLower(s.DType))
	}
	if flags == nil {
		return "no smaller type or context would fit"
	}
	return "would fit: " + strings.Join(flags, ", or ")
}
