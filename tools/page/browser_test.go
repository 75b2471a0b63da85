// Package page drives the page of pumice serve in a headless Chromium, against the program itself with the default model, and
// against stand-in answers that a small model does not give at will. tools/page.sh runs it. tools/openwebui.sh runs the test that
// drives the pages of Open WebUI instead.
package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// What tools/page.sh and tools/openwebui.sh give: programs and files.
var (
	chromium  = os.Getenv("PUMICE_TEST_CHROMIUM")
	pumice    = os.Getenv("PUMICE_TEST_PROGRAM")
	model     = os.Getenv("PUMICE_TEST_SMOLLM2")
	axe       = os.Getenv("PUMICE_TEST_AXE")       // of tools/page.sh alone
	openWebUI = os.Getenv("PUMICE_TEST_OPENWEBUI") // of tools/openwebui.sh alone
	shots     = os.Getenv("PUMICE_TEST_SHOTS")     // a folder for screenshots; "": none are kept
)

var (
	browser  context.Context
	server   *program // with the default model
	upstream *standIn // in front of the server
)

func TestMain(m *testing.M) {
	if chromium == "" || pumice == "" || model == "" {
		fmt.Println("skipped: tools/page.sh sets PUMICE_TEST_CHROMIUM, PUMICE_TEST_PROGRAM and PUMICE_TEST_SMOLLM2")
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox,
		chromedp.Flag("accept-lang", "en-US")) // whatever the environment's is; the C locale's is en-US@posix, which Intl refuses
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	browser, cancel = chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(browser); err != nil {
		fmt.Println("chromium:", err)
		return 1
	}
	var err error
	if server, err = serve(); err != nil {
		fmt.Println("pumice serve:", err)
		return 1
	}
	defer server.stop()
	upstream = newStandIn(server.url)
	defer upstream.Close()
	code := m.Run()
	if faults := server.faults(); faults != "" {
		fmt.Printf("the server's log has errors:\n%s", faults)
		return 1
	}
	return code
}

// A program is a pumice serve that runs.
type program struct {
	url string
	cmd *exec.Cmd

	mu  sync.Mutex
	log []string // lines
}

// serve starts the program on a free port, with the default model called smollm2, and waits until that is loaded.
func serve(args ...string) (*program, error) {
	cmd := exec.Command(pumice, append([]string{"serve", "smollm2=" + model, "--port", "0"}, args...)...)
	messages, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p, lines := &program{cmd: cmd}, bufio.NewScanner(messages)
	for lines.Scan() {
		p.log = append(p.log, lines.Text())
		if m := regexp.MustCompile(`^listening on (http://\S+)$`).FindStringSubmatch(lines.Text()); m != nil {
			p.url = m[1]
		}
		if strings.HasSuffix(lines.Text(), " is loaded") {
			go p.keep(lines)
			return p, nil
		}
	}
	return nil, fmt.Errorf("it ended: %s", strings.Join(p.log, "\n"))
}

// keep adds the lines that are still to come to the log.
func (p *program) keep(lines *bufio.Scanner) {
	for lines.Scan() {
		p.mu.Lock()
		p.log = append(p.log, lines.Text())
		p.mu.Unlock()
	}
}

// faults are the lines of the log about answers that the server failed to give.
func (p *program) faults() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var faults strings.Builder
	for _, line := range p.log {
		if strings.Contains(line, "request failed") || strings.Contains(line, "broke off") {
			faults.WriteString(line + "\n")
		}
	}
	return faults.String()
}

func (p *program) stop() {
	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
}

// A tab shows the page, in a browser that has kept nothing.
type tab struct {
	ctx context.Context
	t   *testing.T
	url string

	mu       sync.Mutex
	requests []string
}

const desktopWidth, desktopHeight = 1280, 800
const phoneWidth, phoneHeight = 390, 844

// open opens the page of a server.
func open(t *testing.T, url string) *tab {
	t.Helper()
	return openIn(t, url, browser, chromedp.WithNewBrowserContext())
}

// another opens the page in another tab of the same browser.
func (x *tab) another() *tab {
	x.t.Helper()
	return openIn(x.t, x.url, x.ctx)
}

