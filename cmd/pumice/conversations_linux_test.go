package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/chat"
	"pumice/sample"
)

// newRepl begins conversations like fresh, whose output goes into files. said returns what was written since the last call.
func newRepl(t *testing.T, fresh talk) (r *repl, said func() string) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files[i] = f
	}
	r = &repl{p: newProgram(nil, files[0], files[1]), fresh: fresh, limit: context.Background()}
	r.begin("")
	seen := [2]int{}
	return r, func() (new string) {
		for i, f := range files {
			text := string(readAll(t, f.Name()))
			new, seen[i] = new+text[seen[i]:], len(text)
		}
		return new
	}
}

// TestConversationCommands goes from one conversation to another, and makes every mistake.
func TestConversationCommands(t *testing.T) {
	r, said := newRepl(t, talk{})
	ask := func(question, answer string) {
		r.talk.messages = append(r.talk.messages, chat.Message{Role: "user", Content: question}, chat.Message{Role: "assistant", Content: answer})
	}
	ask("red?\nAnd blue?", "pink")
	const only, missing, number = "this is the only conversation", "; /list shows all\n", "would be taken for a number"
	for _, c := range []struct{ line, says, prompt string }{
		{"/list", "*  1  2 messages    red?...\n", ">>> "},
		{"/switch 1", ">>> red?...\npink\n", ">>> "},
		{"/close", only, ">>> "},
		{"/close 1", only, ">>> "},
		{"/switch", "/switch needs a name or a number", ">>> "},
		{"/switch work", `there is no conversation "work"` + missing, ">>> "},
		{"/new  good \t work ", "conversation good work begins; /switch 1 goes back", "good work >>> "},
		{"/new good work", `there is a conversation "good work" already`, "good work >>> "},
		{"/new", "conversation 3 begins; /switch good work goes back", "3 >>> "},
		{"/new goods", "conversation goods begins", "goods >>> "},
		{"/switch goo", `"goo" begins the names of several conversations: good work, goods`, "goods >>> "},
		{"/switch good ", `"good" begins the names`, "goods >>> "},
		{"/switch good w", "conversation good work is empty", "good work >>> "},
		{"/switch Goods", "there is no conversation", "good work >>> "},
		{"/switch goods", "conversation goods is empty", "goods >>> "},
		{"/switch 1", "1 >>> red?...\npink\n", "1 >>> "},
		{"/new 3", number, "1 >>> "},
		{"/new 007", number, "1 >>> "},
		{"/new -1", number, "1 >>> "},
		{"/new #2", number, "1 >>> "},
		{"/new ３", number, "1 >>> "},
		{"/new ٣", number, "1 >>> "},
		{"/new 3 wishes", "conversation 3 wishes begins", "3 wishes >>> "},
		{"/switch 3", "conversation 3 is empty", "3 >>> "},
		{"/new 50 ways", "conversation 50 ways begins", "50 ways >>> "},
		{"/switch 50", `no conversation "50"`, "50 ways >>> "}, // and not the name that begins so
		{"/switch 03", "there is no conversation", "50 ways >>> "},
		{"/list", "   1  2 messages    red?...\n   2  0 messages    good work\n   3  0 messages\n   4  0 messages    goods\n" +
			"   5  0 messages    3 wishes\n*  6  0 messages    50 ways\n", "50 ways >>> "},
		{"/close goods", "conversation goods is closed\n", "50 ways >>> "},
		{"/close goods", "there is no conversation", "50 ways >>> "},
		{"/switch 4", "there is no conversation", "50 ways >>> "},
		{"/close", "conversation 50 ways is closed\nconversation 3 wishes is empty\n", "3 wishes >>> "},
		{"/new", "conversation 7 begins", "7 >>> "}, // no number is given twice
		{"/switch 1", "pink", "1 >>> "},
		{"/close 1", "conversation 1 is closed\nconversation good work is empty\n", "good work >>> "},
		{"/new goods", "conversation goods begins", "goods >>> "}, // the name is free again
		{"/close go", "several conversations: good work, goods", "goods >>> "},
		{"/close 3 w", "conversation 3 wishes is closed", "goods >>> "},
		{"/close 3", "conversation 3 is closed", "goods >>> "},
		{"/close 7", "conversation 7 is closed", "goods >>> "},
		{"/close good w", "conversation good work is closed", ">>> "},
		{"/close goods", only, ">>> "},
		{"/list", "*  8  0 messages    goods\n", ">>> "},
	} {
		leave, err := r.do(c.line)
		if got := said(); leave || err != nil || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, %v; want %q", c.line, got, err, c.says)
		}
		if got := r.prompt(); got != c.prompt {
			t.Errorf("the prompt after %s is %q, want %q", c.line, got, c.prompt)
		}
	}
}

