package page

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// longStory has the default model write for ten seconds and more, greedily.
const longStory = "Write a long story about a river."

// TestChat is a conversation with the default model: streamed, stopped, asked again, edited, kept.
func TestChat(t *testing.T) {
	x := open(t, upstream.URL)
	x.set(`{temperature: 0, max_tokens: 200}`)
	x.wait(`document.querySelector('#strip .device')`)
	if device := x.text("#strip .device dd"); !strings.Contains(device, "llvmpipe") && device == "" {
		t.Errorf("the device is %q", device)
	}
	x.shot("welcome")
	x.click(".example:last-child")
	x.wait(`document.querySelector('.assistant > .body').innerText.length > 0 && document.querySelector('.message[aria-busy=true]')`)
	early := len(x.text(".assistant > .body"))
	x.answered()
	if whole := len(x.text(".assistant > .body")); whole <= early {
		t.Errorf("the answer did not grow: %d characters of %d", early, whole)
	}
	if numbers := x.text(".assistant .numbers"); !regexp.MustCompile(`^\d+ tokens, [\d.]+ t/s$`).MatchString(numbers) {
		t.Errorf("numbers %q", numbers)
	}
	if length := x.text("#length"); !regexp.MustCompile(`^\d+ of [\d,]+ tokens$`).MatchString(length) {
		t.Errorf("length %q", length)
	}
	x.wait(`/^\d+ of \d+$/.test(document.querySelector('#strip .pages dd')?.innerText) && /GiB|MiB/.test(document.querySelector('#strip .memory dd').innerText)`)
	x.shot("answered")

	// Another answer stands beside the first.
	first := x.text(".assistant > .body")
	x.click("[data-action=again]")
	x.answered()
	if n := x.text(".assistant .versions span"); n != "2/2" {
		t.Errorf("version %q", n)
	}
	x.click(".assistant .versions .quiet:first-child")
	if again := x.text(".assistant > .body"); again != first || x.text(".assistant .versions span") != "1/2" {
		t.Errorf("the first answer is %q, was %q", again, first)
	}

	// An edited question stands beside the first.
	x.hover(".user .body")
	x.click("[data-action=edit]")
	x.wait(`document.activeElement.matches('.edit textarea')`)
	x.keys("a", kb.ModifierCtrl)
	x.insert("What is the capital of France?")
	x.keys(kb.Enter)
	x.answered()
	if question := x.text(".user .body"); question != "What is the capital of France?" || x.text(".user .versions span") != "2/2" {
		t.Errorf("edited to %q, %q", question, x.text(".user .versions span"))
	}
	if answer := x.text(".assistant > .body"); !strings.Contains(answer, "Paris") {
		t.Errorf("the answer is %q", answer)
	}

	// Stopped by Escape; the server stops too.
	x.ask(longStory)
	x.wait(`[...document.querySelectorAll('.assistant > .body')].at(-1).innerText.length > 20`)
	x.keys(kb.Escape)
	x.answered()
	if note := x.text(".assistant:last-child > .faint"); note != "Stopped" {
		t.Errorf("after Escape: %q", note)
	}
	stopped := x.text(".assistant > .body")
	x.wait(`document.querySelector('#strip .state').innerText.includes('ready')`)

	// All of it is there after a reload.
	x.do(chromedp.Reload())
	x.ready()
	x.click("#list .open")
	if again := x.text(".assistant:last-child .body"); again != stopped {
		t.Errorf("after a reload: %q, was %q", again, stopped)
	}
	if n := x.count(".message"); n != 4 {
		t.Errorf("%d messages after a reload", n)
	}
}

// TestConversations has two answers come at a time, and renames, deletes and brings back.
func TestConversations(t *testing.T) {
	x := open(t, upstream.URL)
	x.ask("fake slow")
	x.wait(`document.querySelector('.assistant > .body').innerText.includes('word3')`)
	x.click("#new")
	x.ask("fake reasoning")
	x.answered()
	if n := x.count("#list li"); n != 2 {
		t.Fatalf("%d conversations", n)
	}
	x.check(`document.querySelectorAll('#list .dot').length === 1`)
	x.click("#list li:nth-child(2) .open") // the first, which is still coming
	x.wait(`/word\d+/.test(document.querySelector('.assistant > .body').innerText)`)
	x.click("#stop")
	x.answered()
	select {
	case <-upstream.left:
	case <-time.After(10 * time.Second):
		t.Error("the server was not told to stop")
	}
	before := x.text(".assistant > .body")

	x.hover("#list li:has([aria-current])")
	x.click("#list li:has([aria-current]) .quiet:nth-of-type(2)")
	x.keys("a", kb.ModifierCtrl)
	x.insert("A new name")
	x.keys(kb.Enter)
	if title := x.text("#title"); title != "A new name" || x.text("#list [aria-current]") != "A new name" {
		t.Errorf("renamed to %q", title)
	}
	x.click("#list li:has([aria-current]) .quiet:last-child")
	if n := x.count("#list li"); n != 1 || x.count(".message") != 0 {
		t.Errorf("%d conversations after one was deleted", n)
	}
	x.click("#toast button")
	if n := x.count("#list li"); n != 2 || x.text(".assistant > .body") != before {
		t.Errorf("%d conversations after it was brought back", n)
	}
	x.do(chromedp.Reload())
	x.ready()
	if n := x.count("#list li"); n != 2 {
		t.Errorf("%d conversations after a reload", n)
	}
}

