package relay

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	ipxescripts "github.com/rackstage/provision/ipxe-scripts"

	"github.com/rackstage/provision/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alone is a relay whose server is away, with some files in its cache.
func alone(t *testing.T) *Relay {
	t.Helper()
	scripts, err := ipxescripts.Load()
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{
		o: Options{Interfaces: []string{"lo"}, Log: slog.New(slog.DiscardHandler), Now: time.Now}, id: &identity{Name: "west", dir: t.TempDir()},
		granted: map[netip.Addr]grant{}, asked: map[transaction]question{}, keeping: make(chan kept, 1), scripts: scripts, cache: newCache(t, t.TempDir(), 1<<20),
	}
	if r.link, err = newLink(&identity{Server: "https://127.0.0.1:1", Pin: "sha256:" + strings.Repeat("0", 64)}, nil); err != nil {
		t.Fatal(err)
	}
	kernel := fileBlob("kernel")
	s := farSnapshot()
	s.Files = []api.RelayFile{{Name: "vmlinuz", Size: 6, SHA256: kernel.id}, {Name: "initrd.img", Size: 7, SHA256: strings.Repeat("1", 64)}, {Name: "../x", Size: 1, SHA256: kernel.id}}
	r.places.Store(&[]port{eth1})
	r.rules = newRules("west", serverAddr, false, time.Now, &r.stats)
	r.others = r.newWatch()
	if err := r.learn(s, "1"); err != nil {
		t.Fatal(err)
	}
	r.away.Store(true)
	content(t, r.cache, kernel, sends("kernel", &r.served))
	r.served.Store(0)
	return r
}

// fetches is a machine's request to a relay.
func fetches(t *testing.T, r *Relay, method, target, from string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	req.RemoteAddr = from + ":4711"
	req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(10, 78, 0, 1), Port: 80})))
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func TestScriptsWhileTheServerIsAway(t *testing.T) {
	r := alone(t)
	tests := map[string]struct{ target, from, want string }{
		"a node with a system boots it":          {"/boot/ipxe?mac=52-54-00-00-00-0a&platform=efi&arch=x86_64", "10.78.0.50", "far-1 has its system"},
		"one that says nothing, by its address":  {"/boot/ipxe", "10.78.0.50", "far-1 has its system"},
		"a node without one waits":               {"/boot/ipxe?mac=52-54-00-00-00-0c", "10.78.0.51", "far-2 waits for the server"},
		"a stranger waits":                       {"/boot/ipxe?mac=52-54-00-00-00-0b", "10.78.0.99", "52:54:00:00:00:0b waits for the server"},
		"who names another's card, still waits":  {"/boot/ipxe?mac=52-54-00-00-00-0a", "10.78.0.99", "waits for the server"},
		"the first script is made here":          {"/boot/autoexec.ipxe", "10.78.0.99", "chain --replace http://10.78.0.1/boot/ipxe"},
		"double slashes are no matter, as usual": {"//boot//ipxe?mac=52-54-00-00-00-0a", "10.78.0.50", "far-1 has its system"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := fetches(t, r, "GET", tt.target, tt.from)
			if got.Code != 200 || !strings.Contains(got.Body.String(), tt.want) || strings.Contains(got.Body.String(), "ticket") {
				t.Errorf("status %d, want %q in\n%s", got.Code, tt.want, got.Body)
			}
		})
	}
}

func TestFilesWhileTheServerIsAway(t *testing.T) {
	r := alone(t)
	id := strings.Repeat("ab", 32)
	tests := map[string]struct {
		method, target string
		status         int
		body           string
	}{
		"a file of the cache":            {"GET", "/boot/vmlinuz", 200, "kernel"},
		"its length":                     {"HEAD", "/boot/vmlinuz", 200, ""},
		"one that is not in the cache":   {"GET", "/boot/initrd.img", 503, ""},
		"a chunk that is not":            {"GET", "/chunks/abab/" + id + ".cacnk", 503, ""},
		"a chunk under the wrong folder": {"GET", "/chunks/cdcd/" + id + ".cacnk", 503, ""},
		"out of the tree":                {"GET", "/boot/../../etc/passwd", 503, ""},
		"a name that climbs":             {"GET", "/boot/..%2fx", 503, ""},
		"something else":                 {"GET", "/api/v1/nodes", 503, ""},
		"a write":                        {"POST", "/boot/vmlinuz", 405, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := fetches(t, r, tt.method, tt.target, "10.78.0.50")
			if got.Code != tt.status || tt.status == 200 && got.Body.String() != tt.body {
				t.Errorf("status %d, body %q; want %d and %q", got.Code, got.Body, tt.status, tt.body)
			}
		})
	}
	if r.served.Load() != 6 {
		t.Errorf("%d bytes served, want 6", r.served.Load())
	}
	if seen := r.takeSeen(); len(seen) != 2 || seen[0].Addr.String() != "10.78.0.50" {
		t.Errorf("to report: %+v, want the kernel and the ramdisk that were asked for", seen)
	}
}

func TestPartsOfAFile(t *testing.T) {
	r := alone(t)
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/boot/vmlinuz", nil)
	req.RemoteAddr = "10.78.0.50:1"
	req.Header.Set("Range", "bytes=3-")
	req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(10, 78, 0, 1), Port: 80})))
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	if w.Code != http.StatusPartialContent || w.Body.String() != "nel" || w.Header().Get("ETag") == "" {
		t.Errorf("status %d, %q, ETag %q", w.Code, w.Body, w.Header().Get("ETag"))
	}
}

func TestARelayThatWasRemovedDoesNotStandIn(t *testing.T) {
	r := alone(t)
	r.removed.Store(true)
	if got := fetches(t, r, "GET", "/boot/ipxe?mac=52-54-00-00-00-0a", "10.78.0.50"); got.Code != 503 {
		t.Errorf("status %d, want 503:\n%s", got.Code, got.Body)
	}
}

// TestAChunkIsFetchedInTheRelaysOwnName has a server that refuses to be asked
// for a machine on none of the relay's subnets. Everybody who waits for that
// chunk would be refused with it.
func TestAChunkIsFetchedInTheRelaysOwnName(t *testing.T) {
	b, packed := packedChunk(t, "data")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if machine := req.Header.Get(api.HeaderMachine); machine != "" && !strings.HasPrefix(machine, "10.78.0.") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(packed)
	}))
	defer server.Close()
	r := alone(t)
	r.away.Store(false)
	r.link.base, r.link.files = server.URL, server.Client()
	target := api.PathChunks + b.id[:4] + "/" + b.id + ".cacnk"
	for _, from := range []string{"[fe80::5054:ff:fe00:a%eth1]", "10.78.0.50"} {
		if got := fetches(t, r, "GET", target, from); got.Code != 200 || got.Body.String() != string(packed) {
			t.Errorf("%s got status %d, %q", from, got.Code, got.Body)
		}
	}
}
