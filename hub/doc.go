// Package hub fetches models from the Hugging Face Hub, or a server like it, into the Hub's cache, where package store and
// other programs find them. It is the only package that opens connections, and it does so only in Client.Pull.
//
// The server and what stands between are strangers: names are checked before they become paths, every content is compared
// with the hash that the repository gives before it gets its name, and the token goes to the Hub's own host alone.
package hub