func openIn(t *testing.T, url string, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	x := newTab(t, url, parent, options...)
	// Whatever a test does, no script fails, and the policy forbids nothing that the page needs.
	x.listen(func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("an exception: %v", &chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails})
		case *runtime.EventConsoleAPICalled:
			if e.Type == "error" || e.Type == "warning" {
				text, _ := json.Marshal(e.Args)
				t.Errorf("the console: %s", text)
			}
		case *log.EventEntryAdded:
			if e.Entry.Source != "network" {
				t.Errorf("the log: %s: %s", e.Entry.Source, e.Entry.Text)
			}
		}
	})
	call(x, log.Enable, cdp.Empty{})
	x.do(chromedp.Navigate(url))
	x.ready()
	return x
}

// newTab makes an empty tab, whose pages must ask nobody but a server.
func newTab(t *testing.T, url string, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	t.Cleanup(cancel)
	ctx, cancelTime := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancelTime)
	x := &tab{ctx: ctx, t: t, url: url}
	x.listen(func(event any) {
		x.mu.Lock()
		defer x.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			x.requests = append(x.requests, e.Request.URL)
		case *network.EventWebSocketCreated:
			x.requests = append(x.requests, strings.Replace(e.URL, "ws", "http", 1))
		}
	})
	call(x, network.Enable, network.EnableParams{})
	call(x, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	x.media("light")
	x.do(chromedp.EmulateViewport(desktopWidth, desktopHeight))
	t.Cleanup(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, u := range x.requests {
			if !strings.HasPrefix(u, url) && !strings.HasPrefix(u, "data:") {
				t.Errorf("the page asks for %s", u)
			}
		}
	})
	return x
}

// listen has a function called with each event.
func (x *tab) listen(f func(event any)) {
	x.t.Helper()
	if err := chromedp.Listen(x.ctx, f); err != nil {
		x.t.Fatal(err)
	}
}

// media has the system prefer light or dark, and no motion.
func (x *tab) media(scheme string) {
	x.t.Helper()
	call(x, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

func (x *tab) phone() {
	x.t.Helper()
	x.do(chromedp.EmulateViewport(phoneWidth, phoneHeight, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulateScale(2)))
}

func (x *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	x.t.Helper()
	if err := chromedp.Do(x.ctx, actions...); err != nil {
		x.shot("failed")
		x.t.Fatal(err)
	}
}

// set has the next conversations begin with settings, as a JSON object.
func (x *tab) set(settings string) {
	x.t.Helper()
	x.script(`localStorage.pumice = JSON.stringify({...JSON.parse(localStorage.pumice ?? '{}'), settings: ` + settings + `})`)
	x.do(chromedp.Reload())
	x.ready()
}

// call runs a command of the protocol.
func call[P, R any](x *tab, command cdp.Command[P, R], params P) R {
	x.t.Helper()
	result, err := chromedp.Call(x.ctx, command, params)
	if err != nil {
		x.t.Fatal(err)
	}
	return result
}

// script runs JavaScript.
func (x *tab) script(script string) {
	x.t.Helper()
	x.do(chromedp.Evaluate[chromedp.Void](script))
}

// clipboard lets a script read what was copied.
func (x *tab) clipboard() {
	x.t.Helper()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(x.ctx, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{Permission: &cdpbrowser.PermissionDescriptor{Name: name},
			Setting: cdpbrowser.PermissionSettingGranted, Origin: x.url, BrowserContextID: chromedp.FromContext(x.ctx).BrowserContextID})
		if err != nil {
			x.t.Fatal(err)
		}
	}
}

// insert types a text where the focus is.
func (x *tab) insert(text string) {
	x.t.Helper()
	call(x, input.InsertText, input.InsertTextParams{Text: text})
}

// ready waits until the page has started.
func (x *tab) ready() {
	x.t.Helper()
	x.wait(`!document.querySelector('#app').hidden && document.querySelector('#model').value !== ''`)
}

// eval evaluates a JavaScript expression, or waits for the promise that it is.
func eval[T any](x *tab, script string) T {
	x.t.Helper()
	v, err := chromedp.Run(x.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		x.shot("failed")
		x.t.Fatalf("%v, in %s", err, script)
	}
	return v
}

// wait waits until an expression is true.
func (x *tab) wait(condition string) {
	x.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if eval[bool](x, "Boolean("+condition+")") {
			return
		}
		if time.Now().After(end) {
			x.shot("failed")
			x.t.Fatalf("never: %s\n%s", condition, eval[string](x, "document.body.innerText"))
		}
	}
}