// TestTwoTabs: what one tab does to a conversation, another tab of the browser shows.
func TestTwoTabs(t *testing.T) {
	x := open(t, upstream.URL)
	x.ask("fake reasoning")
	x.answered()
	y := x.another()
	y.click("#list .open")
	x.ask("fake reasoning")
	x.answered()
	y.wait(`document.querySelectorAll('.message').length === 4`)
	y.ask("fake refused")
	y.answered()
	x.wait(`document.querySelectorAll('.message').length === 6 && !document.querySelectorAll('.fault')[2].hidden`)
	y.click("#list .quiet:last-child")
	x.wait(`document.querySelectorAll('#list li').length === 0 && document.querySelector('.welcome')`)
}

// TestSettings: what is set is what is asked for.
func TestSettings(t *testing.T) {
	x := open(t, upstream.URL)
	x.wait(`document.querySelector('#strip .device')`)
	x.click("#settings-button")
	x.check(`document.querySelector('[name=top_k]').placeholder !== 'default'`) // the server said
	for name, value := range map[string]string{"system": "You are terse.", "temperature": "0.25", "top_p": "0.9", "top_k": "20", "min_p": "0.1",
		"repeat_penalty": "1.1", "max_tokens": "77", "seed": "42"} {
		x.script(fmt.Sprintf(`document.querySelector('#settings [name=%s]').focus()`, name))
		x.insert(value)
	}
	x.script(`document.querySelector('#settings details').open = true`)
	x.shot("settings")
	set := func(name, value string) {
		x.script(fmt.Sprintf(`(e => { e.value = %q; e.dispatchEvent(new InputEvent('input', {bubbles: true})) })(document.querySelector('#settings [name=%s]'))`, value, name))
	}
	set("tools", `[{"type":"function"`)
	x.check(`!document.querySelector('[name=tools]').validity.valid`)
	set("tools", `[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]`)
	set("stop", "END\n###")
	set("reasoning", "low")
	x.keys(kb.Escape)
	x.ask("fake reasoning")
	x.answered()
	asked := upstream.asked(t)
	for name, want := range map[string]any{"temperature": .25, "top_p": .9, "top_k": 20.0, "min_p": .1, "repeat_penalty": 1.1, "max_tokens": 77.0,
		"seed": 42.0, "stream": true, "reasoning_effort": "low", "logprobs": nil, "model": "smollm2"} {
		if asked[name] != want {
			t.Errorf("%s is %v, want %v", name, asked[name], want)
		}
	}
	text, _ := json.Marshal(object{"m": asked["messages"], "s": asked["stop"], "t": asked["tools"]})
	for _, want := range []string{`[{"content":"You are terse.","role":"system"},{"content":"fake reasoning","role":"user"}]`, `["END","###"]`, `"name":"weather"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	// A new conversation begins with these, and they can be undone.
	x.click("#new")
	x.click("#settings-button")
	x.check(`document.querySelector('[name=temperature]').value === '0.25'`)
	x.script(`document.querySelector('#reset').click()`)
	x.keys(kb.Escape)
	x.ask("fake reasoning")
	x.answered()
	if asked := upstream.asked(t); asked["temperature"] != nil || asked["tools"] != nil || len(asked["messages"].([]any)) != 1 {
		t.Errorf("after a reset: %v", asked)
	}
}

// TestLanguageAndTheme: chosen ones stay; those of the system are the default.
func TestLanguageAndTheme(t *testing.T) {
	x := open(t, upstream.URL)
	ground := func() string { return eval[string](x, `getComputedStyle(document.body).backgroundColor`) }
	light := ground()
	x.media("dark")
	dark := ground()
	if light == dark {
		t.Errorf("light and dark are %s", light)
	}
	x.click("#settings-button")
	choose := func(id, value string) {
		x.script(fmt.Sprintf(`(e => { e.value = %q; e.dispatchEvent(new Event('change', {bubbles: true})) })(document.querySelector('#%s'))`, value, id))
	}
	choose("theme", "light")
	if got := ground(); got != light {
		t.Errorf("light by choice is %s, want %s", got, light)
	}
	choose("language", "zh")
	x.wait(`document.documentElement.lang === 'zh'`)
	x.do(chromedp.Reload())
	x.ready()
	if got := ground(); got != light || x.text(".welcome h2") != "想了解什么？" {
		t.Errorf("after a reload %s and %q", got, x.text(".welcome h2"))
	}
	x.check(`document.querySelector('#question').placeholder === '问点什么'`)
	x.ask("fake markdown")
	x.answered()
	x.shot("chinese")
	x.accessible("Chinese")
}

// TestProbabilities compares what is shown under the pointer and with the arrow keys to what the server said.
func TestProbabilities(t *testing.T) {
	x := open(t, upstream.URL)
	x.set(`{temperature: 0}`)
	x.click("#settings-button")
	x.click("#settings .check")
	x.keys(kb.Escape)
	x.ask("What is the capital of France?")
	x.answered()
	if asked := upstream.asked(t); asked["logprobs"] != true || asked["top_logprobs"] != 5.0 {
		t.Errorf("asked: %v", asked)
	}
	if n := x.count(".assistant .token"); n < 3 {
		t.Fatalf("%d tokens", n)
	}
	whole := eval[string](x, `document.querySelector('.assistant > .body').textContent`)
	spans := eval[string](x, `[...document.querySelectorAll('.assistant .token')].map(e => e.textContent).join('')`)
	if whole != spans {
		t.Errorf("the tokens are %q of %q", spans, whole)
	}
	x.hover(".assistant .token")
	x.check(`!document.querySelector('#tip').hidden`)
	rows := x.count("#tip .row")
	sum := eval[float64](x, `[...document.querySelectorAll('#tip .value')].reduce((sum, e) => sum + parseFloat(e.innerText), 0)`)
	if rows < 5 || rows > 6 || sum < 50 || sum > 101 || x.count("#tip .chosen") != 1 {
		t.Errorf("%d tokens with %g %% together, %d chosen", rows, sum, x.count("#tip .chosen"))
	}
	x.shot("hover")
	x.hover("#title")
	x.check(`document.querySelector('#tip').hidden`)

	x.click("[data-action=probabilities]")
	x.keys(kb.ArrowRight)
	x.keys(kb.ArrowRight)
	x.check(`document.querySelectorAll('.token')[1].classList.contains('current')`)
	x.check(`/^\S+ \d[\d.]*%, /.test(document.querySelector('#announcer').textContent)`)
	x.shot("keys")
	x.accessible("tokens")
	x.keys(kb.Tab)
	x.check(`document.querySelector('#tip').hidden`)
}

// TestMarkdownOfAnswers: what is Markdown looks like it; what is an attack is text.
func TestMarkdownOfAnswers(t *testing.T) {
	x := open(t, upstream.URL)
	x.clipboard()
	x.ask("fake markdown")
	x.answered()
	for selector, want := range map[string]int{"h3": 1, "strong": 2, "em": 1, "s": 1, "p code": 1, "ul > li": 3, "ul > li > ol > li": 2, "blockquote": 1,
		"table": 1, "tbody tr": 2, "pre": 1, "a": 3, ".math": 1, "script, img, iframe, style": 0} {
		if n := x.count(".assistant > .body " + selector); n != want {
			t.Errorf("%d of %s, want %d", n, selector, want)
		}
	}
	x.check(`[...document.querySelectorAll('.assistant > .body a')].every(a => a.rel === 'noopener noreferrer' && a.target === '_blank' && a.protocol === 'https:')`)
	x.check(`window.hacked === undefined`)
	if text := x.text(".assistant > .body"); !strings.Contains(text, `<script>window.hacked = 1</script>`) || !strings.Contains(text, "javascript:window") {
		t.Errorf("the attack is gone from %q", text)
	}
	x.shot("desktop")
	x.click(".code .quiet")
	if code := eval[string](x, `navigator.clipboard.readText()`); !strings.HasPrefix(code, "package main\n\nfunc main() {\n\tprintln(\"<hi> & bye") || !strings.HasSuffix(code, "\n}") {
		t.Errorf("copied %q", code)
	}
	x.script(`document.querySelector('.assistant .actions .quiet').click()`)
	x.wait(`navigator.clipboard.readText().then(text => text === ` + quoted(markdown) + `)`)
	// The second copy holds when no clipboard is there, as with plain HTTP on a network.
	x.script(`Object.defineProperty(navigator, 'clipboard', {value: undefined})`)
	x.click(".code .quiet")
	x.wait(`document.querySelector('.code .quiet').classList.contains('done')`)
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// TestMarkdown compares nodes with what CommonMark and GitHub make of a text, but where markdown.js says otherwise.
func TestMarkdown(t *testing.T) {
	x := open(t, upstream.URL)
	render := func(text string) string {
		return eval[string](x, `import('/page/markdown.js').then(m => { const e = document.createElement('div'); m.update(e, `+quoted(text)+`); return e.innerHTML })`)
	}
	const attributes = ` target="_blank" rel="noopener noreferrer"`
	for text, want := range map[string]string{
		"plain & <b>":                          `<p>plain &amp; &lt;b&gt;</p>`,
		"one\ntwo":                             `<p>one<br>two</p>`,
		"a\n\nb":                               `<p>a</p><p>b</p>`,
		"## Two ##":                            `<h4>Two</h4>`,
		"#hash":                                `<p>#hash</p>`,
		"---":                                  `<hr>`,
		"*a* **b** ***c***":                    `<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em></p>`,
		"_a_ snake_case_name __b__":            `<p><em>a</em> snake_case_name <strong>b</strong></p>`,
		"2 * 3 * 4":                            `<p>2 * 3 * 4</p>`,
		"*args, **kwargs":                      `<p>*args, **kwargs</p>`,
		"**bold *both***":                      `<p><strong>bold <em>both</em></strong></p>`,
		"**“引用”**后面":                           `<p><strong>“引用”</strong>后面</p>`,
		"~~x~~ ~y~":                            `<p><s>x</s> ~y~</p>`,
		"`a*b*` ``c`d``":                       "<p><code>a*b*</code> <code>c`d</code></p>",
		"`open":                                "<p>`open</p>",
		`\*no\* \\ a\b`:                        `<p>*no* \ a\b</p>`,
		"[t](https://e.org/x_(y) 'z')":         `<p><a href="https://e.org/x_(y)" title="https://e.org/x_(y)"` + attributes + `>t</a></p>`,
		"[**t**](mailto:a@e.org)":              `<p><a href="mailto:a@e.org" title="mailto:a@e.org"` + attributes + `><strong>t</strong></a></p>`,
		"[t](javascript:alert(1))":             `<p>[t](javascript:alert(1))</p>`,
		"[t](/page/app.js)":                    `<p>[t](/page/app.js)</p>`,
		"[a [b](https://e.org) c](https://f.)": `<p>[a <a href="https://e.org/" title="https://e.org/"` + attributes + `>b</a> c](<a href="https://f/" title="https://f/"` + attributes + `>https://f</a>.)</p>`,
		"![alt](https://e.org/i.png)":          `<p><a href="https://e.org/i.png" title="https://e.org/i.png"` + attributes + `>alt</a></p>`,
		"见https://e.org/b。好":                   `<p>见https://e.org/b。好</p>`,
		"见 https://e.org/b。好":                  `<p>见 <a href="https://e.org/b" title="https://e.org/b"` + attributes + `>https://e.org/b</a>。好</p>`,
		"<https://e.org>":                      `<p><a href="https://e.org/" title="https://e.org/"` + attributes + `>https://e.org</a></p>`,
		"$a_1 * b_2 * c$ costs $5 and $6":      `<p><span class="math">$a_1 * b_2 * c$</span> costs $5 and $6</p>`,
		`\(x_1\) and \[y\]`:                    `<p><span class="math">\(x_1\)</span> and <span class="math">\[y\]</span></p>`,
		"a<br>b":                               `<p>a<br>b</p>`,
		"- a\n- b":                             `<ul><li>a</li><li>b</li></ul>`,
		"- a\n\n- b":                           `<ul><li><p>a</p></li><li><p>b</p></li></ul>`,
		"3. a\n4. b":                           `<ol start="3"><li>a</li><li>b</li></ol>`,
		"1. a\n   - b\n2. c":                   `<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>`,
		"1. a\n  - b":                          `<ol><li>a<ul><li>b</li></ul></li></ol>`,
		"- a\n  goes on\n- b\nlazily":          `<ul><li>a<br>goes on</li><li>b<br>lazily</li></ul>`,
		"- [ ] a\n- [x] b":                     `<ul><li>☐ a</li><li>☑ b</li></ul>`,
		"text\n- a":                            `<p>text</p><ul><li>a</li></ul>`,
		"in\n1999. The":                        `<p>in<br>1999. The</p>`,
		"> a\n> > b\n>\n> c":                   `<blockquote><p>a</p><blockquote><p>b</p></blockquote><p>c</p></blockquote>`,
	} {
		if got := render(text); got != want {
			t.Errorf("%q\nis   %s\nwant %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"```go\na\n\n# b\n```\nc":        "a\n\n# b",
		"~~~\na\n```\n~~~":               "a\n```",
		"````\n```\n````":                "```",
		"```\nopen":                      "open",
		"- a\n\n  ```\n  b\n   c\n  ```": "b\n c",
	} {
		if got := eval[string](x, `import('/page/markdown.js').then(m => { const e = document.createElement('div'); m.update(e, `+quoted(text)+`); return e.querySelector('pre').textContent })`); got != want {
			t.Errorf("%q has the code %q, want %q", text, got, want)
		}
	}
	if got := x.t.Name(); !strings.Contains(render("| a | b |\n|---|:-:|\n| `x\\|y` | |\n| 1 |"), `<td><code>x|y</code></td><td class="center"></td>`) {
		t.Errorf("%s: the table is %s", got, render("| a | b |\n|---|:-:|\n| `x\\|y` | |\n| 1 |"))
	}

	// A growing text keeps the nodes of blocks that are done, and comes out as if it had been there at once.
	x.check(`import('/page/markdown.js').then(m => {
		const text = ` + quoted(markdown) + `, grown = document.createElement('div'), whole = document.createElement('div')
		let first
		for (let n = 1; n <= text.length; n++) {
			m.update(grown, text.slice(0, n))
			if (n === 20) first = grown.firstChild
		}
		m.update(whole, text)
		return grown.innerHTML === whole.innerHTML && grown.firstChild === first
	})`)

	// Time is linear in the length of the most awkward texts.
	for _, piece := range []string{"*a ", "**a_", "[", "[a](", "](", "`", "`` ` ", "![", "<", "$a", "$$", `\(`, `\[`, "> ", "- ", "#", "|", "~~", "~~~\n", "a|b\n-|-\n", "  - a\n", "1. a\n", "https://",
		"_*", "*_", "<https://", "<a@b", `\`, "> - ", "\n\n", "[a](<", "[a](b 'c ", "***a", "a*", " ", "``` "} {
		text := fmt.Sprintf(`%s.repeat(%d)`, quoted(piece), 100_000/len(piece))
		if ms := eval[float64](x, `import('/page/markdown.js').then(m => { const e = document.createElement('div'), begin = performance.now(); m.update(e, `+text+`); return performance.now() - begin })`); ms > 4000 {
			t.Errorf("100 kB of %q take %.0f ms", piece, ms)
		}
	}
}

// TestReasoningAndTools: both are folded; results of tools are asked for and sent, with what came before.
func TestReasoningAndTools(t *testing.T) {
	x := open(t, upstream.URL)
	x.ask("fake reasoning")
	x.wait(`document.querySelector('.fold summary')?.innerText.includes('Thinking')`)
	x.check(`!document.querySelector('.fold').open`)
	x.answered()
	if summary, body := x.text(".fold summary"), x.text(".assistant > .body"); summary != "Reasoning" || body != "It is 7." {
		t.Errorf("%q, %q", summary, body)
	}
	x.click(".fold summary")
	if thought := x.text(".fold .body"); thought != "The user wants a number. Seven is prime." || x.count(".fold .body strong") != 1 {
		t.Errorf("%q", thought)
	}
	x.ask("fake tools")
	x.answered()
	if asked, _ := json.Marshal(upstream.asked(t)["messages"]); !strings.Contains(string(asked), `"reasoning_content":"The user wants **a number**. Seven is prime."`) {
		t.Errorf("asked: %s", asked)
	}
	if n, summary := x.count(".calls .fold"), x.text(".calls .fold summary"); n != 2 || summary != "Calls weather" {
		t.Errorf("%d calls, %q", n, summary)
	}
	x.click(".calls .fold summary")
	if arguments := x.text(".calls .fold pre"); arguments != "{\n  \"city\": \"Rome\"\n}" {
		t.Errorf("arguments %q", arguments)
	}
	x.shot("calls")
	x.accessible("calls")
	x.click(".results textarea:first-child")
	x.insert("sunny")
	x.keys(kb.Tab)
	x.insert("rain")
	x.keys(kb.Tab)
	x.keys(kb.Enter)
	x.wait(`[...document.querySelectorAll('.assistant > .body')].at(-1).innerText.includes('it rains')`)
	asked, _ := json.Marshal(upstream.asked(t)["messages"].([]any)[3:])
	const want = `[{"content":null,"role":"assistant","tool_calls":[{"function":{"arguments":"{\"city\":\"Paris\"}","name":"weather"},"id":"call_a","type":"function"},` +
		`{"function":{"arguments":"{\"city\":\"Rome\"}","name":"weather"},"id":"call_b","type":"function"}]},` +
		`{"content":"sunny","role":"tool","tool_call_id":"call_a"},{"content":"rain","role":"tool","tool_call_id":"call_b"}]`
	if string(asked) != want {
		t.Errorf("asked: %s", asked)
	}
	x.check(`document.querySelectorAll('.results').length === 0 && document.querySelectorAll('.message.tool').length === 2`)
	x.shot("results")
}

// TestErrors: each is told in plain words, and can be tried again.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct{ want, detail, text string }{
		"overflow":            {want: "This conversation has 5,000 tokens, and the model reads at most 4,096"},
		"refused":             {want: "The server can’t do this.", detail: "temperature is 90"},
		"failed":              {want: "The server failed.", detail: "HTTP 502"},
		"cut":                 {want: "The connection broke off", text: "The beginning of"},
		"error in the stream": {want: "The server failed.", detail: "the server's log says why", text: "It begins"},
	} {
		t.Run(name, func(t *testing.T) {
			x := open(t, upstream.URL)
			x.ask("fake " + name)
			x.answered()
			if text := x.text(".fault"); !strings.Contains(text, c.want) || !strings.Contains(text, c.detail) || x.text(".assistant > .body") != c.text {
				t.Errorf("%q, after %q", text, x.text(".assistant > .body"))
			}
			x.accessible(name)
			x.shot("error")
			x.check(`document.querySelector('#announcer').textContent.length > 10`)
			x.click("[data-action=retry]")
			x.answered()
			if n := x.count(".assistant"); n != 1 || x.count(".fault:not([hidden])") != 1 {
				t.Errorf("%d answers after a retry", n)
			}
		})
	}
	t.Run("loading", func(t *testing.T) {
		x := open(t, upstream.URL)
		x.ask("fake loading")
		x.answered()
		if text := x.text(".fault"); !strings.Contains(text, "still being loaded") {
			t.Error(text)
		}
		x.click("[data-action=retry]")
		x.answered()
		if text := x.text(".assistant > .body"); text != "Loaded now." || x.count(".assistant") != 1 || x.count(".versions") != 0 {
			t.Errorf("after a retry: %q", text)
		}
	})
	t.Run("gone", func(t *testing.T) {
		s, err := serve()
		if err != nil {
			t.Fatal(err)
		}
		defer s.stop()
		x := open(t, s.url)
		x.set(`{temperature: 0}`)
		x.ask(longStory)
		x.wait(`document.querySelector('.assistant > .body').innerText.length > 5`)
		s.stop()
		x.answered()
		if text := x.text(".fault"); !strings.Contains(text, "broke off") {
			t.Error(text)
		}
		x.click("[data-action=retry]")
		x.answered()
		if text := x.text(".fault"); !strings.Contains(text, "can’t be reached") {
			t.Error(text)
		}
		x.wait(`document.querySelector('#strip').innerText.includes('not reachable')`)
	})
	t.Run("overflow of a real server", func(t *testing.T) {
		x := open(t, upstream.URL)
		x.script(`document.querySelector('#question').value = 'word '.repeat(9000)`)
		x.ask(".")
		x.answered()
		if text := x.text(".fault"); !regexp.MustCompile(`^This conversation has 9,\d\d\d tokens, and the model reads at most \d,\d\d\d\.`).MatchString(text) {
			t.Error(text)
		}
	})
}

