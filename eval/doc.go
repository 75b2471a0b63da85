// Package eval scores models on multiple-choice benchmarks (MMLU, C-Eval, AGIEval, GAOKAO-Bench, GAOKAO-English) and measures
// perplexity.
//
// A Task is the questions of one subject or file with the examples shown before them, read by Data from the files as their
// authors publish them. A Plan is the prompts of many tasks as token ids. Run scores a plan on one or several engines by the
// logits of the choices' letters, and keeps each answer in a journal, so that a run that was killed goes on where it stopped.
// Results are the averages over the answers, written in the forms of lm-evaluation-harness and of the XVERSE-7B-Chat model card.
//
// The package fetches no data and asks no model to write text.
package eval
