package http

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/console"
	"github.com/rackstage/provision/fleet"
)

// A wire is a machine's serial port that answers every key.
type wire struct {
	out  chan []byte
	end  chan struct{}
	once sync.Once
}

func (w *wire) Read(b []byte) (int, error) {
	select {
	case p := <-w.out:
		return copy(b, p), nil
	case <-w.end:
		return 0, io.EOF
	}
}

func (w *wire) Write(b []byte) (int, error) {
	select {
	case w.out <- []byte("<" + string(b) + ">"):
		return len(b), nil
	case <-w.end:
		return 0, io.ErrClosedPipe
	}
}

func (w *wire) Break() error { _, err := w.Write([]byte("break")); return err }
func (w *wire) Close() error { w.once.Do(func() { close(w.end) }); return nil }

// serveConsoles serves a rack whose consoles answer, over real connections.
func serveConsoles(t *testing.T, fail error) (*httptest.Server, *Server, *rackEngine, *wire) {
	t.Helper()
	port := &wire{out: make(chan []byte, 64), end: make(chan struct{})}
	archive, err := console.OpenArchive(t.TempDir(), console.Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	hub := console.NewHub(console.Options{Archive: archive, Open: func(context.Context, fleet.NodeID, bool) (console.Port, error) {
		if fail != nil {
			return nil, fail
		}
		return port, nil
	}})
	s, e := newTestServer(t, func(o *Options) { o.Consoles = hub })
	web := httptest.NewServer(through(s, doorPlain))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- hub.Run(ctx) }()
	t.Cleanup(func() {
		web.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return web, s, e, port
}

type socketTest struct {
	*websocket.Conn
	t *testing.T
}

func openSocket(t *testing.T, web *httptest.Server, token string, header http.Header) (socketTest, *http.Response, error) {
	t.Helper()
	if header == nil {
		header = http.Header{}
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	conn, res, err := websocket.Dial(t.Context(), web.URL+api.ConsolePath("prd-1"), &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{api.ConsoleProtocol}})
	if err == nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return socketTest{conn, t}, res, err
}

// next reads messages until one holds, and returns what came in between.
func (s socketTest) next(want string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	var all strings.Builder
	for !strings.Contains(all.String(), want) {
		_, data, err := s.Read(ctx)
		if err != nil {
			s.t.Fatalf("waiting for %q after %q: %v", want, all.String(), err)
		}
		all.Write(data)
	}
	return all.String()
}

func (s socketTest) say(kind websocket.MessageType, text string) {
	s.t.Helper()
	if err := s.Write(s.t.Context(), kind, []byte(text)); err != nil {
		s.t.Error(err)
	}
}

func TestAConsoleIsWatchedAndTypedTo(t *testing.T) {
	web, _, e, port := serveConsoles(t, nil)
	anna, _, err := openSocket(t, web, "operator", nil)
	if err != nil {
		t.Fatal(err)
	}
	anna.next(`{"ready":true}`)
	port.out <- []byte("login: ")
	anna.next("login: ")
	bob, _, err := openSocket(t, web, "admin", nil)
	if err != nil {
		t.Fatal(err)
	}
	bob.next("login: ") // what the machine wrote before he came
	bob.say(websocket.MessageBinary, "x")
	bob.next(`"notice":"you do not have the keyboard"`)
	anna.say(websocket.MessageText, `{"keyboard":true}`)
	anna.say(websocket.MessageBinary, "secret")
	anna.say(websocket.MessageText, `{"break":true}`)
	anna.next("<secret><break>")
	if got := bob.next("<break>"); !strings.Contains(got, `"writers":"`) || !strings.Contains(got, "<secret>") {
		t.Errorf("bob saw %q", got)
	}
	anna.Close(websocket.StatusNormalClosure, "")
	bob.next(`"writers":""`)
	bob.Close(websocket.StatusNormalClosure, "")
	for deadline := time.Now().Add(5 * time.Second); ; {
		e.mu.Lock()
		used := strings.Join(e.used, "\n")
		e.mu.Unlock()
		if strings.Count(used, "left the console") == 2 {
			if strings.Contains(used, "secret") || strings.Count(used, "opened the console") != 2 || strings.Count(used, "took the keyboard") != 1 || strings.Count(used, "sent a break") != 1 {
				t.Errorf("kept was:\n%s", used)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("kept was:\n%s", used)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestAConsoleIsForOperatorsFromOurOwnPages(t *testing.T) {
	web, _, _, _ := serveConsoles(t, nil)
	tests := map[string]struct {
		token  string
		header http.Header
		want   int
	}{
		"nobody":                       {"", nil, http.StatusUnauthorized},
		"a viewer":                     {"viewer", nil, http.StatusForbidden},
		"the demo account":             {"demo", nil, http.StatusForbidden},
		"an operator":                  {"operator", nil, http.StatusSwitchingProtocols},
		"a page of ours":               {"", http.Header{"Cookie": {"provision=operator"}, "Origin": {web.URL}}, http.StatusSwitchingProtocols},
		"a page of somebody else's":    {"", http.Header{"Cookie": {"provision=operator"}, "Origin": {"https://evil.example"}}, http.StatusForbidden},
		"another port of this machine": {"", http.Header{"Cookie": {"provision=operator"}, "Origin": {"http://127.0.0.1:1"}}, http.StatusForbidden},
		"a cookie without a page":      {"", http.Header{"Cookie": {"provision=operator"}}, http.StatusForbidden},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, res, err := openSocket(t, web, tt.token, tt.header)
			if res == nil {
				t.Fatal(err)
			}
			if res.StatusCode != tt.want {
				t.Errorf("status %d, want %d (%v)", res.StatusCode, tt.want, err)
			}
		})
	}
}

func TestAConsoleThatDoesNotOpenSaysWhyAndWhatToDo(t *testing.T) {
	web, _, _, _ := serveConsoles(t, &fleet.Error{Kind: fleet.Unreachable, Code: "E-SOL-DISABLED", Op: "open console", Err: errors.New("it is off"), Hint: "switch it on"})
	c, _, err := openSocket(t, web, "operator", nil)
	if err != nil {
		t.Fatal(err)
	}
	var m api.ConsoleMessage
	if err := json.Unmarshal([]byte(c.next("error")), &m); err != nil || m.Error == nil || m.Error.Code != "E-SOL-DISABLED" || m.Error.Hint != "switch it on" {
		t.Errorf("it said %+v, %v", m.Error, err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) == -1 {
		t.Errorf("then came %v, want the end", err)
	}
}

func TestWhatIsNoMessageEndsTheConsole(t *testing.T) {
	for name, bad := range map[string]string{
		"no JSON": "keyboard", "nested deeply": strings.Repeat("[", 50) + strings.Repeat("]", 50), "too long": strings.Repeat("x", consoleRead+1),
	} {
		t.Run(name, func(t *testing.T) {
			web, _, _, _ := serveConsoles(t, nil)
			c, _, err := openSocket(t, web, "operator", nil)
			if err != nil {
				t.Fatal(err)
			}
			c.say(websocket.MessageText, bad)
			for err == nil {
				_, _, err = c.Read(t.Context())
			}
			if websocket.CloseStatus(err) == -1 && !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

func TestAServerThatStopsEndsConsoles(t *testing.T) {
	web, s, _, _ := serveConsoles(t, nil)
	c, _, err := openSocket(t, web, "operator", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.next("ready")
	close(s.closing)
	c.next("E-STOPPING")
}

func TestWhatWasRecordedIsFoundByTheAPI(t *testing.T) {
	_, s, e, port := serveConsoles(t, nil)
	s.o.Consoles.Record(e.nodes[0].ID, true)
	port.out <- []byte("SeaBIOS\r\n\x1b[31mKernel panic\x1b[0m <script>\r\n")
	var list api.ConsoleRecords
	for deadline := time.Now().Add(5 * time.Second); len(list.Records) == 0 && time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		got := ask(s, "GET", api.ConsolePath("prd-1")+"/records", "operator", "")
		if err := json.Unmarshal(got.Body.Bytes(), &list); err != nil || got.Code != http.StatusOK {
			t.Fatalf("status %d, %v", got.Code, err)
		}
	}
	if len(list.Records) != 1 || list.Records[0].Why != "recording began" {
		t.Fatalf("records are %+v", list.Records)
	}
	tests := map[string]struct {
		query string
		code  int
		want  string
	}{
		"what matches":       {"?match=panic", 200, `"text":"Kernel panic <script>"`},
		"nothing":            {"?match=nothing", 200, `"lines":[]`},
		"later":              {"?since=2099-01-01T00:00:00Z", 200, `"lines":[]`},
		"no expression":      {"?match=(", 422, "E-CONSOLE-SEARCH"},
		"a record":           {"?record=" + list.Records[0].ID, 200, "SeaBIOS"},
		"no record":          {"?record=x", 404, "E-CONSOLE-RECORD"},
		"an unknown request": {"?grep=x", 422, "grep"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ask(s, "GET", api.ConsolePath("prd-1")+"/log"+tt.query, "operator", "")
			if got.Code != tt.code || !strings.Contains(got.Body.String(), tt.want) {
				t.Errorf("status %d: %s; want %d and %q", got.Code, got.Body, tt.code, tt.want)
			}
		})
	}
	e.nodes[0].BMC.Address = "10.77.1.1"
	page := ask(s, "GET", "/nodes/prd-1/console?match=panic", "operator", "")
	html, policy := page.Body.String(), page.Header().Get("Content-Security-Policy")
	if !strings.Contains(html, "</time> Kernel panic &lt;script&gt;\n") || strings.Contains(html, "SeaBIOS") || strings.Contains(html, "<script>") {
		t.Errorf("the page shows:\n%s", html)
	}
	_, nonce, _ := strings.Cut(policy, "style-src 'self' 'nonce-")
	nonce, _, _ = strings.Cut(nonce, "'")
	if len(nonce) < 22 || !strings.Contains(html, `data-nonce="`+nonce+`"`) || strings.Contains(policy, "unsafe") {
		t.Errorf("the page's policy is %s", policy)
	}
	if again := ask(s, "GET", "/nodes/prd-1/console", "operator", "").Header().Get("Content-Security-Policy"); again == policy {
		t.Error("the nonce is the same each time")
	}
	if bad := ask(s, "GET", "/nodes/prd-1/console?match=(", "operator", ""); bad.Code != http.StatusOK || !strings.Contains(bad.Body.String(), "regular expression") {
		t.Errorf("a bad search: status %d", bad.Code)
	}
	raw := ask(s, "GET", api.ConsolePath("prd-1")+"/records/"+list.Records[0].ID, "operator", "")
	if raw.Body.String() != "SeaBIOS\r\n\x1b[31mKernel panic\x1b[0m <script>\r\n" || raw.Header().Get("Content-Type") != "application/octet-stream" ||
		!strings.HasPrefix(raw.Header().Get("Content-Disposition"), "attachment") {
		t.Errorf("the record itself: %q, %v", raw.Body, raw.Header())
	}
	if got := ask(s, "GET", api.ConsolePath("prd-1")+"/records/..%2Fx", "operator", ""); got.Code != http.StatusNotFound {
		t.Errorf("another file: status %d", got.Code)
	}
	if ask(s, "GET", api.ConsolePath("prd-1")+"/log", "viewer", "").Code != http.StatusForbidden {
		t.Error("a viewer reads what machines wrote")
	}
}
