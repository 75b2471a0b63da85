package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// readPostProcessor reads the tokens that the processor puts around a single text.
func readPostProcessor(t *Tokenizer, s section, depth int) {
	around := func(before, after []int) {
		t.prefix = slices.Concat(before, t.prefix)
		t.suffix = slices.Concat(t.suffix, after)
	}
	defer func() {
		if n := len(t.prefix) + len(t.suffix); n > maxAround {
			s.r.fail(s.path, "puts %d tokens around a text, the limit is %d", n, maxAround)
			t.prefix, t.suffix = nil, nil
		}
	}()
	switch kind := s.needText("type"); kind {
	case "Sequence":
		for _, p := range s.components("processors", depth) {
			readPostProcessor(t, p, depth+1)
		}
	case "ByteLevel": // only trims offsets
	case "BertProcessing", "RobertaProcessing":
		around([]int{tokenPair(s, "cls")}, []int{tokenPair(s, "sep")})
	case "TemplateProcessing":
		before, after := readTemplate(s)
		around(before, after)
	default:
		s.r.unsupported(s.at("type"), "post-processor %q", kind)
	}
}

// tokenPair reads ["[CLS]", 101].
func tokenPair(s section, key string) int {
	var l []json.RawMessage
	s.each(key, func(i int, raw json.RawMessage) {
		if i < 3 {
			l = append(l, raw)
		}
	})
	var id float64
	if len(l) != 2 || json.Unmarshal(l[1], &id) != nil || id != math.Trunc(id) || id < 0 || id >= maxVocab {
		s.r.fail(s.at(key), "want [token, id]")
	}
	return int(id)
}

func readTemplate(s section) (before, after []int) {
	special := s.section("special_tokens")
	seen := false
	s.each("single", func(i int, raw json.RawMessage) {
		if i >= maxAround {
			s.r.fail(s.at("single"), "more than %d items", maxAround)
			return
		}
		p := s.r.section(raw, fmt.Sprintf("%s[%d]", s.at("single"), i))
		switch {
		case p.has("Sequence"):
			if id := p.section("Sequence").text("id", ""); id != "A" || seen {
				s.r.unsupported(p.at("Sequence"), "sequence %q in the template of a single text", id)
			}
			seen = true
		case p.has("SpecialToken"):
			name := p.section("SpecialToken").needText("id")
			var ids []float64
			if len(special.section(name).fields["ids"]) > 64*maxAround {
				s.r.fail(special.at(name), "more than %d ids", maxAround)
				return
			}
			if !special.section(name).into("ids", &ids, "a list of ids") {
				s.r.fail(special.at(name), "missing")
			}
			for _, id := range ids {
				if id != math.Trunc(id) || id < 0 || id >= maxVocab {
					s.r.fail(special.at(name), "id %g", id)
					continue
				}
				if seen {
					after = append(after, int(id))
				} else {
					before = append(before, int(id))
				}
			}
			if n := len(before) + len(after); n > maxAround {
				s.r.fail(s.at("single"), "puts %d tokens around a text, the limit is %d", n, maxAround)
			}
		default:
			s.r.unsupported(p.path, "template item")
		}
	})
	if !seen {
		s.r.unsupported(s.at("single"), "template without the text")
	}
	return before, after
}