// TestKey: a server with a key is used after that was given, and the key ends with the tab.
func TestKey(t *testing.T) {
	s, err := serve("--api-key", "a secret")
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	x := open(t, s.url)
	x.set(`{temperature: 0, max_tokens: 50}`)
	x.wait(`document.querySelector('#key').open`)
	x.shot("key")
	x.accessible("key")
	x.insert("wrong")
	x.keys(kb.Enter)
	x.wait(`!document.querySelector('#key').open`)
	x.ask("Hello!")
	x.wait(`document.querySelector('#key').open`) // since the key is wrong
	if text := x.text(".fault"); !strings.Contains(text, "asks for an API key") {
		t.Error(text)
	}
	x.insert("a secret")
	x.keys(kb.Enter)
	x.wait(`document.querySelector('.assistant > .body').innerText.length > 0`)
	x.answered()
	x.check(`document.querySelectorAll('.fault:not([hidden])').length === 0`)
	x.check(`!JSON.stringify(localStorage).includes('secret') && sessionStorage['pumice-key'] === '"a secret"'`)
	x.wait(`document.querySelector('#strip .device')`)
}

// TestFiles attaches a text and what is none.
func TestFiles(t *testing.T) {
	x := open(t, upstream.URL)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	notes, binary, large := write("notes.md", "# Notes\n\n```\ncode\n```\n"), write("image.png", "\x89PNG\x00\xff"), write("large.txt", strings.Repeat("x", 1<<20+1))
	x.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{binary}))
	x.wait(`document.querySelector('#toast').innerText.includes('image.png is not a text file')`)
	x.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{large}))
	x.wait(`document.querySelector('#toast').innerText.includes('large.txt is larger than 1 MiB')`)
	x.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{notes, notes}))
	x.wait(`document.querySelectorAll('#files li').length === 2`)
	x.shot("attached")
	x.accessible("attached")
	x.click("#files .quiet")
	x.ask("fake reasoning")
	x.answered()
	content := upstream.asked(t)["messages"].([]any)[0].(object)["content"]
	if want := "notes.md:\n````\n# Notes\n\n```\ncode\n```\n````\n\nfake reasoning"; content != want {
		t.Errorf("%q, want %q", content, want)
	}
	x.click(".file summary")
	if text := x.text(".file pre"); !strings.Contains(text, "# Notes") || x.count("#files li") != 0 {
		t.Errorf("%q", text)
	}
	// Dropped on the page.
	x.script(`(() => {
		const data = new DataTransfer()
		data.items.add(new File(['dropped'], 'dropped.txt'))
		document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: data}))
	})()`)
	x.wait(`document.querySelectorAll('#files li').length === 1`)
}

