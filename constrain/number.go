package constrain

import (
	"fmt"
	"strconv"
	"strings"
)

// This file writes sets of numbers as expressions. Numbers are written without an exponent: only then is comparing them a
// matter of their digits.

// A decimal is a number: its digits before the point, without leading zeros, and after it, without trailing zeros.
type decimal struct {
	negative bool
	whole    string // "0" if there are none
	fraction string
	mantissa int64 // whole and fraction as an integer; 0 if it is more than maxMultiple
}

const maxMultiple = 10000

// parseDecimal reads a number of a JSON document.
func parseDecimal(s string) (decimal, error) {
	mantissa, exponent := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(s[i+1:]); err != nil || exponent < -maxDigits || exponent > maxDigits {
			return decimal{}, &LimitError{"digits of a number", maxDigits}
		}
		mantissa = s[:i]
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if len(whole)+len(fraction) > maxDigits {
		return decimal{}, &LimitError{"digits of a number", maxDigits}
	}
	for ; exponent > 0; exponent-- {
		fraction += "0"
		whole, fraction = whole+fraction[:1], fraction[1:]
	}
	for ; exponent < 0; exponent++ {
		whole = "0" + whole
		whole, fraction = whole[:len(whole)-1], whole[len(whole)-1:]+fraction
	}
	d := decimal{negative: negative, whole: strings.TrimLeft(whole, "0"), fraction: strings.TrimRight(fraction, "0")}
	if d.whole == "" {
		d.whole = "0"
	}
	if v, err := strconv.ParseInt(strings.TrimLeft(d.whole+d.fraction, "0"), 10, 64); err == nil && v <= maxMultiple {
		d.mantissa = v
	}
	return d, nil
}

func (d decimal) zero() bool { return d.whole == "0" && d.fraction == "" }

func (a *arena) digit(lo, hi int) expr {
	if lo > hi {
		return none
	}
	return a.byteRange('0'+byte(lo), '0'+byte(hi))
}

// anyDigits is n digits or more.
func (a *arena) anyDigits(n int) expr { return a.repeat(a.digit(0, 9), n, -1) }

func (a *arena) wholes() expr {
	return a.union(a.literal("0"), a.concat(a.digit(1, 9), a.anyDigits(0)))
}

func (a *arena) anyFraction() expr {
	return a.optional(a.concat(a.literal("."), a.anyDigits(1)))
}

func (a *arena) zeroFraction() expr {
	if a.whole {
		return empty
	}
	return a.optional(a.concat(a.literal("."), a.repeat(a.literal("0"), 1, -1)))
}

func (a *arena) unsigned() expr { return a.concat(a.wholes(), a.anyFraction()) }

func (a *arena) negative(e expr) expr { return a.concat(a.literal("-"), e) }

// decimals is all numbers without an exponent.
func (a *arena) decimals() expr { return a.concat(a.optional(a.literal("-")), a.unsigned()) }

// numbers is all numbers, with exponents of at most two digits.
func (a *arena) numbers() expr {
	var e, sign byteSet
	e.add('e', 'e')
	e.add('E', 'E')
	sign.add('+', '+')
	sign.add('-', '-')
	exponent := a.concat(a.bytes(e), a.optional(a.bytes(sign)), a.repeat(a.digit(0, 9), 1, 2))
	return a.concat(a.decimals(), a.optional(exponent))
}

// integers is all numbers without a fraction, or with one of zeros.
func (a *arena) integers() expr {
	return a.concat(a.optional(a.literal("-")), a.wholes(), a.zeroFraction())
}

// equal is the number d, with zeros after its last digit or without.
func (a *arena) equal(d decimal) expr {
	e := a.concat(a.literal(d.whole), a.zeroFraction())
	if d.fraction != "" {
		e = a.concat(a.literal(d.whole+"."+d.fraction), a.star(a.literal("0")))
	}
	switch {
	case d.zero():
		return a.union(e, a.negative(e))
	case d.negative:
		return a.negative(e)
	}
	return e
}

// atMost is the numbers up to d, or below it.
func (a *arena) atMost(d decimal, orEqual bool) expr {
	switch {
	case d.zero() && !orEqual:
		return a.negative(a.greater(d, false))
	case d.negative && !d.zero():
		return a.negative(a.greater(d, orEqual))
	}
	return a.union(a.negative(a.unsigned()), a.less(d, orEqual))
}

// atLeast is the numbers from d on, or above it.
func (a *arena) atLeast(d decimal, orEqual bool) expr {
	switch {
	case d.zero() && !orEqual:
		return a.greater(d, false)
	case d.negative || d.zero():
		return a.union(a.unsigned(), a.negative(a.less(d, orEqual)))
	}
	return a.greater(d, orEqual)
}

