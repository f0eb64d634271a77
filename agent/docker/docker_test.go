package docker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnlyTheShortListIsAllowed(t *testing.T) {
	tests := map[string]bool{
		"GET /_ping": true, "GET /info": true, "GET /version": true, "GET /v1.41/info": true,
		"GET /swarm": true, "GET /nodes": true, "GET /nodes?filters=%7B%7D": true, "GET /nodes/abc123": true, "GET /nodes/self": true,
		"GET /tasks?filters=x": true, "GET /tasks/abc": true,
		"POST /swarm/init": true, "POST /swarm/leave?force=true": true, "POST /swarm/update?version=3&rotateWorkerToken=true": true,
		"POST /nodes/abc/update?version=7": true, "DELETE /nodes/abc?force=true": true,

		"POST /swarm/join": false, "GET /swarm/unlockkey": false, "POST /swarm/unlock": false,
		"POST /containers/create": false, "GET /containers/json": false, "POST /build": false, "GET /secrets": false,
		"POST /info": false, "DELETE /nodes": false, "PUT /swarm/init": false, "get /info": false,
		"GET /nodes/../containers/json": false, "GET /nodes/..": false, "GET /nodes/a/b": false, "GET /nodes/%2e%2e": false,
		"GET /nodes/a%2Fb": false, "GET //info": false, "GET http://other/info": false, "GET info": false, "GET /info\nX": false,
		"GET ": false, "GET /v1.41/v1.41/info": false, "GET /vx/info": false, "GET //evil/info": false,
	}
	for line, want := range tests {
		method, path, _ := strings.Cut(line, " ")
		err := Allowed(api.DockerRequest{Method: method, Path: path})
		if (err == nil) != want {
			t.Errorf("Allowed(%q) = %v, want allowed: %v", line, err, want)
		}
		if err != nil && fault.CodeOf(err) != fault.DockerRefused {
			t.Errorf("Allowed(%q) has code %q", line, fault.CodeOf(err))
		}
	}
}

func FuzzAllowed(f *testing.F) {
	f.Add("GET", "/nodes/abc?x=%2e")
	f.Fuzz(func(t *testing.T, method, path string) {
		if Allowed(api.DockerRequest{Method: method, Path: path}) != nil {
			return
		}
		r, err := http.NewRequest(method, "http://docker"+path, nil)
		if err != nil {
			return
		}
		if r.URL.Host != "docker" || !slices.Contains([]string{"GET", "POST", "DELETE"}, r.Method) {
			t.Errorf("%s %q goes to %s", method, path, r.URL)
		}
	})
}

// A fakeEngine is a Docker engine on a socket, as far as a Swarm goes.
type fakeEngine struct {
	t    *testing.T
	root string

	mu     sync.Mutex
	state  string // LocalNodeState
	node   string
	joins  []map[string]any
	leaves int
	fail   string // what a join answers; "" when it works
	hang   bool   // a join never answers
}

func startEngine(t *testing.T) (*Engine, *fakeEngine) {
	t.Helper()
	f := &fakeEngine{t: t, root: t.TempDir(), state: "inactive"}
	socket := filepath.Join(f.root, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") })
	mux.HandleFunc("GET /info", f.info)
	mux.HandleFunc("POST /swarm/join", f.join)
	mux.HandleFunc("POST /swarm/leave", f.leave)
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `["`+r.URL.RawQuery+`"]`)
	})
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}}
	s.Start()
	t.Cleanup(s.Close)
	e := New(socket)
	e.root = f.root
	t.Cleanup(e.client.CloseIdleConnections)
	return e, f
}

func (f *fakeEngine) info(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = fmt.Fprintf(w, `{"DockerRootDir":"/docker","Swarm":{"NodeID":%q,"LocalNodeState":%q}}`, f.node, f.state)
}

func (f *fakeEngine) join(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	f.joins = append(f.joins, body)
	fail, hang := f.fail, f.hang
	if fail == "" && !hang {
		f.member("cluster1", "node1")
	} else {
		f.state = "pending"
	}
	f.mu.Unlock()
	if hang {
		<-r.Context().Done()
	}
	if fail != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": fail})
	}
}

func (f *fakeEngine) leave(_ http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Query().Get("force") != "true" {
		f.t.Error("left without force")
	}
	f.leaves++
	f.state, f.node = "inactive", ""
}

// member gives the node a certificate. The lock is held.
func (f *fakeEngine) member(cluster, node string) {
	f.state, f.node = "active", node
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Error(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{
		Organization: []string{cluster}, OrganizationalUnit: []string{"swarm-worker"}, CommonName: node,
	}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		f.t.Error(err)
	}
	dir := filepath.Join(f.root, "docker/swarm/certificates")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Error(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "swarm-node.crt"), b, 0o644); err != nil {
		f.t.Error(err)
	}
}