// TestKeyboard does everything without a mouse.
func TestKeyboard(t *testing.T) {
	x := open(t, upstream.URL)
	focused := func() string {
		return eval[string](x, `(e => e.id || e.dataset.action || e.className || e.tagName)(document.activeElement)`)
	}
	// tab presses Tab until an element has the focus, which has to be seen.
	tab := func(selector string, modifiers ...kb.Modifier) {
		t.Helper()
		for range 60 {
			x.keys(kb.Tab, modifiers...)
			if eval[bool](x, fmt.Sprintf(`document.activeElement.matches(%q)`, selector)) {
				if !eval[bool](x, `(s => s.outlineStyle !== 'none' || document.activeElement.id === 'question')(getComputedStyle(document.activeElement))`) {
					t.Errorf("the focus of %s can't be seen", selector)
				}
				return
			}
		}
		x.shot("failed")
		t.Fatalf("Tab doesn't reach %s; it is at %s", selector, focused())
	}
	if focused() != "question" {
		t.Errorf("the focus begins at %s", focused())
	}
	x.insert("one")
	x.keys(kb.Enter, kb.ModifierShift)
	x.insert("two")
	x.check(`document.querySelector('#question').value === 'one\ntwo'`)
	x.keys("a", kb.ModifierCtrl)
	x.insert("fake markdown")
	x.keys(kb.Enter)
	x.answered()
	if focused() != "question" {
		t.Errorf("after a question the focus is at %s", focused())
	}
	x.keys(kb.ArrowUp) // edits the question
	x.wait(`document.activeElement.matches('.edit textarea')`)
	x.keys(kb.Escape)
	if focused() != "edit" {
		t.Errorf("after Escape the focus is at %s", focused())
	}
	tab(".code .quiet")
	x.keys(kb.Enter)
	tab("[data-action=again]")
	x.keys(" ")
	x.answered()
	x.check(`document.querySelector('.assistant .versions').innerText.includes('2/2') && document.activeElement !== document.body`)
	tab("#settings-button", kb.ModifierShift)
	x.keys(kb.Enter)
	x.wait(`document.querySelector('#settings').open`)
	tab("[name=temperature]")
	x.insert("0.5")
	x.keys(kb.Escape)
	x.wait(`!document.querySelector('#settings').open`)
	if focused() != "settings-button" {
		t.Errorf("after the settings the focus is at %s", focused())
	}
	tab("#new", kb.ModifierShift)
	x.keys(kb.Enter)
	if focused() != "question" || x.count(".message") != 0 {
		t.Errorf("a new conversation: the focus is at %s", focused())
	}
	x.insert("fake slow")
	x.keys(kb.Enter)
	x.wait(`document.querySelector('.assistant > .body').innerText.includes('word2')`)
	tab("#stop")
	x.keys(kb.Enter)
	x.answered()
	<-upstream.left
	if focused() != "question" {
		t.Errorf("after a stop the focus is at %s", focused())
	}
	tab("#list li:nth-child(2) .open", kb.ModifierShift)
	x.keys(kb.Enter)
	if x.count(".code") != 1 {
		t.Error("the first conversation is not shown")
	}
	x.do(chromedp.Reload())
	x.ready()
	// The composition of Chinese characters ends with Enter, which sends nothing.
	x.script(`document.querySelector('#question').focus()`)
	call(x, input.ImeSetComposition, input.ImeSetCompositionParams{Text: "ni", SelectionStart: 2, SelectionEnd: 2})
	x.script(`document.querySelector('#question').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))`)
	if x.count(".message") != 0 {
		t.Error("Enter sent a composition")
	}
}

