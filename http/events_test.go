package http

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// local returns a client of a server on its socket.
func local(t *testing.T, change ...func(*Options)) (*api.Client, *rackEngine) {
	t.Helper()
	s, e := newTestServer(t, change...)
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, Listeners{Local: []net.Listener{l}})
	c, err := api.NewClient(api.ClientOptions{Server: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, e
}

// collect reads events until it has n of them, or the stream ends.
func collect(t *testing.T, c *api.Client, since int64, n int, began func()) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	enough := errors.New("enough")
	err := c.Events(ctx, since, func(ev api.Event) error {
		got = append(got, ev.Text)
		if len(got) == 1 && began != nil {
			began()
		}
		if len(got) == n {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return got, err
}

func TestAReaderThatComesBackMissesNothing(t *testing.T) {
	c, e := local(t)
	for _, text := range []string{"one", "two", "three"} {
		e.add(fleet.Event{Type: fleet.EventChanged, Text: text})
	}
	got, err := collect(t, c, 1, 4, func() {
		e.add(fleet.Event{Type: fleet.EventProgress, Text: "not stored"})
		e.add(fleet.Event{Type: fleet.EventChanged, Text: "four"})
	})
	if diff := cmp.Diff([]string{"two", "three", "not stored", "four"}, got); diff != "" || err != nil {
		t.Errorf("events (-want +got):\n%s%v", diff, err)
	}
}

func TestAReaderThatMissedTooMuchIsToldSo(t *testing.T) {
	c, e := local(t)
	e.add(fleet.Event{Type: fleet.EventChanged, Text: "one"})
	for name, since := range map[string]int64{"an event that was never": 99} {
		if _, err := collect(t, c, since, 1, nil); !errors.Is(err, api.ErrReset) {
			t.Errorf("%s: %v, want ErrReset", name, err)
		}
	}
	e.mu.Lock()
	e.events = []fleet.Event{{Seq: 50, Text: "fifty"}}
	e.mu.Unlock()
	if _, err := collect(t, c, 7, 1, nil); !errors.Is(err, api.ErrReset) {
		t.Errorf("an event that is gone: %v, want ErrReset", err)
	}
}

func TestHostileTextStaysInsideItsEvent(t *testing.T) {
	c, e := local(t)
	e.add(fleet.Event{Type: fleet.EventChanged, Text: "first"})
	evil := "x\n\nevent: reset\ndata: {}\r\rdata: \u2028</script>"
	e.add(fleet.Event{Type: fleet.EventUnexpected, Text: evil})
	got, err := collect(t, c, 1, 1, nil)
	if diff := cmp.Diff([]string{evil}, got); diff != "" || err != nil {
		t.Errorf("events (-want +got):\n%s%v", diff, err)
	}
}

func TestFrame(t *testing.T) {
	tests := map[string]struct{ kind, id, data, want string }{
		"a plain one":      {"", "7", "{}", "id: 7\ndata: {}\n\n"},
		"a kind":           {"row", "", "<tr>", "event: row\ndata: <tr>\n\n"},
		"line breaks":      {"", "", "a\nb\r\nc\rd", "data: a\ndata: b\ndata: cd\n\n"},
		"an empty line":    {"", "", "a\n\nid: 9", "data: a\ndata: \ndata: id: 9\n\n"},
		"nothing but data": {"", "", "", "data: \n\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := string(frame(tt.kind, tt.id, []byte(tt.data))); got != tt.want {
				t.Errorf("frame = %q, want %q", got, tt.want)
			}
		})
	}
}

// A player plays the console's part: it reads what /live sends.
func player(t *testing.T, s *Server, query string, until func(seen string) bool) string {
	t.Helper()
	l := listen(t)
	run(t, s, Listeners{Plain: []net.Listener{l}})
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.Addr().String()+"/live"+query, nil)
	req.Header.Set("Authorization", "Bearer operator")
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	timer := time.AfterFunc(10*time.Second, func() { _ = res.Body.Close() })
	defer timer.Stop()
	var seen strings.Builder
	buf := make([]byte, 4096)
	for !until(seen.String()) {
		n, err := res.Body.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Logf("stream: %v", err)
			}
			break
		}
	}
	return seen.String()
}

func TestTheConsoleSeesWhatChanges(t *testing.T) {
	s, e := newTestServer(t)
	changed := false
	seen := player(t, s, "?q=state:discovered", func(seen string) bool {
		if strings.Contains(seen, "event: runs") && !changed {
			changed = true
			n, _ := e.Node("n-0000000002")
			n.State = fleet.Quarantined
			e.put(n, fleet.Event{Type: fleet.EventFailed, Node: n.ID, Text: "<img src=x onerror=alert(1)>\nevent: reset"})
		}
		return strings.Contains(seen, "event: gone")
	})
	for _, want := range []string{
		"retry: 2000\n", "event: row\ndata: <tr id=\"n-0000000002\"", "event: counts\n", "event: gone\ndata: n-0000000002\n",
		"event: feed\nid: 1\n", "&lt;img src=x onerror=alert(1)&gt;",
	} {
		if !strings.Contains(seen, want) {
			t.Errorf("the stream lacks %q:\n%s", want, seen)
		}
	}
	if strings.Contains(seen, "n-0000000001") {
		t.Error("the stream shows a node that does not match")
	}
	if strings.Contains(seen, "<img") || strings.Contains(seen, "\nevent: reset") {
		t.Errorf("hostile text got out of its event:\n%s", seen)
	}
}

func TestARowIsSentOnceUntilItChanges(t *testing.T) {
	s, e := newTestServer(t)
	touched := 0
	seen := player(t, s, "", func(seen string) bool {
		if strings.Count(seen, "event: feed") == touched && touched < 2 && strings.Contains(seen, "event: runs") {
			touched++
			e.add(fleet.Event{Type: fleet.EventEvidence, Node: "n-0000000001", Text: "nothing that a row shows"})
		}
		return strings.Count(seen, "event: feed") == 2
	})
	if got := strings.Count(seen, "event: row"); got != 2 {
		t.Errorf("%d rows were sent, want each of the two once", got)
	}
}
