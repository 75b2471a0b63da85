package main

import (
	"io"
	"strings"

	"pumice/internal/screen"
)

// stroke acts on a keystroke. The caller has the lock, and draws.
func (c *console) stroke(s keystroke) {
	leaving := c.leaving
	c.leaving, c.hint = false, nil
	if c.search != nil && c.searching(s) {
		return
	}
	if s.key == "" {
		c.buffer.Insert(s.text)
		return
	}
	switch s.key {
	case "enter", "kpenter", "ctrl+j": // ctrl+j: typed before the terminal passed keys as they are
		c.enter()
	case "ctrl+c":
		c.interrupt(leaving)
	case "ctrl+d":
		if c.buffer.Text() != "" {
			c.buffer.Do("delete")
		} else if c.ended == nil && c.asking {
			c.ended = io.EOF
			c.changed.Broadcast()
		}
	case "ctrl+z":
		c.suspend()
	case "ctrl+l":
		c.screen.Clear()
	case "up", "ctrl+p":
		if !c.buffer.Vertical(true, c.prompt, more, c.width-1) {
			c.recall(c.recalled - 1)
		}
	case "down", "ctrl+n":
		if !c.buffer.Vertical(false, c.prompt, more, c.width-1) {
			c.recall(c.recalled + 1)
		}
	case "pgup":
		c.recall(c.recalled - 1)
	case "pgdown":
		c.recall(c.recalled + 1)
	case "ctrl+r":
		c.search = &search{at: -1, draft: c.buffer.Text()}
	case "tab":
		c.tab()
	default:
		c.buffer.Do(s.key)
	}
}

// enter ends the message, or a line of one that is quoted.
func (c *console) enter() {
	text := c.buffer.Text()
	if isOpen(text) {
		c.buffer.Insert("\n")
		return
	}
	c.queue = append(c.queue, text)
	c.history.Add(text) // where it can't be written, conversations can't either, and keep says so
	c.recalled, c.draft = c.history.Len(), ""
	c.buffer.Set("")
	c.changed.Broadcast()
}

// interrupt stops what is under way, else takes back the last message that waits, else drops what is typed, else leaves if it is
// asked to again.
func (c *console) interrupt(again bool) {
	switch n := len(c.queue); {
	case c.stop != nil:
		c.stop()
	case n > 0 && c.buffer.Text() == "":
		c.buffer.Set(c.queue[n-1])
		c.queue = c.queue[:n-1]
	case !c.asking:
		c.early = true
	case c.buffer.Text() != "":
		typed := c.typed(c.buffer.Text())
		typed[len(typed)-1] += "^C"
		c.buffer.Set("")
		c.recalled, c.dropped = c.history.Len(), true
		c.changed.Broadcast()
		c.draw(typed)
	case again:
		c.ended = io.EOF
		c.changed.Broadcast()
	default:
		c.leaving = true
		c.hint = screen.Wrap("(Ctrl-C again, Ctrl-D or /bye leaves)", c.width-1)
	}
}

// recall shows a message of the history in the place of what is typed.
func (c *console) recall(i int) {
	if i < 0 || i > c.history.Len() {
		return
	}
	if c.recalled == c.history.Len() {
		c.draft = c.buffer.Text()
	}
	c.recalled = i
	if i == c.history.Len() {
		c.buffer.Set(c.draft)
	} else {
		c.buffer.Set(c.history.At(i))
	}
}

// searching acts on a keystroke in a search, and reports whether it was one of the search.
func (c *console) searching(s keystroke) bool {
	find := c.search
	switch {
	case s.key == "":
		find.text += s.text
		find.at = c.history.Search(find.text, c.history.Len())
	case s.key == "ctrl+r":
		if older := c.history.Search(find.text, max(0, find.at)); find.at >= 0 && older >= 0 {
			find.at = older
		}
	case s.key == "backspace" || s.key == "ctrl+h":
		if runes := []rune(find.text); len(runes) > 0 {
			find.text = string(runes[:len(runes)-1])
		}
		find.at = -1
		if find.text != "" {
			find.at = c.history.Search(find.text, c.history.Len())
		}
	case s.key == "ctrl+g" || s.key == "ctrl+c" || s.key == "esc":
		c.buffer.Set(find.draft)
		c.search = nil
	default: // takes what is found, and does with it what the key does
		c.search = nil
		if find.at >= 0 {
			c.recalled = find.at
			c.buffer.Set(c.history.At(find.at))
		}
		return s.key == "tab" || s.key == "right"
	}
	return true
}

// tab completes what stands before the cursor, as far as it is certain, and lists what it may be.
func (c *console) tab() {
	if c.complete == nil || !c.asking {
		return
	}
	before := c.buffer.Before()
	found := c.complete(before)
	if len(found.texts) == 0 {
		return
	}
	common := found.texts[0]
	for _, text := range found.texts[1:] {
		for !strings.HasPrefix(text, common) {
			common = common[:len(common)-1]
		}
	}
	common = strings.ToValidUTF8(common, "")
	if typed := before[len(before)-found.bytes:]; common != typed && len(common) >= found.bytes || len(found.texts) == 1 {
		c.buffer.ReplaceBefore(found.bytes, common)
	}
	if len(found.texts) > 1 {
		names := make([]string, len(found.texts))
		for i, text := range found.texts {
			names[i] = strings.TrimSpace(text)
		}
		const most = 4
		c.hint = screen.Wrap(strings.Join(names, "  "), c.width-1)
		if len(c.hint) > most {
			c.hint = append(c.hint[:most-1], "…")
		}
	}
}
