package chat

import (
	"fmt"
	"strings"
)

// builtins lists the built-in formats in the order of Names. Each is checked against the program that its model was
// published with, or its comment names what it follows instead.
var builtins = []*Format{
	// XVERSE-7B-Chat and 13B-Chat, first versions: no BOS; each turn is tokenized by itself (_build_chat_input of the
	// model's own code).
	{name: "xverse", render: renderXVERSE, stop: []string{"<|endoftext|>"}, cutLeft: true},
	// Qwen, MPT-7B-Chat and many more, without a default system text.
	{name: "chatml", render: chatML(""), stop: []string{"<|im_end|>"}, needs: []string{"<|im_start|>", "<|im_end|>"}},
	// ChatML with the default system text of SmolLM2's template.
	{name: "smollm2", render: chatML("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
		stop: []string{"<|im_end|>"}, needs: []string{"<|im_start|>", "<|im_end|>"}},
	// Baichuan2-7B/13B-Chat: each message is tokenized by itself after the id of its role, no BOS and no EOS
	// (generation_utils.py).
	{name: "baichuan2", render: renderBaichuan2, stop: []string{"</s>", baichuanUser}, needs: []string{baichuanUser, baichuanAssistant}, cutLeft: true},
	// ChatGLM2-6B: two ids, then numbered rounds as one text (build_prompt).
	{name: "chatglm2", render: renderChatGLM2, stop: []string{"</s>"}, needs: []string{"[gMASK]", "sop"}},
	// InternLM-Chat-7B (build_inputs of the first version).
	{name: "internlm", render: renderInternLM, stop: []string{"<eoa>", "</s>"},
		needs: []string{"<s>", "<|User|>", "<|Bot|>", "<eoh>", "<eoa>"}},
	// Vicuna v1.1 and v1.5 (FastChat's vicuna_v1.1).
	{name: "vicuna", render: renderVicuna, stop: []string{"</s>"}, needs: []string{"<s>", "</s>"}},
	// Llama-2-chat.
	{name: "llama2", render: renderLlama2, stop: []string{"</s>"}, needs: []string{"<s>", "</s>"}},
	// Llama-3-Instruct.
	{name: "llama3", render: renderLlama3, stop: []string{"<|eot_id|>", "<|end_of_text|>"},
		needs: []string{"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
	// Falcon-7B-Instruct has no official format; this is FastChat's.
	{name: "falcon", render: renderFalcon, stop: []string{"\nUser:", "<|endoftext|>"}},
	// MPT-7B-Instruct was trained on single rounds; earlier rounds are written like the last.
	{name: "mpt-instruct", render: renderMPTInstruct, stop: []string{"### Instruction:", "<|endoftext|>"}},
	// Gemma, Gemma 2 and 3: the assistant is called model, and a system text precedes the first user text.
	{name: "gemma", render: renderGemma, stop: []string{"<end_of_turn>"}, needs: []string{"<bos>", "<start_of_turn>", "<end_of_turn>"}},
}

// Names lists the built-in formats.
func Names() []string {
	names := make([]string, len(builtins))
	for i, f := range builtins {
		names[i] = f.name
	}
	return names
}

// Builtin returns the built-in format of that name.
func Builtin(name string) (*Format, error) {
	for _, f := range builtins {
		if f.name == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("chat: no built-in format %q; the built-in ones are %s", name, strings.Join(Names(), ", "))
}

// page collects segments.
type page struct {
	parse    bool // special tokens in messages are parsed
	tokens   []string
	joins    bool
	segments []Segment
}

// token adds a special token by its id. The text after it is not joined to the text before it.
func (p *page) token(t string) {
	p.tokens = append(p.tokens, t)
	p.joins = false
}

// cut keeps the next text from being joined to the text before it.
func (p *page) cut() { p.joins = false }

func (p *page) add(text string, parse bool) {
	if text == "" && len(p.tokens) == 0 {
		return
	}
	if n := len(p.segments); text != "" && p.joins && p.segments[n-1].ParseSpecial == parse {
		p.segments[n-1].Text += text
		return
	}
	p.segments = append(p.segments, Segment{Tokens: p.tokens, Text: text, ParseSpecial: parse, Join: p.joins})
	p.tokens = nil
	p.joins = text != ""
}

// own writes the format's own text, in which special tokens are spelled out; said writes a message's text.
func (p *page) own(text string)  { p.add(text, true) }
func (p *page) said(text string) { p.add(text, p.parse) }

func (p *page) done() []Segment {
	p.add("", false) // for tokens without a text after them
	return p.segments
}

// conversation is a dialogue in its plain form: an optional system text, then user and assistant in turn, user first.
type conversation struct {
	*page
	system    string
	hasSystem bool
	turns     []Message
	prompt    bool // the assistant's turn is next: the last turn is the user's
}

// last reports whether turn i is the one to answer.
func (c *conversation) last(i int) bool { return c.prompt && i == len(c.turns)-1 }

// dialogue checks msgs and returns them as a conversation. system says whether the format has a system role.
func (f *Format) dialogue(msgs []Message, o Options, system bool) (*conversation, error) {
	c := &conversation{page: &page{parse: o.ParseSpecial}, turns: msgs, prompt: !o.NoGenerationPrompt}
	first := 0
	if msgs[0].Role == "system" {
		if !system {
			return nil, &Error{f.name, 0, "this format has no system role: put the text into the first user message"}
		}
		c.system, c.hasSystem, c.turns, first = msgs[0].Content, true, msgs[1:], 1
	}
	for i, m := range c.turns {
		want := "user"
		if i%2 == 1 {
			want = "assistant"
		}
		if m.Role != want {
			text := fmt.Sprintf("role %q, want %q: this format has user and assistant in turn", m.Role, want)
			return nil, &Error{f.name, first + i, text}
		}
	}
	if len(c.turns) == 0 {
		return nil, &Error{f.name, -1, "no user message"}
	}
	if c.prompt && len(c.turns)%2 == 0 {
		return nil, &Error{f.name, len(msgs) - 1, "the last message is the assistant's: no message to answer"}
	}
	return c, nil
}

func renderXVERSE(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, false)
	if err != nil {
		return nil, err
	}
	for i, m := range c.turns {
		c.cut()
		if m.Role == "assistant" {
			c.own("Assistant: ")
			c.said(m.Content)
			c.token("<|endoftext|>")
			continue
		}
		c.own("Human: ")
		c.said(m.Content)
		if c.last(i) {
			c.own("\n\nAssistant: ")
		} else {
			c.own("\n\n")
		}
	}
	return c.done(), nil
}

func chatML(system string) func(f *Format, msgs []Message, o Options) ([]Segment, error) {
	return func(f *Format, msgs []Message, o Options) ([]Segment, error) {
		p := &page{parse: o.ParseSpecial}
		if system != "" && msgs[0].Role != "system" {
			p.own("<|im_start|>system\n" + system + "<|im_end|>\n")
		}
		for i, m := range msgs {
			if err := f.role(i, m, "system", "user", "assistant", "tool"); err != nil {
				return nil, err
			}
			p.own("<|im_start|>" + m.Role + "\n")
			p.said(m.Content)
			p.own("<|im_end|>\n")
		}
		if !o.NoGenerationPrompt {
			p.own("<|im_start|>assistant\n")
		}
		return p.done(), nil
	}
}

func (f *Format) role(i int, m Message, allowed ...string) error {
	for _, r := range allowed {
		if m.Role == r {
			return nil
		}
	}
	return &Error{f.name, i, fmt.Sprintf("role %q, want one of %s", m.Role, strings.Join(allowed, ", "))}
}

// Tokens 195 and 196 of the real vocabulary.
const (
	baichuanUser      = "<reserved_106>"
	baichuanAssistant = "<reserved_107>"
)

func renderBaichuan2(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, true)
	if err != nil {
		return nil, err
	}
	c.said(c.system)
	for _, m := range c.turns {
		if m.Role == "user" {
			c.token(baichuanUser)
		} else {
			c.token(baichuanAssistant)
		}
		c.said(m.Content)
	}
	if c.prompt {
		c.token(baichuanAssistant)
	}
	return c.done(), nil
}

func renderChatGLM2(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, false)
	if err != nil {
		return nil, err
	}
	c.token("[gMASK]")
	c.token("sop")
	for i, m := range c.turns {
		if m.Role == "user" {
			c.own(fmt.Sprintf("[Round %d]\n\n问：", i/2+1))
		} else {
			c.own("答：")
		}
		c.said(m.Content)
		c.own("\n\n")
	}
	if c.prompt {
		c.own("答：")
	}
	return c.done(), nil
}

func renderInternLM(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, false)
	if err != nil {
		return nil, err
	}
	for i, m := range c.turns {
		switch {
		case m.Role == "assistant":
			c.own("<|Bot|>:")
			c.said(m.Content)
			c.own("<eoa>\n")
			continue
		case i == 0 || !c.last(i): // the round to answer has BOS only if it is the first
			c.own("<s>")
		}
		c.own("<|User|>:")
		c.said(m.Content)
		c.own("<eoh>\n")
	}
	if c.prompt {
		c.own("<|Bot|>:")
	}
	return c.done(), nil
}

