package constrain

// formats are those that are supported: regular expressions that a string matches as a whole, all of them.
var formats = map[string][]string{
	"date":      {date},
	"time":      {clock},
	"date-time": {"(" + date + ")[Tt](" + clock + ")"},
	"duration":  {`P([0-9]+W|(` + days + `)(T` + hours + `)?|T` + hours + `)`},
	"uuid":      {`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`},
	"email":     {`(` + atom + `(\.` + atom + `)*)@(` + label + `(\.` + label + `)*)`, `[^@]{1,64}@.{1,189}`},
	"hostname":  {asciiLabel + `(\.` + asciiLabel + `)*`, `.{1,253}`},
	"ipv4":      {ipv4},
	"ipv6":      {ipv6},
	"uri":       {scheme + `:(//` + authority + `(/` + pchar + `*)*|/(` + segments + `)?|` + segments + `)?(\?` + query + `)?(#` + query + `)?`},
}

// format is the strings of a format.
func (c *compiler) format(patterns []string) (expr, error) {
	var list []expr
	for _, pattern := range patterns {
		e, err := c.regex(pattern, c.json, edge)
		if err != nil {
			return none, err
		}
		list = append(list, e)
	}
	return c.both(list...), nil
}

const (
	// RFC 3339, section 5.6. The 29th of February is in years that 4 divides and not 100, or 400.
	date = `[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))` +
		`|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29`
	// A leap second is allowed in UTC alone.
	clock = `([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])` +
		`|23:59:60(\.[0-9]+)?([Zz]|[+-]00:00)`
	// Appendix A.
	days  = `[0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D`
	hours = `([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S)`

	// RFC 5321, section 4.1.2, without quoted local parts and address literals. At most 64 characters are before the @ (section
	// 4.5.3.1), and 254 in all (RFC 3696, erratum 1690).
	atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
	// RFC 1123, section 2.1. An asciiLabel has no two hyphens in the third place, which mark other scripts.
	label      = `[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?`
	asciiLabel = alnum + `(` + hyphen + `?` + alnum + `|` + hyphen + `(` + alnum + `|-)` + alnum +
		`|` + hyphen + `(` + alnum + hyphen + `|-` + alnum + `)` + hyphen + `{0,58}` + alnum + `)?`
	alnum  = `[A-Za-z0-9]`
	hyphen = `[A-Za-z0-9-]`

	// RFC 3986, section 3, without numbers of characters in a host.
	octet = `(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])`
	ipv4  = `(` + octet + `\.){3}` + octet
	h16   = `[0-9a-fA-F]{1,4}`
	ls32  = `(` + h16 + `:` + h16 + `|` + ipv4 + `)`
	ipv6  = `((` + h16 + `:){6}` + ls32 + `|::(` + h16 + `:){5}` + ls32 + `|(` + h16 + `)?::(` + h16 + `:){4}` + ls32 +
		`|((` + h16 + `:){0,1}` + h16 + `)?::(` + h16 + `:){3}` + ls32 + `|((` + h16 + `:){0,2}` + h16 + `)?::(` + h16 + `:){2}` + ls32 +
		`|((` + h16 + `:){0,3}` + h16 + `)?::` + h16 + `:` + ls32 + `|((` + h16 + `:){0,4}` + h16 + `)?::` + ls32 +
		`|((` + h16 + `:){0,5}` + h16 + `)?::` + h16 + `|((` + h16 + `:){0,6}` + h16 + `)?::)`
	scheme    = `[A-Za-z][A-Za-z0-9+.-]*`
	authority = `(([A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?(\[` + ipv6 + `\]|[A-Za-z0-9._~!$&'()*+,;=-]*)(:[0-9]*)?`
	pchar     = `([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})`
	segments  = pchar + `+(/` + pchar + `*)*`
	query     = `([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*`
)
