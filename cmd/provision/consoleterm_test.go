package main

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/rackstage/provision/api"
)

// A socketServer is a server whose consoles say what a test wants.
type socketServer struct {
	server
	url string
}

func (s socketServer) Socket(path string) (string, *http.Client, http.Header) {
	return s.url + path, http.DefaultClient, http.Header{"Authorization": {"Bearer token"}}
}

// serveConsole answers at the path of a console with messages: those in braces as
// text, the others as what the machine wrote.
func serveConsole(t *testing.T, messages ...string) socketServer {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.ConsolePath("prd-1") || r.Header.Get("Authorization") == "" {
			http.Error(w, "", http.StatusNotFound)
			return
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{api.ConsoleProtocol}})
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range messages {
			kind := websocket.MessageBinary
			if strings.HasPrefix(m, "{") {
				kind = websocket.MessageText
			}
			if err := conn.Write(r.Context(), kind, []byte(m)); err != nil {
				t.Error(err)
			}
		}
		_ = conn.Close(websocket.StatusNormalClosure, "")
	}))
	t.Cleanup(web.Close)
	return socketServer{url: web.URL}
}

func TestAConsoleWithoutATerminalIsOnlyRead(t *testing.T) {
	ready := `{"ready":true}`
	tests := map[string]struct {
		messages []string
		stdout   string
		stderr   string
		code     int
	}{
		"what the machine writes, to its end": {[]string{ready, "SeaBIOS\r\n", "\x1b[31mred"}, "SeaBIOS\r\n\x1b[31mred", "reading only", exitOK},
		"what happens to the console":         {[]string{ready, `{"notice":"the BMC\u001b[2J is silent"}`, `{"writers":"anna"}`, `{"writers":""}`}, "", "[the BMC[2J is silent]\n\n[typing: anna]\n\n[nobody types]", exitOK},
		"why it does not open":                {[]string{`{"error":{"title":"Conflict","status":409,"code":"E-SOL-HELD","detail":"somebody else has it","hint":"take it"}}`}, "", "error: somebody else has it\n  hint: take it", exitConflict},
		"a BMC that is away":                  {[]string{`{"error":{"title":"Bad Gateway","status":502,"detail":"silent"}}`}, "", "error: silent", exitFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			srv := serveConsole(t, tt.messages...)
			a := newApp(&stdout, &stderr)
			a.stdin, a.terminal = bufio.NewReader(strings.NewReader("typed")), false
			a.connect = func(context.Context) (server, error) { return srv, nil }
			code := a.run(t.Context(), []string{"console", "prd-1"})
			if code != tt.code || stdout.String() != tt.stdout || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", code, stdout.String(), stderr.String(), tt.code, tt.stdout, tt.stderr)
			}
		})
	}
}
