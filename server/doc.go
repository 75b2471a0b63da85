// Package server offers engines over HTTP, by the protocols that clients of language models speak: OpenAI's and Anthropic's
// APIs, and what programs that host llama.cpp's llama-server ask of it.
//
// A Server has models by name. An answer is a Session of the model's Engine, so that requests share its steps and its cache;
// one whose client is gone is cancelled. What a request asks for and pumice can't do is an error that says so, and never an
// answer to something else; fields that no client needs are ignored.
//
// Requests of the three protocols of chats become a conversation, whose answers are read as blocks of reasoning, content and
// calls; a protocol writes the blocks, at once or as a stream. A constraint holds an answer to a grammar.
package server