// TestEnteringAConversationShowsItsEnd loads conversations as programs may write them.
func TestEnteringAConversationShowsItsEnd(t *testing.T) {
	long := strings.Repeat("é", 201)
	for _, c := range []struct {
		name     string
		messages []chat.Message
		want     string
	}{
		{"nothing", nil, "conversation 1 is empty\n"},
		{"a system message", []chat.Message{{Role: "system", Content: "s"}}, "conversation 1 is empty\n"},
		{"a question", []chat.Message{{Role: "user", Content: "q"}}, ">>> q\n(no answer yet; /regen asks for one)\n"},
		{"an answer alone", []chat.Message{{Role: "assistant", Content: "a"}}, "a\n"},
		{"a tool", []chat.Message{{Role: "user", Content: "q"}, {Role: "assistant", Content: "a"}, {Role: "tool", Content: "t"},
			{Role: "assistant", Content: "b\nc"}}, ">>> q\na\nb\nc\n"},
		{"two questions", []chat.Message{{Role: "user", Content: "q"}, {Role: "assistant", Content: "a"}, {Role: "user", Content: "r"},
			{Role: "assistant", Content: "b"}}, ">>> r\nb\n"},
		{"a long question", []chat.Message{{Role: "user", Content: long}, {Role: "assistant", Content: "a"}}, ">>> " + long[:400] + "...\na\n"},
		{"the longest question", []chat.Message{{Role: "user", Content: long[:400]}, {Role: "assistant", Content: "a"}}, ">>> " + long[:400] + "\na\n"},
		{"lines", []chat.Message{{Role: "user", Content: "\nq\r\nr"}, {Role: "assistant", Content: "a"}}, ">>> q...\na\n"},
	} {
		r, said := newRepl(t, talk{messages: c.messages})
		if _, err := r.do("/switch 1"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, said()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestNamesOfConversationsAreVisible gives names that would drive a terminal. Output to files, where nothing else filters it,
// shows that they are harmless as they are kept.
func TestNamesOfConversationsAreVisible(t *testing.T) {
	for _, c := range []struct{ name, typed, want string }{
		{"title", "\x1b]0;title\a", `\x1b]0;title\x07`},
		{"clear", "a\x1b[2Jb", `a\x1b[2Jb`},
		{"C1", "\u009b2J", `\u009b2J`},
		{"invalid bytes", "\x9b31m\xff\xe4", `\x9b31m\xff\xe4`},
		{"override", "\u202eevil", `\u202eevil`},
		{"isolate", "\u2066evil", `\u2066evil`},
		{"invisible", "\u200b", `\u200b`},
		{"tag", "\U000e0041", `\U000e0041`},
		{"NUL, backspace, DEL", "a\x00b\bc\x7f", `a\x00b\x08c\x7f`},
		{"lines", "a\nb\r\nc\rd\u2028e", "a b c d e"},
		{"nothing", " \t\u00a0\u3000", ""},
		{"letters of the world", "工作 नमस्ते שלום 😀", "工作 नमस्ते שלום 😀"},
		{"the prompt", ">>> ", ">>>"},
		{"verbs", "%s%n%!d", "%s%n%!d"},
		{"a command", "/bye", "/bye"},
		{"the longest", strings.Repeat("é", maxName), strings.Repeat("é", maxName)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, said := newRepl(t, talk{})
			shown := ""
			do := func(line string) {
				t.Helper()
				if leave, err := r.do(line); leave || err != nil {
					t.Fatalf("%q: %v, %v", line, leave, err)
				}
				shown += r.prompt()
			}
			do("/new " + c.typed)
			if got := r.talk.name; got != c.want {
				t.Errorf("the name is %q, want %q", got, c.want)
			}
			begun := r.talk
			do("/switch 1")
			if c.want != "" {
				do("/switch " + c.typed)
				if r.talk != begun {
					t.Errorf("/switch %q doesn't find it", c.typed)
				}
			}
			for _, command := range []string{"/list", "/new " + c.typed, "/switch x" + c.typed, "/close x" + c.typed, "/close " + c.typed} {
				do(command)
			}
			for _, bad := range uncontrolled(shown + said()) {
				t.Errorf("%q at byte %d of %q", bad.text, bad.at, shown)
			}
		})
	}
	r, said := newRepl(t, talk{})
	for _, long := range []string{strings.Repeat("é", maxName+1), hostileBytes, strings.Repeat("x", 1<<20)} {
		for _, command := range []string{"/new ", "/switch ", "/close "} {
			if _, err := r.do(command + long); err != nil {
				t.Fatal(err)
			}
			if text := said(); len(text) > 200 || len(uncontrolled(text)) > 0 || text == "" || len(r.talks) != 1 {
				t.Errorf("%s%.50q: %d conversations; %d bytes: %.300q", command, long, len(r.talks), len(text), text)
			}
		}
	}
}

// TestConversationsStayApart asks in turn in two conversations, and looks at the prompts that the model gets.
func TestConversationsStayApart(t *testing.T) {
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	template := filepath.Join(t.TempDir(), "any.jinja")
	if err := os.WriteFile(template, []byte("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"), 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := pumice.Open(t.Context(), chatModel(t), pumice.Options{ChatTemplate: template, Context: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	brief := chat.Message{Role: "system", Content: "Be brief."}
	fresh := talk{engine: engine, messages: []chat.Message{brief},
		options: pumice.GenerateOptions{MaxTokens: 3, Sampling: sample.Params{Temperature: 1, Seed: 7}}}
	r, said := newRepl(t, fresh)
	r.seeded = true
	r.talk.options.Sampling.Seed = 7
	do := func(line string) {
		t.Helper()
		if _, err := r.do(line); err != nil {
			t.Fatal(err)
		}
	}
	// A conversation here is what this test knows of it.
	want := map[*talk][]chat.Message{}
	ask := func(question string) (answer string) {
		t.Helper()
		here := append(want[r.talk], chat.Message{Role: "user", Content: question})
		prompt, err := engine.EncodeChat(t.Context(), here, chat.Options{})
		if err != nil {
			t.Fatal(err)
		}
		do(question)
		result := r.talk.session.Result()
		if !slices.Equal(result.PromptTokens, prompt.IDs) {
			t.Errorf("the prompt of %q is not that of %q; %s", question, here, said())
		}
		want[r.talk] = append(here, chat.Message{Role: "assistant", Content: result.Text})
		return result.Text
	}
	one := r.talk
	want[one] = []chat.Message{brief}
	first := ask("red")
	do("/system Be long.")
	want[one][0] = chat.Message{Role: "system", Content: "Be long."}
	do("/new work")
	two := r.talk
	want[two] = []chat.Message{brief} // as the command line says
	if got := ask("red"); got != first {
		t.Errorf("with a seed, the first answers are %q and %q", first, got)
	}
	do("/switch 1")
	ask("green")
	yellow := ask("yellow")
	if got := one.session.Result().Stats.CachedN; got == 0 {
		t.Error("no token of the question before is reused")
	}
	do("/switch work")
	do("/undo")
	want[two] = want[two][:1]
	ask("blue")
	if got := one.session.Result().Text; got != yellow {
		t.Errorf("/stats of the other conversation would describe the answer %q, not %q", got, yellow)
	}
	do("/new")
	three := r.talk
	want[three] = []chat.Message{brief}
	do("/switch 1")
	do("/reset")
	want[one] = want[one][:1]
	do("/switch work")
	saved := filepath.Join(t.TempDir(), "saved")
	do("/save " + saved)
	do("/switch 3")
	do("/load " + saved)
	want[three] = want[two]
	ask("white")
	do("/close work")
	do("/switch 1")
	ask("black")

	for _, c := range []struct {
		name string
		talk *talk
		seed uint64
	}{{"one", one, 7 + 4}, {"two", two, 7 + 2}, {"three", three, 7 + 1}} {
		if diff := cmp.Diff(want[c.talk], c.talk.messages); diff != "" {
			t.Errorf("messages of %s (-want +got):\n%s", c.name, diff)
		}
		if got := c.talk.options.Sampling.Seed; got != c.seed {
			t.Errorf("%s asks next with seed %d, want %d", c.name, got, c.seed)
		}
	}
	r.seeded = false
	do("/new")
	do("/new")
	if a, b := r.talks[2].options.Sampling.Seed, r.talks[3].options.Sampling.Seed; a == b {
		t.Errorf("without --seed both begin with %d", a)
	}
}

// TestControlCLeavesOtherConversations stops answers in two conversations at a terminal, and goes on in each.
func TestControlCLeavesOtherConversations(t *testing.T) {
	dir, model := t.TempDir(), chatModel(t)
	config := filepath.Join(model, "config.json") // of a context that no answer fills before it is stopped
	text := strings.Replace(string(readAll(t, config)), `"max_position_embeddings": 512`, `"max_position_embeddings": 32768`, 1)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := converse(t, model, "--quiet", "--temp", "0", "--context", "32768")
	stop := func(question string) {
		t.Helper()
		p.types(question + "\r")
		p.await(t, question+"\r\n")
		p.awaitAnswer(t)
		p.interrupt()
		p.await(t, "(stopped)")
		p.await(t, ">>> ")
	}
	stop("first")
	p.enter("/new work", "conversation work begins; /switch 1 goes back", "work")
	stop("second")
	p.enter("/list", "   1  2 messages    first", "*  2  2 messages    work: second", "work")
	p.types("dropped\x03")
	p.await(t, "dropped^C")
	p.enter("/switch 1", "1 >>> first", "1")
	stop("third")
	p.enter("/save "+dir+"/one", "4 messages saved")
	p.enter("/switch w", "work >>> second")
	p.enter("/save "+dir+"/two", "2 messages saved")
	p.enter("/close 1", "conversation 1 is closed")
	if text := p.text(); strings.HasSuffix(text, " >>> ") {
		t.Errorf("the prompt of the only conversation: %q", text[len(text)-40:])
	}
	stop("fourth")
	p.enter("/save "+dir+"/four", "4 messages saved")
	p.types("/bye\r")
	p.leaves(0)

	for file, questions := range map[string][]string{"one": {"first", "third"}, "two": {"second"}, "four": {"second", "fourth"}} {
		var messages []chat.Message
		if err := json.Unmarshal(readAll(t, filepath.Join(dir, file)), &messages); err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, m := range messages {
			if i%2 == 0 {
				got = append(got, m.Content)
			} else if m.Role != "assistant" || m.Content == "" {
				t.Errorf("%s: answer %d is %+v", file, i/2, m)
			}
		}
		if !slices.Equal(got, questions) {
			t.Errorf("%s: questions %q, want %q", file, got, questions)
		}
	}
}
