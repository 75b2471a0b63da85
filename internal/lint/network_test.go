package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// clients are the packages that may open connections: hub to the Hugging Face Hub, for pull, and loopback to a server on this
// machine, which it checks, for ps and stop. The others may listen.
var clients = []string{"hub", "internal/loopback"}

// connects lists what opens a connection or resolves a name, of packages that servers use too.
var connects = map[string][]string{
	"net": {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "DialUnix", "Dialer", "Resolver", "DefaultResolver", "LookupHost", "LookupIP", "LookupAddr",
		"LookupCNAME", "LookupMX", "LookupNS", "LookupPort", "LookupSRV", "LookupTXT", "ResolveIPAddr", "ResolveTCPAddr", "ResolveUDPAddr"},
	"net/http": {"Client", "DefaultClient", "Transport", "DefaultTransport", "RoundTripper", "Get", "Head", "Post", "PostForm", "NewRequest",
		"NewRequestWithContext", "ProxyFromEnvironment", "ReadResponse"},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer", "Client"},
}

// connecting are packages for nothing else.
var connecting = []string{"net/smtp", "net/rpc", "net/rpc/jsonrpc", "net/http/httputil", "net/http/httptrace", "net/http/cookiejar", "golang.org/x/net"}

// connections lists the places of a file that may open a connection. One to a unix socket, by name, does not count: it stays on
// this machine.
func connections(set *token.FileSet, file *ast.File) []string {
	names := map[string]string{} // of packages in this file
	var found []string
	for _, spec := range file.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		if underAny(importPath, connecting) {
			found = append(found, set.Position(spec.Pos()).String()+": "+importPath)
		}
		name := filepath.Base(importPath)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if _, ok := connects[importPath]; ok {
			names[name] = importPath
		}
	}
	local := map[*ast.SelectorExpr]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Dial" && len(n.Args) > 0 {
				literal, ok := n.Args[0].(*ast.BasicLit)
				local[s] = ok && literal.Value == `"unix"`
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && slices.Contains(connects[names[x.Name]], n.Sel.Name) && !local[n] {
				found = append(found, set.Position(n.Pos()).String()+": "+x.Name+"."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}

// TestOnlyClientsConnect: no package but clients opens a connection, nor imports those but the command. What is in tools/ is
// no part of the program.
func TestOnlyClientsConnect(t *testing.T) {
	inClients := map[string]int{}
	for _, s := range sources(t) {
		if s.test() || strings.HasPrefix(s.pkg, "tools/") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join("..", "..", s.file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := connections(set, file)
		if underAny(s.pkg, clients) {
			inClients[s.pkg] += len(found)
			continue
		}
		for _, place := range found {
			t.Errorf("%s: only %v may open a connection", place, clients)
		}
		for _, spec := range s.ast.Imports {
			importPath, _ := strconv.Unquote(spec.Path.Value)
			if name, ok := ours(importPath); ok && underAny(name, clients) && !underAny(s.pkg, []string{"cmd"}) {
				t.Errorf("%s: imports %s, which opens connections", s.file, name)
			}
		}
	}
	for _, name := range clients {
		if inClients[name] == 0 {
			t.Errorf("nothing in %s opens a connection: the test does not see it", name)
		}
	}
}

func TestConnectionsAreFound(t *testing.T) {
	for text, want := range map[string]int{
		`import "net"; var _ = net.Dial("tcp", "x")`:                                     1,
		`import "net"; var _ = net.Dial("unix", "x")`:                                    0,
		`import "net"; var n = "unix"; var _ = net.Dial(n, "x")`:                         1,
		`import "net"; var _ = net.Dial`:                                                 1,
		`import "net"; var _ = net.Listen("tcp", "x")`:                                   0,
		`import "net/http"; var _ = http.Get("x")`:                                       1,
		`import h "net/http"; var _ = &h.Client{}`:                                       1,
		`import "net/http"; var _ = &http.Server{}`:                                      0,
		`import "net/http/httputil"`:                                                     1,
		`import "golang.org/x/net/websocket"`:                                            1,
		`import "crypto/tls"; var _ = tls.Dial`:                                          1,
		`import "net/http"; func f() { var d net.Dialer; http.DefaultClient.Do(nil) }`:   1,
		`import "net"; func f() { d := &net.Dialer{}; d.DialContext(nil, "unix", "x") }`: 1,
	} {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, "x.go", "package x; "+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := connections(set, file); len(got) != want {
			t.Errorf("%s: %q, want %d", text, got, want)
		}
	}
}
