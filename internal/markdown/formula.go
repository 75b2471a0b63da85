package markdown

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// formula writes a LaTeX formula in Unicode, if that has characters for all of it. What it has none for stays LaTeX, which
// readers know better than an approximation.
func formula(source string) (text string, ok bool) {
	f := formulaReader{rest: strings.TrimSpace(source)}
	text = strings.Join(strings.Fields(f.sequence(0)), " ")
	return text, !f.failed && f.rest == "" && text != ""
}

type formulaReader struct {
	rest   string
	failed bool
}

// maxNesting bounds how deep groups stand in groups.
const maxNesting = 16

// sequence reads up to the end or to a closing brace.
func (f *formulaReader) sequence(depth int) string {
	var b strings.Builder
	if depth > maxNesting {
		f.failed = true
	}
	for f.rest != "" && f.rest[0] != '}' && !f.failed {
		b.WriteString(f.atom(depth))
	}
	return b.String()
}

// argument reads a group in braces, a command, or one character.
func (f *formulaReader) argument(depth int) string {
	f.rest = strings.TrimLeft(f.rest, " ")
	if f.rest == "" {
		f.failed = true
		return ""
	}
	return f.atom(depth)
}

func (f *formulaReader) atom(depth int) string {
	r, size := utf8.DecodeRuneInString(f.rest)
	f.rest = f.rest[size:]
	switch r {
	case '{':
		text := f.sequence(depth + 1)
		if !strings.HasPrefix(f.rest, "}") {
			f.failed = true
			return ""
		}
		f.rest = f.rest[1:]
		return text
	case '^':
		return f.script(f.argument(depth), superscripts, "^")
	case '_':
		return f.script(f.argument(depth), subscripts, "_")
	case '\\':
		return f.command(depth)
	case '&', '#', '%', '$':
		f.failed = true
	case '~':
		return " "
	case '-':
		return "−"
	case '\'':
		return "′"
	case '\n':
		return " "
	}
	return string(r)
}

// script raises or lowers text.
func (f *formulaReader) script(text string, letters map[rune]rune, mark string) string {
	var b strings.Builder
	for _, r := range text {
		small, ok := letters[r]
		if !ok {
			if utf8.RuneCountInString(text) == 1 {
				return mark + text
			}
			return mark + "(" + text + ")"
		}
		b.WriteRune(small)
	}
	return b.String()
}

func (f *formulaReader) command(depth int) string {
	end := strings.IndexFunc(f.rest, func(r rune) bool { return r >= utf8.RuneSelf || !unicode.IsLetter(r) })
	switch {
	case f.rest == "":
		f.failed = true
		return ""
	case end == 0:
		_, end = utf8.DecodeRuneInString(f.rest)
	case end < 0:
		end = len(f.rest)
	}
	name := f.rest[:end]
	f.rest = f.rest[end:]
	if s, ok := symbols[name]; ok && isOperator(s) {
		return " " + s + " "
	} else if ok {
		return s
	}
	switch name {
	case "frac", "dfrac", "tfrac":
		return grouped(f.argument(depth)) + "/" + grouped(f.argument(depth))
	case "sqrt":
		root := "√"
		if strings.HasPrefix(f.rest, "[") {
			index, rest, closed := strings.Cut(f.rest[1:], "]")
			if !closed {
				f.failed = true
			}
			f.rest = rest
			root = f.script(index, superscripts, "^") + root
		}
		return root + grouped(f.argument(depth))
	case "text", "mathrm", "mathbf", "mathit", "operatorname", "textbf", "textit", "mathsf", "boldsymbol", "boxed":
		return f.argument(depth)
	case "left", "right", "big", "Big", "bigg", "Bigg", "displaystyle", "limits":
		if strings.HasPrefix(f.rest, ".") && (name == "left" || name == "right") {
			f.rest = f.rest[1:]
		}
		return ""
	case "mathbb":
		argument := f.argument(depth)
		if s, ok := doubleStruck[argument]; ok {
			return s
		}
	case "hat", "bar", "vec", "dot", "tilde", "overline":
		argument := f.argument(depth)
		if utf8.RuneCountInString(argument) == 1 {
			return argument + accents[name]
		}
	}
	f.failed = true
	return ""
}