var order = api.JoinReply{Token: "SWMTKN-1-a-b", Managers: []string{"10.77.0.20:2377"}, Advertise: "10.77.0.21"}

func TestJoin(t *testing.T) {
	tests := map[string]struct {
		prepare func(*fakeEngine)
		want    api.Joined
		code    fault.Code
		joins   int
		leaves  int
		orders  int
	}{
		"a fresh node":                     {func(*fakeEngine) {}, api.Joined{ClusterID: "cluster1", NodeID: "node1"}, "", 1, 0, 1},
		"a member already":                 {func(f *fakeEngine) { f.member("cluster1", "node7") }, api.Joined{ClusterID: "cluster1", NodeID: "node7"}, "", 0, 0, 0},
		"a member of another cluster":      {func(f *fakeEngine) { f.member("cluster2", "node7") }, api.Joined{ClusterID: "cluster2", NodeID: "node7"}, "", 0, 0, 0},
		"a join that still goes on":        {func(f *fakeEngine) { f.state = "pending" }, api.Joined{ClusterID: "cluster1", NodeID: "node1"}, "", 1, 1, 1},
		"a certificate that ran out":       {func(f *fakeEngine) { f.state = "error" }, api.Joined{ClusterID: "cluster1", NodeID: "node1"}, "", 1, 1, 1},
		"a locked swarm":                   {func(f *fakeEngine) { f.state = "locked" }, api.Joined{}, fault.Join, 0, 0, 0},
		"a join that fails leaves nothing": {func(f *fakeEngine) { f.fail = "bad token " + order.Token }, api.Joined{}, fault.Join, 1, 1, 1},
		"a certificate for another node":   {func(f *fakeEngine) { f.member("cluster1", "node1"); f.node = "node2" }, api.Joined{}, fault.Join, 0, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, f := startEngine(t)
			f.mu.Lock()
			tt.prepare(f)
			f.mu.Unlock()
			orders := 0
			got, err := e.Join(t.Context(), func(context.Context) (api.JoinReply, error) {
				orders++
				return order, nil
			})
			if fault.CodeOf(err) != tt.code || got != tt.want {
				t.Errorf("Join = %+v, %v (%s), want %+v and code %q", got, err, fault.CodeOf(err), tt.want, tt.code)
			}
			if err != nil && strings.Contains(err.Error(), order.Token) {
				t.Errorf("the error shows the token: %v", err)
			}
			if len(f.joins) != tt.joins || f.leaves != tt.leaves || orders != tt.orders {
				t.Errorf("joined %d times, left %d, ordered %d; want %d, %d, %d", len(f.joins), f.leaves, orders, tt.joins, tt.leaves, tt.orders)
			}
			for _, j := range f.joins {
				if j["Availability"] != "pause" || j["JoinToken"] != order.Token || j["AdvertiseAddr"] != order.Advertise {
					t.Errorf("joined with %v", j)
				}
			}
		})
	}
}

func TestJoinThatIsCutOffLeavesNothing(t *testing.T) {
	e, f := startEngine(t)
	f.hang = true
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := e.Join(ctx, func(context.Context) (api.JoinReply, error) { return order, nil })
	if fault.CodeOf(err) != fault.JoinTimeout || f.leaves != 1 {
		t.Errorf("Join = %v, left %d times; want %s and once", err, f.leaves, fault.JoinTimeout)
	}
}

func TestRequestIsPassedOn(t *testing.T) {
	e, _ := startEngine(t)
	got, err := e.Do(t.Context(), api.DockerRequest{Method: "GET", Path: "/nodes?filters=x"})
	if err != nil || got.Status != 200 || string(got.Body) != `["filters=x"]` {
		t.Errorf("Do = %d %s, %v", got.Status, got.Body, err)
	}
	if _, err := e.Do(t.Context(), api.DockerRequest{Method: "POST", Path: "/containers/create"}); fault.CodeOf(err) != fault.DockerRefused {
		t.Errorf("Do = %v, want %s", err, fault.DockerRefused)
	}
	got, err = e.Do(t.Context(), api.DockerRequest{Method: "GET", Path: "/version"})
	if err != nil || got.Status != 404 {
		t.Errorf("Do = %d, %v: an answer is an answer", got.Status, err)
	}
}

func TestEngineThatIsAwayIsNamed(t *testing.T) {
	e := New(filepath.Join(t.TempDir(), "none.sock"))
	e.timeout = 300 * time.Millisecond
	if _, err := e.Do(t.Context(), api.DockerRequest{Method: "GET", Path: "/info"}); fault.CodeOf(err) != fault.DockerAway {
		t.Errorf("Do = %v, want %s", err, fault.DockerAway)
	}
}