// TestScrolling follows an answer at the end, and not where somebody reads.
func TestScrolling(t *testing.T) {
	x := open(t, upstream.URL)
	x.ask("fake long")
	x.answered()
	x.check(`(e => e.scrollHeight > 2 * e.clientHeight && e.scrollHeight - e.scrollTop - e.clientHeight < 2)(document.querySelector('#messages'))`)
	if note := x.text(".assistant > .faint"); note != "Cut off at the limit of tokens" {
		t.Errorf("%q", note)
	}
	x.script(`document.querySelector('#messages').scrollTop = 0`)
	x.wait(`!document.querySelector('#latest').hidden`)
	x.click("#latest")
	x.wait(`(e => e.scrollHeight - e.scrollTop - e.clientHeight < 2)(document.querySelector('#messages')) && document.querySelector('#latest').hidden`)
	x.ask("fake slow")
	x.wait(`document.querySelectorAll('.assistant').length === 2`)
	x.script(`document.querySelector('#messages').scrollTop = 100`)
	x.wait(`[...document.querySelectorAll('.assistant > .body')].at(-1).innerText.includes('word9')`)
	x.check(`document.querySelector('#messages').scrollTop === 100`)
	x.keys(kb.Escape)
	x.answered()
	<-upstream.left
}

// TestPhone is the page on a narrow screen with fingers.
func TestPhone(t *testing.T) {
	x := open(t, upstream.URL)
	x.phone()
	x.do(chromedp.Reload())
	x.ready()
	x.wait(`document.querySelector('#strip .device')`)
	x.shot("welcome")
	x.accessible("welcome")
	x.ask("fake markdown")
	x.answered()
	x.shot("answer")
	x.accessible("answer")
	x.script(`document.querySelector('#messages').scrollTop = 0`)
	x.shot("top")
	x.check(`getComputedStyle(document.querySelector('#sidebar')).visibility === 'hidden'`)
	x.click("#menu-button")
	x.wait(`document.querySelector('#sidebar').getBoundingClientRect().left === 0`)
	x.shot("list")
	x.accessible("list")
	x.keys(kb.Escape)
	x.wait(`getComputedStyle(document.querySelector('#sidebar')).visibility === 'hidden'`)
	x.click("#settings-button")
	x.shot("settings")
	x.accessible("settings")
	x.keys(kb.Escape)
	x.media("dark")
	x.shot("dark")
	x.accessible("dark")
}

