package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/rackstage/provision/internal/golden"
)

func TestMain(m *testing.M) {
	testscript.Main(leakFree{m}, map[string]func(){"provision": main})
}

// leakFree fails the tests when they leave goroutines behind.
type leakFree struct{ m *testing.M }

func (l leakFree) Run() int {
	code := l.m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"), // started by an import of package image's
	); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       golden.Updating(),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fake": fakeServer,
			"code": exitsWith,
			"disk": makeDisk,
		},
	})
}

// makeDisk is the script command `disk FILE TEXT`: a raw disk image of 64 KiB
// that begins with the text.
func makeDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: disk FILE TEXT")
	}
	raw := make([]byte, 64<<10)
	copy(raw, args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o600))
}

// exitsWith is the script command `code N provision …`: the program must end
// with exactly this exit code.
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args…")
	}
	want := args[0]
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != want {
		ts.Fatalf("exit code %s, want %s", got, want)
	}
}

// fakeServer is the script command `fake FILE`. The file has lines "METHOD
// PATH STATUS BODYFILE…": each request takes the next body, the last one
// stays. What was sent goes to the file "requests". PROVISION_SERVER is set.
func fakeServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fake FILE")
	}
	f := &fake{dir: ts.Getenv("WORK"), answers: map[string]*fakeAnswer{}}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			ts.Fatalf("%s: line %q", args[0], line)
		}
		f.answers[fields[0]+" "+fields[1]] = &fakeAnswer{status: fields[2], bodies: fields[3:]}
	}
	socket := filepath.Join(f.dir, "api.sock")
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	ts.Check(err)
	srv := httptest.NewUnstartedServer(f)
	srv.Listener = listener
	srv.Start()
	ts.Defer(srv.Close)
	ts.Setenv("PROVISION_SERVER", "unix:"+socket)
}

type fake struct {
	dir     string
	mu      sync.Mutex
	answers map[string]*fakeAnswer
}

type fakeAnswer struct {
	status string
	bodies []string
	next   int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/api/v1/health" {
		fmt.Fprint(w, `{"status": "ok"}`)
		return
	}
	f.record(r)
	a := f.answers[r.Method+" "+r.URL.Path]
	if a == nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"title": "Not Found", "status": 404, "detail": "the fake has no %s %s"}`, r.Method, r.URL.Path)
		return
	}
	body, err := os.ReadFile(filepath.Join(f.dir, a.bodies[min(a.next, len(a.bodies)-1)]))
	a.next++
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var status int
	_ = json.Unmarshal([]byte(a.status), &status)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (f *fake) record(r *http.Request) {
	log, err := os.OpenFile(filepath.Join(f.dir, "requests"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer log.Close()
	body, _ := io.ReadAll(bufio.NewReader(r.Body))
	fmt.Fprintf(log, "%s %s %s\n", r.Method, r.URL.Path, body)
}