const vicunaSystem = "A chat between a curious user and an artificial intelligence assistant. " +
	"The assistant gives helpful, detailed, and polite answers to the user's questions."

func renderVicuna(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, true)
	if err != nil {
		return nil, err
	}
	c.own("<s>")
	if c.hasSystem {
		c.said(c.system)
	} else {
		c.own(vicunaSystem)
	}
	c.own(" ")
	for _, m := range c.turns {
		if m.Role == "assistant" {
			c.own(" ASSISTANT: ")
			c.said(m.Content)
			c.own("</s>")
			continue
		}
		c.own("USER: ")
		c.said(m.Content)
	}
	if c.prompt {
		c.own(" ASSISTANT:")
	}
	return c.done(), nil
}

func renderLlama2(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, true)
	if err != nil {
		return nil, err
	}
	for i, m := range c.turns {
		if m.Role == "assistant" {
			c.own(" ")
			c.said(m.Content)
			c.own(" </s>")
			continue
		}
		c.own("<s>[INST] ")
		if i == 0 && c.hasSystem {
			c.own("<<SYS>>\n")
			c.said(c.system)
			c.own("\n<</SYS>>\n\n")
		}
		c.said(m.Content)
		c.own(" [/INST]")
	}
	return c.done(), nil
}

func renderLlama3(f *Format, msgs []Message, o Options) ([]Segment, error) {
	p := &page{parse: o.ParseSpecial}
	p.own("<|begin_of_text|>")
	for i, m := range msgs {
		if err := f.role(i, m, "system", "user", "assistant", "tool", "ipython"); err != nil {
			return nil, err
		}
		p.own("<|start_header_id|>" + m.Role + "<|end_header_id|>\n\n")
		p.said(m.Content)
		p.own("<|eot_id|>")
	}
	if !o.NoGenerationPrompt {
		p.own("<|start_header_id|>assistant<|end_header_id|>\n\n")
	}
	return p.done(), nil
}

