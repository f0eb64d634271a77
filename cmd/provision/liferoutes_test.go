package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	httpd "github.com/rackstage/provision/http"
)

// elsewhere are routes that are not simply asked, and who asks them.
var elsewhere = map[string]string{
	"GET /api/v1/events":             "followed until its time is over",
	"GET /live":                      "followed until its time is over",
	"GET /api/v1/nodes/:ref/console": "a person sits before it",
	"GET /relay/v1/snapshot":         "a relay reads it",

	// These give files and scripts, to the machine or the relay that they are for.
	"GET /agent/v1/images/:name": "",
	"GET /relay/v1/files/*":      "",
	"GET /relay/v1/chunks/*":     "",
	"GET /relay/v1/boot/*":       "",
	"GET /relay/v1/tftp/*":       "",
	"GET /relay/v1/quirk":        "",
}

// variants are what else a route can be asked for.
var variants = map[string][]string{
	"/":                         {"", "?node=:ref", "?q=prd"},
	"/nodes/:ref":               {"", "?part=panel"},
	"/api/v1/nodes/:ref/render": {"", "?as=menu", "?as=seed"},
}

// local is a client of the administrator's socket.
func (s *ownServer) local() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "api.sock"))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask reads everything that there is to read for administrators: each route of
// the server's own table, of each node. Those of which nothing is there yet are
// named.
func (l *life) ask(t *testing.T, nothing ...string) {
	t.Helper()
	nodes := append(slices.Collect(maps.Values(l.given)), l.node)
	client := l.local()
	for _, route := range httpd.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if _, apart := elsewhere[route]; apart || method != http.MethodGet {
			continue
		}
		answered := 0
		for _, node := range nodes {
			if node == "" {
				continue
			}
			all := variants[path]
			if all == nil {
				all = []string{""}
			}
			for _, more := range all {
				if l.read(t, client, l.fill(t, path+more, node)) == http.StatusOK {
					answered++
				}
			}
		}
		if there := !slices.Contains(nothing, path); there != (answered > 0) {
			t.Errorf("%s was answered %d times; there is something: %t", route, answered, there)
		}
	}
	live := l.watchLive(t)
	l.events(t)
	l.said.WriteString(<-live)
}

// fill puts what there is in the place of a route's names.
func (l *life) fill(t *testing.T, path, node string) string {
	t.Helper()
	names := []string{":ref", node, ":pool", "prd", ":file", "console.css", ":id", l.newestRun(t), ":record", "none"}
	if strings.Contains(path, ":record") {
		if records, err := l.client.ConsoleRecords(t.Context(), node); err == nil && len(records) > 0 {
			names[len(names)-1] = records[0].ID
		}
	}
	filled := strings.NewReplacer(names...).Replace(path)
	if strings.ContainsAny(filled, ":*") {
		t.Fatalf("nobody knows what to ask for at %s", path)
	}
	return filled
}

func (l *life) newestRun(t *testing.T) string {
	t.Helper()
	runs, err := l.client.Runs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) == 0 {
		return "none"
	}
	return runs[0].ID
}

// read keeps what is said at a path.
func (l *life) read(t *testing.T, client *http.Client, path string) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Fprintln(&l.said, path, resp.Status, resp.Header)
	if _, err := io.Copy(&l.said, resp.Body); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	if resp.StatusCode >= http.StatusInternalServerError && resp.StatusCode != http.StatusBadGateway { // of a BMC
		t.Errorf("GET %s: %s", path, resp.Status)
	}
	return resp.StatusCode
}

// Who reads a stream of what is stored gets it all at once, however slow the
// machine is: the end is where nothing comes any more.
const (
	firstOfStream = 30 * time.Second
	endOfStream   = 2 * time.Second
)

// events reads all events that are stored.
func (l *life) events(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	quiet := time.AfterFunc(firstOfStream, cancel)
	defer quiet.Stop()
	seen := 0
	_ = l.client.Events(ctx, 1, func(e api.Event) error { // until it is quiet
		quiet.Reset(endOfStream)
		seen++
		fmt.Fprintf(&l.said, "%+v\n", e)
		return nil
	})
	if seen == 0 {
		t.Error("no events were read")
	}
}

// watchLive reads what the console's page is sent as it stays open, from the
// first event on.
func (l *life) watchLive(t *testing.T) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server/live?since=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1)
	go func() {
		defer cancel()
		quiet := time.AfterFunc(firstOfStream, cancel)
		defer quiet.Stop()
		resp, err := l.local().Do(req)
		if err != nil {
			t.Error(err)
			seen <- ""
			return
		}
		defer resp.Body.Close()
		var said strings.Builder
		for buf := make([]byte, 64<<10); err == nil; { // until it is quiet
			var n int
			n, err = resp.Body.Read(buf)
			said.Write(buf[:n])
			quiet.Reset(endOfStream)
		}
		if said.Len() == 0 {
			t.Errorf("nothing was read of what the console's page is sent: %s", resp.Status)
		}
		seen <- said.String()
	}()
	return seen
}