// TestAccessible runs axe-core on the page as it looks on a desk, in both themes.
func TestAccessible(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			x := open(t, upstream.URL)
			x.media(scheme)
			x.wait(`document.querySelector('#strip .device')`)
			x.accessible("welcome")
			x.shot("welcome")
			x.ask("fake markdown")
			x.answered()
			x.accessible("answer")
			x.ask("fake reasoning")
			x.answered()
			x.click(".fold summary")
			x.accessible("reasoning")
			x.shot("reasoning")
			x.ask("fake overflow")
			x.answered()
			x.accessible("error")
			x.shot("error")
			x.click("#settings-button")
			x.accessible("settings")
			x.shot("settings")
		})
	}
}

// TestModels chooses between two models, of which the second is loaded by its first question.
func TestModels(t *testing.T) {
	s, err := serve("other=" + model)
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	x := open(t, s.url)
	x.set(`{temperature: 0, max_tokens: 50}`)
	x.wait(`document.querySelector('#strip .device')`)
	if names := eval[string](x, `[...document.querySelector('#model').options].map(o => o.value).join()`); names != "smollm2,other" {
		t.Errorf("models %s", names)
	}
	x.click("#model")
	x.keys(kb.ArrowDown)
	x.keys(kb.Enter)
	x.wait(`document.querySelector('#strip').innerText.includes('loads with the first question')`)
	x.accessible("not loaded")
	x.ask("Hello!")
	x.answered()
	x.wait(`document.querySelector('#strip .device')`)
	x.do(chromedp.Reload())
	x.ready()
	x.check(`document.querySelector('#model').value === 'other'`)
}