func renderFalcon(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, false)
	if err != nil {
		return nil, err
	}
	for _, m := range c.turns {
		if m.Role == "user" {
			c.own("User: ")
		} else {
			c.own("Assistant: ")
		}
		c.said(m.Content)
		c.own("\n\n")
	}
	if c.prompt {
		c.own("Assistant:")
	}
	return c.done(), nil
}

func renderMPTInstruct(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, false)
	if err != nil {
		return nil, err
	}
	c.own("Below is an instruction that describes a task. Write a response that appropriately completes the request.\n")
	for _, m := range c.turns {
		if m.Role == "user" {
			c.own("### Instruction:\n")
		} else {
			c.own("### Response:\n")
		}
		c.said(m.Content)
		c.own("\n")
	}
	if c.prompt {
		c.own("### Response:\n")
	}
	return c.done(), nil
}

func renderGemma(f *Format, msgs []Message, o Options) ([]Segment, error) {
	c, err := f.dialogue(msgs, o, true)
	if err != nil {
		return nil, err
	}
	c.own("<bos>")
	for i, m := range c.turns {
		if m.Role == "user" {
			c.own("<start_of_turn>user\n")
		} else {
			c.own("<start_of_turn>model\n")
		}
		if i == 0 && c.hasSystem {
			c.said(c.system)
			c.own("\n\n")
		}
		c.said(strings.TrimSpace(m.Content))
		c.own("<end_of_turn>\n")
	}
	if c.prompt {
		c.own("<start_of_turn>model\n")
	}
	return c.done(), nil
}
