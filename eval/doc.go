// Package eval scores models on multiple-choice benchmarks (MMLU, C-Eval, AGIEval, GAOKAO-Bench, GAOKAO-English) and measures
// perplexity.
//
// A Task holds the questions of one subject or file and the examples shown before them, which Data reads from the
// files that the benchmarks' authors publish. A Plan holds the prompts of many tasks as token ids. Run scores a plan
// on one or several engines by the logits of the choices' letters, and keeps each answer in a journal, so that an
// evaluation that was killed continues where it stopped. Results are averages over the answers, written in the formats
// of lm-evaluation-harness and of the XVERSE-7B-Chat model card.
//
// The package fetches no data and asks no model to write text.
package eval