// TestPicture takes the picture of README.md: what the default model answers, greedily.
func TestPicture(t *testing.T) {
	x := open(t, upstream.URL)
	x.set(`{temperature: 0, probabilities: true}`)
	x.wait(`document.querySelector('#strip .device')`)
	x.ask("Describe Rome in one sentence.")
	x.answered()
	x.click("#new")
	x.ask("Write a short Python function that returns the larger of two numbers.")
	x.answered()
	x.ask("What is the capital of France? Answer in one sentence.")
	x.answered()
	if answer := x.text(".assistant > .body"); answer != "The capital of France is Paris." {
		t.Errorf("%q", answer)
	}
	x.wait(`document.querySelector('.code') && document.querySelector('#strip .pages')`)
	at := eval[[2]float64](x, `(b => [b.x + b.width / 2, b.y + b.height / 2])([...document.querySelectorAll('.token')].find(e => e.textContent.includes('Paris')).getBoundingClientRect())`)
	x.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0], at[1]))
	x.check(`!document.querySelector('#tip').hidden`)
	x.shot("page")
}

// TestNoPage: without the page there is nothing at /.
func TestNoPage(t *testing.T) {
	s, err := serve("--no-webui")
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	ctx, cancel := chromedp.NewContext(browser)
	defer cancel()
	var status int64
	response, err := chromedp.RunResponse(ctx, chromedp.Navigate(s.url))
	if err == nil {
		status = response.Status
	}
	if err != nil || status != 404 {
		t.Errorf("%d, %v", status, err)
	}
}
