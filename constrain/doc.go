// Package constrain turns a grammar into masks: which tokens of a vocabulary may follow a text so that all of it stays within
// the grammar. A grammar is a JSON Schema, a grammar in GBNF, or a regular expression.
//
// A Vocabulary is the tokens of a model as bytes. A Grammar is compiled once for a Vocabulary and shared. A Matcher follows one
// text, and implements pumice's Constraint. The package knows nothing of models or devices, and draws nothing itself.
//
// # How it works
//
// All front ends make the same thing: rules whose bodies are regular expressions over bytes, which also have intersection,
// complement and counted repetition, and may refer to rules. Intersection and complement are what JSON Schema asks for (a
// pattern and a length; a name that is not among the known ones), and derivatives make automata of them as easily as of the
// rest: the derivative of an expression by a byte is what may follow that byte, so expressions are the states of an automaton,
// and are found only when a text reaches them (Brzozowski 1964; Owens, Reppy and Turon 2009, "Regular-expression derivatives
// re-examined"; llguidance's derivre uses them for lexemes). A counted repetition is a number in a state and needs no copies,
// and the members of an object in any order are a state for each set of properties that a text has seen.
//
// A reading of a text is an expression, and a stack of what follows in the rules around it. All readings are followed at once;
// stacks share what they have in common. A rule without a text is removed before use, and so is an intersection without one:
// whatever is reached has a way to end. Rules that start with themselves are refused.
//
// The mask of an expression is found by walking a trie of the vocabulary with an unknown stack. It holds wherever the expression
// is met. Tokens that leave the expression, such as a quote with a comma, are kept as a small trie of what follows in them,
// which is walked with the stack at hand (Dong et al. 2024, "XGrammar", arXiv:2411.15100). Where an expression allows some kinds
// of characters freely, as the inside of a string does, tokens of these kinds are not walked: they are a mask of the Vocabulary
// (llguidance slices a vocabulary in this way).
//
// The files are strangers': sizes, depth, and the number of expressions, rules and readings are bounded, and exceeding a bound
// is a LimitError.
package constrain
