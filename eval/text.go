package eval

import (
	"regexp"
	"strings"
	"unicode"
)

// isSpace is Python's str.isspace, whose white space is Unicode's and the four separators U+001C to U+001F.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// trim is Python's str.strip, by which the prompts are defined.
func trim(s string) string { return strings.TrimFunc(s, isSpace) }

// letters name the choices.
const letters = "ABCDEFG"

// pythonSpace matches what \s matches in Python, any number of times.
const pythonSpace = `[\t-\r\x1c-\x20\x{85}\p{Z}]*`

// optionLabel matches the letter at the beginning of AGIEval's options, in various forms: "(A)", "（A）", "A．", " A. ".
var optionLabel = regexp.MustCompile(`^` + pythonSpace + `(?:[(（][A-G][)）]|[A-G]` + pythonSpace + `[.．、:：])` + pythonSpace)

// cutLabel removes one letter from the beginning of an option.
func cutLabel(option string) string {
	if at := optionLabel.FindStringIndex(option); at != nil {
		option = option[at[1]:]
	}
	return trim(option)
}

// choices returns options with their letters, each on its own line.
func choices(options []string) string {
	var b strings.Builder
	for i, o := range options {
		b.WriteByte('\n')
		b.WriteByte(letters[i])
		b.WriteString(". ")
		b.WriteString(o)
	}
	return b.String()
}

// isLetter reports whether s is one of the first n letters.
func isLetter(s string, n int) bool {
	return len(s) == 1 && n <= len(letters) && strings.Contains(letters[:n], s)
}