// grouped puts brackets around what is more than a number or a name.
func grouped(text string) string {
	for i, r := range text {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) && r != '.' && !(i == 0 && r == '√') {
			return "(" + text + ")"
		}
	}
	return text
}

// isOperator reports whether a symbol stands between spaces.
func isOperator(s string) bool {
	return s != "" && strings.Contains(" = ≠ ≈ ≡ ≤ ≥ ≪ ≫ ∼ ≅ ∝ → ← ↔ ⇒ ⇐ ⇔ ↦ ∈ ∉ ⊂ ⊆ ⊃ ⊇ × ± ∓ ÷ ∪ ∩ ∧ ∨ ", " "+s+" ")
}

var (
	superscripts = runes("0123456789+-−=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW βγδθφχ′*∗",
		"⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ ᵝᵞᵟᶿᵠᵡ′**")
	subscripts = runes("0123456789+-−=()aehijklmnoprstuvx βγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ ᵦᵧᵨᵩᵪ")
)

func runes(from, to string) map[rune]rune {
	m, other := map[rune]rune{}, []rune(to)
	for i, r := range []rune(from) {
		m[r] = other[i]
	}
	return m
}

var accents = map[string]string{"hat": "\u0302", "bar": "\u0304", "overline": "\u0305", "vec": "\u20d7", "dot": "\u0307", "tilde": "\u0303"}

var doubleStruck = map[string]string{"R": "ℝ", "N": "ℕ", "Z": "ℤ", "Q": "ℚ", "C": "ℂ", "P": "ℙ", "E": "𝔼", "1": "𝟙"}

// symbols are commands that stand for a text.
var symbols = func() map[string]string {
	m := map[string]string{
		",": " ", ";": " ", ":": " ", "!": "", " ": " ", "quad": " ", "qquad": " ", "{": "{", "}": "}", "%": "%", "$": "$", "&": "&", "#": "#",
		"_": "_", "|": "‖", "cdot": "·", "ldots": "…", "dots": "…", "cdots": "⋯", "vdots": "⋮", "langle": "⟨", "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋",
		"lceil": "⌈", "rceil": "⌉", "mid": "|", "vert": "|", "Vert": "‖", "prime": "′", "degree": "°", "circ": "∘", "ast": "∗", "star": "⋆", "bullet": "•",
		"hbar": "ℏ", "ell": "ℓ", "Re": "ℜ", "Im": "ℑ", "aleph": "ℵ", "infty": "∞", "partial": "∂", "nabla": "∇", "sum": "∑", "prod": "∏", "int": "∫",
		"iint": "∬", "oint": "∮", "forall": "∀", "exists": "∃", "neg": "¬", "lnot": "¬", "emptyset": "∅", "varnothing": "∅", "angle": "∠", "perp": "⊥",
		"parallel": "∥", "therefore": "∴", "because": "∵", "setminus": "∖", "oplus": "⊕", "otimes": "⊗", "square": "□", "dagger": "†", "top": "⊤", "bot": "⊥",
		"times": "×", "div": "÷", "pm": "±", "mp": "∓", "neq": "≠", "ne": "≠", "approx": "≈", "equiv": "≡", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥",
		"leqslant": "≤", "geqslant": "≥", "ll": "≪", "gg": "≫", "sim": "∼", "cong": "≅", "propto": "∝", "to": "→", "rightarrow": "→", "longrightarrow": "→",
		"leftarrow": "←", "gets": "←", "leftrightarrow": "↔", "Rightarrow": "⇒", "implies": "⇒", "Leftarrow": "⇐", "Leftrightarrow": "⇔", "iff": "⇔",
		"mapsto": "↦", "in": "∈", "notin": "∉", "subset": "⊂", "subseteq": "⊆", "supset": "⊃", "supseteq": "⊇", "cup": "∪", "cap": "∩", "land": "∧",
		"wedge": "∧", "lor": "∨", "vee": "∨",
	}
	for _, name := range strings.Fields("sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln lg exp lim max min sup inf det dim ker gcd deg arg mod Pr") {
		m[name] = name
	}
	greek := strings.Fields("alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ mu μ nu ν xi ξ " +
		"pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω " +
		"Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω")
	for i := 0; i < len(greek); i += 2 {
		m[greek[i]] = greek[i+1]
	}
	return m
}()