// less is the numbers without a sign that are less than the amount of d. Numbers of as many digits are compared from the
// first digit on: one that is less, and any after it, or the same and the rest less.
func (a *arena) less(d decimal, orEqual bool) expr {
	rest := none
	if orEqual {
		rest = a.star(a.literal("0"))
	}
	for i := len(d.fraction) - 1; i >= 0; i-- {
		c := int(d.fraction[i] - '0')
		rest = a.union(a.concat(a.digit(0, c-1), a.anyDigits(0)), a.concat(a.digit(c, c), rest))
		if i > 0 {
			rest = a.optional(rest)
		}
	}
	switch {
	case d.fraction != "":
		rest = a.optional(a.concat(a.literal("."), rest))
	case orEqual:
		rest = a.zeroFraction()
	}
	n := len(d.whole)
	for i := n - 1; i >= 0; i-- {
		c, least := int(d.whole[i]-'0'), 0
		if i == 0 && n > 1 {
			least = 1
		}
		below := a.concat(a.digit(least, c-1), a.repeat(a.digit(0, 9), n-1-i, n-1-i), a.anyFraction())
		rest = a.union(below, a.concat(a.digit(c, c), rest))
	}
	if n > 1 { // fewer digits
		shorter := a.union(a.literal("0"), a.concat(a.digit(1, 9), a.repeat(a.digit(0, 9), 0, n-2)))
		rest = a.union(rest, a.concat(shorter, a.anyFraction()))
	}
	return rest
}

// greater is the numbers without a sign that are greater than the amount of d.
func (a *arena) greater(d decimal, orEqual bool) expr {
	rest := a.concat(a.star(a.literal("0")), a.digit(1, 9), a.anyDigits(0))
	if orEqual {
		rest = a.anyDigits(0)
	}
	for i := len(d.fraction) - 1; i >= 0; i-- {
		c := int(d.fraction[i] - '0')
		rest = a.union(a.concat(a.digit(c+1, 9), a.anyDigits(0)), a.concat(a.digit(c, c), rest))
	}
	if d.fraction == "" && orEqual {
		rest = a.anyFraction()
	} else {
		rest = a.concat(a.literal("."), rest)
	}
	n := len(d.whole)
	for i := n - 1; i >= 0; i-- {
		c := int(d.whole[i] - '0')
		above := a.concat(a.digit(c+1, 9), a.repeat(a.digit(0, 9), n-1-i, n-1-i), a.anyFraction())
		rest = a.union(above, a.concat(a.digit(c, c), rest))
	}
	longer := a.concat(a.digit(1, 9), a.anyDigits(n), a.anyFraction())
	return a.union(rest, longer)
}

// A multiple is a number of which others are multiples: of / 10^places.
type multiple struct {
	of     int64
	places int
}

// Places in a number that is read to find out whether it is a multiple. Those from 0 on are the digits after the point.
const (
	beforeDigits = -3 + iota
	afterZero    // a number that starts with 0 has no more digits before the point
	beforePoint
)

// multipleOf is the multiples of d. Its automaton reads digit by digit and keeps the remainder.
func (a *arena) multipleOf(d decimal) (expr, error) {
	if d.mantissa == 0 {
		return none, fmt.Errorf("supported up to %d, not counting the decimal point", maxMultiple)
	}
	a.multiples = append(a.multiples, multiple{d.mantissa, len(d.fraction)})
	e := a.multiple(expr(len(a.multiples)-1), 0, beforeDigits)
	return a.union(e, a.negative(e)), nil
}

// multiple is the rest of a multiple.
func (a *arena) multiple(m expr, remainder int64, place int) expr {
	of := a.multiples[m]
	scaled, room := remainder, int64(1) // at the last place that counts; what digits may still add is less than room
	for i := max(0, place); i < of.places; i++ {
		scaled = scaled * 10 % of.of
		room = min(room*10, of.of)
	}
	if place >= 0 && (of.of-scaled)%of.of >= room {
		return none
	}
	var f fact
	if scaled == 0 && place != beforeDigits && place != 0 {
		f = nullable
	}
	return a.node(node{kind: kindMultiple, a: m, n: remainder, m: int64(place)}, f)
}

func (a *arena) stepMultiple(n node, b byte) expr {
	of, place := a.multiples[n.a], int(n.m)
	if b == '.' {
		if place == afterZero || place == beforePoint {
			return a.multiple(n.a, n.n, 0)
		}
		return none
	}
	if b < '0' || b > '9' || place == afterZero {
		return none
	}
	remainder := (n.n*10 + int64(b-'0')) % of.of
	switch {
	case place == beforeDigits && b == '0':
		place = afterZero
	case place == beforeDigits:
		place = beforePoint
	case place >= of.places: // only zeros
		if b != '0' {
			return none
		}
		place, remainder = max(1, of.places), n.n
	case place >= 0:
		place++
	}
	return a.multiple(n.a, remainder, place)
}

func (a *arena) multipleStarts(list []int64) []int64 {
	for _, b := range []byte(".0123456789") {
		list = append(list, a.setOf(b))
	}
	return list
}