func (x *tab) check(condition string) {
	x.t.Helper()
	if !eval[bool](x, "Boolean("+condition+")") {
		x.t.Errorf("not so: %s", condition)
	}
}

func (x *tab) text(selector string) string {
	x.t.Helper()
	return eval[string](x, fmt.Sprintf(`[...document.querySelectorAll(%q)].at(-1)?.innerText ?? ''`, selector))
}

func (x *tab) count(selector string) int {
	x.t.Helper()
	return eval[int](x, fmt.Sprintf(`document.querySelectorAll(%q).length`, selector))
}

// click clicks with the mouse where the last such element is, which must be visible there.
func (x *tab) click(selector string) {
	x.t.Helper()
	at := x.place(selector)
	x.do(chromedp.MouseClickXY(at[0], at[1]))
}

// hover moves the mouse to the last such element.
func (x *tab) hover(selector string) {
	x.t.Helper()
	at := x.place(selector)
	x.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0], at[1]))
}

func (x *tab) place(selector string) [2]float64 {
	x.t.Helper()
	element := fmt.Sprintf(`[...document.querySelectorAll(%q)].at(-1)`, selector)
	x.wait(element)
	x.script(element + `.scrollIntoView({block: 'nearest'})`)
	at := eval[[2]float64](x, fmt.Sprintf(`(e => { const b = e.getClientRects()[0] ?? e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] })(%s)`, element))
	if !eval[bool](x, fmt.Sprintf(`(e => e.contains(document.elementFromPoint(%f, %f)))(%s)`, at[0], at[1], element)) {
		x.shot("failed")
		x.t.Fatalf("%s can't be seen at %v", selector, at)
	}
	return at
}

// keys presses keys, as kb names them. As with a keyboard, a key writes nothing if the page has taken it for something else.
func (x *tab) keys(keys string, modifiers ...kb.Modifier) {
	x.t.Helper()
	for _, key := range keys {
		var down *input.DispatchKeyEventParams
		for _, event := range kb.Encode(key) {
			chromedp.KeyModifiers(modifiers...)(event)
			switch {
			case event.Type == kb.KeyUp:
				call(x, input.DispatchKeyEvent, *down)
				call(x, input.DispatchKeyEvent, *event)
			case event.Type == kb.KeyChar && event.Modifiers&^int64(kb.ModifierShift) == 0:
				down.Type, down.Text = kb.KeyDown, event.Text
			case event.Type != kb.KeyChar:
				down = event
			}
		}
	}
}

// ask types a question and sends it.
func (x *tab) ask(text string) {
	x.t.Helper()
	x.script(`document.querySelector('#question').focus()`)
	x.insert(text)
	x.keys(kb.Enter)
	x.wait(`document.querySelectorAll('.message.assistant').length > 0`)
}

// answered waits until no answer is on its way in the conversation.
func (x *tab) answered() {
	x.t.Helper()
	x.wait(`document.querySelector('#stop').hidden && !document.querySelector('.message[aria-busy=true]')`)
}

// shot keeps a screenshot.
func (x *tab) shot(name string) {
	if shots == "" {
		return
	}
	image, err := chromedp.Run(x.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		x.t.Logf("screenshot: %v", err)
		return
	}
	name = strings.ReplaceAll(x.t.Name(), "/", "-") + "-" + name + ".png"
	if err := os.WriteFile(filepath.Join(shots, name), image, 0o644); err != nil {
		x.t.Error(err)
	}
}

// accessible runs axe-core on the page as it is.
func (x *tab) accessible(name string) {
	x.t.Helper()
	program, err := os.ReadFile(axe)
	if err != nil {
		x.t.Fatal(err)
	}
	if !eval[bool](x, `'axe' in window`) {
		x.script(string(program))
	}
	type violation struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}
	result := eval[struct {
		Violations []violation
		Passes     int
	}](x, `axe.run({resultTypes: ['violations']}).then(r => ({violations: r.violations, passes: r.passes.length}))`)
	if result.Passes < 5 {
		x.t.Errorf("%s: only %d rules were checked", name, result.Passes)
	}
	for _, v := range result.Violations {
		for _, n := range v.Nodes {
			x.t.Errorf("%s: %s (%s): %s: %s: %s", name, v.ID, v.Impact, v.Help, n.HTML, n.FailureSummary)
		}
	}
	if wide := eval[int](x, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		x.t.Errorf("%s: the page is %d pixels wider than the window", name, wide)
	}
}
