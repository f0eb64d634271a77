package http

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// A site under test: the real authority behind a real TLS listener.
type tlsSite struct {
	t         *testing.T
	engine    *rackEngine
	authority *access.Authority
	base      string
}

func newTLSSite(t *testing.T, change ...func(*Options, *access.Authority)) *tlsSite {
	t.Helper()
	seal, err := access.OpenSealer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	authority, err := access.OpenAuthority(t.TempDir(), seal)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := authority.ServerTLS(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	s, e := newTestServer(t, func(o *Options) {
		o.Authority, o.TLS = authority, conf
		for _, f := range change {
			f(o, authority)
		}
	})
	l := listen(t)
	run(t, s, Listeners{TLS: []net.Listener{l}})
	return &tlsSite{t: t, engine: e, authority: authority, base: "https://" + l.Addr().String()}
}

// An agentKey is an agent's key and, once it has one, its certificate.
type agentKey struct {
	key  *ecdsa.PrivateKey
	cert []byte
}

func newAgentKey(t *testing.T) *agentKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &agentKey{key: key}
}

func (k *agentKey) request(t *testing.T) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// call sends one request as an agent (nil: one without a certificate).
func (s *tlsSite) call(who *agentKey, method, path string, in, out any) int {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.authority.CAPEM())
	conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	if who != nil {
		block, _ := pem.Decode(who.cert)
		conf.Certificates = []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: who.key}}
	}
	raw, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, _ := http.NewRequest(method, s.base+path, bytes.NewReader(raw))
	res, err := (&http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0 // the handshake was refused
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if out != nil && res.StatusCode == 200 {
		if err := json.Unmarshal(body, out); err != nil {
			s.t.Fatalf("%v in %s", err, body)
		}
	}
	return res.StatusCode
}

// setState changes the state of the first node.
func (s *tlsSite) setState(state fleet.State) {
	n := s.engine.Nodes()[0]
	n.State = state
	s.engine.put(n, fleet.Event{Type: fleet.EventProgress, Node: n.ID})
}

func (s *tlsSite) hello(k *agentKey) api.HelloRequest {
	return api.HelloRequest{
		Ticket: "good", CSR: k.request(s.t), BootID: "b1", MAC: "52-54-00-00-00-01", UUID: "not a uuid", Version: "1",
		Inventory: api.Inventory{Vendor: "Evil\x1b[2J\nCorp", Disks: []api.Disk{{ID: "d1", Bytes: 1}}},
	}
}

func TestTheLifeOfAnAgent(t *testing.T) {
	site := newTLSSite(t)
	ramdisk := newAgentKey(t)

	var welcome api.HelloReply
	if code := site.call(nil, "POST", api.PathHello, site.hello(ramdisk), &welcome); code != 200 {
		t.Fatalf("hello: status %d", code)
	}
	ramdisk.cert = []byte(welcome.Certificate)
	said := site.engine.hellos[0]
	spki, _ := x509.MarshalPKIXPublicKey(ramdisk.key.Public())
	if said.MAC != "52:54:00:00:00:01" || said.UUID != "" || said.Inventory.Vendor != "Evil[2JCorp" ||
		said.Key != sha256.Sum256(spki) || said.Addr.String() != "127.0.0.1" {
		t.Errorf("the engine heard %+v", said)
	}

	site.engine.step = &fleet.Step{ID: "s1", Kind: fleet.StepWrite, Write: &fleet.WriteOrder{DiskID: "d1", Image: "debian-12", Digest: "sha256:aa"}}
	var poll api.PollReply
	if code := site.call(ramdisk, "POST", api.PathPoll, api.PollRequest{BootID: "b1", Wait: 1, Report: &api.StepReport{StepID: "s0", State: "running", Progress: 400, Text: "a\nb"}}, &poll); code != 200 {
		t.Fatalf("poll: status %d", code)
	}
	if poll.Step == nil || poll.Step.Kind != api.StepWrite || strings.Join(poll.Step.Write.Chunks, " ") != "http://127.0.0.1/chunks/" {
		t.Errorf("step = %+v", poll.Step)
	}
	if r := site.engine.reports[0]; r.Progress != 100 || r.Failure.Text != "ab" {
		t.Errorf("the engine was told %+v", r)
	}
	if p := site.engine.polls[0]; p.Node != "n-0000000001" || p.Addr.String() != "127.0.0.1" {
		t.Errorf("the session is %+v", p)
	}

	var index api.ImageIndex
	if code := site.call(ramdisk, "GET", api.PathImage+"debian-12?digest=sha256:aa", nil, &index); code != 200 || len(index.Chunks) != 1 {
		t.Errorf("index: status %d, %+v", code, index)
	}
	if code := site.call(ramdisk, "GET", api.PathImage+"debian-12?digest=sha256:bb", nil, nil); code != 409 {
		t.Errorf("index of another version: status %d, want 409", code)
	}

	site.setState(fleet.Installing)
	installed := newAgentKey(t)
	var cert api.CertifyReply
	if code := site.call(ramdisk, "POST", api.PathCertify, api.CertifyRequest{CSR: installed.request(t)}, &cert); code != 200 || !strings.Contains(cert.ServerCA, "CERTIFICATE") {
		t.Fatalf("certify: status %d, %+v", code, cert)
	}
	installed.cert = []byte(cert.Certificate)
	site.setState(fleet.Active)
	if code := site.call(ramdisk, "POST", api.PathCertify, api.CertifyRequest{CSR: newAgentKey(t).request(t)}, nil); code != 403 {
		t.Errorf("certify by a boot certificate after the install: status %d, want 403", code)
	}
	if code := site.call(installed, "POST", api.PathCertify, api.CertifyRequest{CSR: newAgentKey(t).request(t)}, nil); code != 200 {
		t.Errorf("renewal by the installed system: status %d, want 200", code)
	}

	site.engine.step = &fleet.Step{ID: "s9", Kind: fleet.StepWait}
	poll = api.PollReply{}
	if code := site.call(installed, "POST", api.PathPoll, api.PollRequest{BootID: "b2", Installed: true}, &poll); code != 200 || poll.Step != nil {
		t.Errorf("poll of the installed system: status %d, %+v; want 200 and no step", code, poll.Step)
	}
	var join api.JoinReply
	if code := site.call(installed, "POST", api.PathJoin, api.JoinRequest{Ticket: "good"}, &join); code != 200 || join.Token == "" {
		t.Errorf("join: status %d", code)
	}
}

func TestAgentsAreRefused(t *testing.T) {
	site := newTLSSite(t)
	boot, err := site.authority.SignBoot([]byte(newAgentKey(t).request(t)), "n-0000000001")
	if err != nil {
		t.Fatal(err)
	}
	certified := func(sign func(csr string) ([]byte, error)) *agentKey {
		k := newAgentKey(t)
		cert, err := sign(k.request(t))
		if err != nil {
			t.Fatal(err)
		}
		k.cert = cert
		return k
	}
	ramdisk := certified(func(csr string) ([]byte, error) { return site.authority.SignBoot([]byte(csr), "n-0000000001") })
	dev := certified(func(csr string) ([]byte, error) { return site.authority.SignStage([]byte(csr), "n-0000000001", "dev") })
	stolen := newAgentKey(t) // another node's certificate, without its key
	stolen.cert = boot
	forged := certified(func(string) ([]byte, error) { return selfSigned(t), nil })

	tests := map[string]struct {
		who  *agentKey
		path string
		in   any
		code int
	}{
		"polling without a certificate":                  {nil, api.PathPoll, api.PollRequest{BootID: "b"}, 401},
		"joining without a certificate":                  {nil, api.PathJoin, api.JoinRequest{Ticket: "good"}, 401},
		"joining with a boot certificate":                {ramdisk, api.PathJoin, api.JoinRequest{Ticket: "good"}, 403},
		"joining with the certificate of another stage":  {dev, api.PathJoin, api.JoinRequest{Ticket: "good"}, 403},
		"a boot certificate that says it is installed":   {ramdisk, api.PathPoll, api.PollRequest{BootID: "b", Installed: true}, 403},
		"another stage's node that says it is installed": {dev, api.PathPoll, api.PollRequest{BootID: "b", Installed: true}, 403},
		"polling without a boot ID":                      {ramdisk, api.PathPoll, api.PollRequest{}, 422},
		"a boot certificate of a node that has a system": {ramdisk, api.PathCertify, api.CertifyRequest{CSR: newAgentKey(t).request(t)}, 403},
		"renewing with the certificate of another stage": {dev, api.PathCertify, api.CertifyRequest{CSR: newAgentKey(t).request(t)}, 403},
		"certifying nonsense":                            {ramdisk, api.PathCertify, api.CertifyRequest{CSR: "nonsense"}, 422},
		"a certificate without its key":                  {stolen, api.PathPoll, api.PollRequest{BootID: "b"}, 0},
		"a certificate that one signed oneself":          {forged, api.PathPoll, api.PollRequest{BootID: "b"}, 0},
		"a ticket that is not ours":                      {nil, api.PathHello, with(site.hello(ramdisk), func(h *api.HelloRequest) { h.Ticket = "bad" }), 403},
		"a hello without a MAC":                          {nil, api.PathHello, with(site.hello(ramdisk), func(h *api.HelloRequest) { h.MAC = "" }), 422},
		"a hello without a certificate request":          {nil, api.PathHello, with(site.hello(ramdisk), func(h *api.HelloRequest) { h.CSR = "" }), 422},
		"a hello whose request has a tail":               {nil, api.PathHello, with(site.hello(ramdisk), func(h *api.HelloRequest) { h.CSR += "x" }), 422},
		"an operator's page with a node's certificate":   {ramdisk, "/api/v1/enrol/n-0000000002/approve", nil, 401},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			site.t = t
			if code := site.call(tt.who, "POST", tt.path, tt.in, nil); code != tt.code {
				t.Errorf("status %d, want %d", code, tt.code)
			}
		})
	}
	if len(site.engine.hellos) != 0 {
		t.Error("a refused hello spent a ticket")
	}
}

func with(h api.HelloRequest, change func(*api.HelloRequest)) api.HelloRequest {
	change(&h)
	return h
}

func selfSigned(t *testing.T) []byte {
	t.Helper()
	seal, err := access.OpenSealer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	evil, err := access.OpenAuthority(t.TempDir(), seal)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := evil.SignBoot([]byte(newAgentKey(t).request(t)), "n-0000000001")
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestAHelloSaysWhetherItsAddressProvesAnything(t *testing.T) {
	const mac fleet.MAC = "52:54:00:00:00:01"
	here := netip.MustParseAddr("127.0.0.1")
	tests := map[string]struct {
		book   leaseBook
		mode   fleet.DHCPMode
		placed bool
	}{
		"its own lease":       {leaseBook{here: mac}, fleet.Full, true},
		"another's lease":     {leaseBook{here: "52:54:00:00:00:66"}, fleet.Full, false},
		"no lease":            {leaseBook{}, fleet.Full, false},
		"others give them":    {leaseBook{}, fleet.Proxy, true},
		"on no subnet at all": {leaseBook{}, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			site := newTLSSite(t, func(o *Options, _ *access.Authority) { o.Leases = tt.book })
			if tt.mode != "" {
				site.engine.site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("127.0.0.0/8"), Mode: tt.mode}}
			}
			in := api.HelloRequest{Ticket: "good", CSR: newAgentKey(t).request(t), BootID: "b1", MAC: string(mac)}
			if code := site.call(nil, "POST", api.PathHello, in, nil); code != 200 || site.engine.hellos[0].Placed != tt.placed {
				t.Errorf("status %d, %+v; want placed: %t", code, site.engine.hellos, tt.placed)
			}
		})
	}
}

func TestHellosAreLimitedPerAddress(t *testing.T) {
	site := newTLSSite(t)
	k := newAgentKey(t)
	h := with(site.hello(k), func(h *api.HelloRequest) { h.Ticket = "bad" })
	last := 0
	for range strangerBurst + 1 {
		last = site.call(nil, "POST", api.PathHello, h, nil)
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("hello %d: status %d, want 429", strangerBurst+1, last)
	}
}

func TestAnInventoryMayBeLargerThanOtherBodies(t *testing.T) {
	site := newTLSSite(t)
	k := newAgentKey(t)
	h := with(site.hello(k), func(h *api.HelloRequest) { h.Inventory.Product = strings.Repeat("x", 2<<20) })
	if code := site.call(nil, "POST", api.PathHello, h, nil); code != 200 {
		t.Errorf("an inventory of 2 MiB: status %d, want 200", code)
	}
	if code := site.call(nil, "POST", api.PathHello, with(h, func(h *api.HelloRequest) { h.Inventory.Product = strings.Repeat("x", 17<<20) }), nil); code != 413 && code != 0 {
		t.Errorf("an inventory of 17 MiB: status %d, want 413", code)
	}
	if n := len(site.engine.hellos[0].Inventory.Product); n != 256 {
		t.Errorf("the engine got %d characters of it, want 256", n)
	}
}

func TestAPollMayCarryALongAnswer(t *testing.T) {
	site := newTLSSite(t)
	k := newAgentKey(t)
	cert, err := site.authority.SignBoot([]byte(k.request(t)), "n-0000000001")
	if err != nil {
		t.Fatal(err)
	}
	k.cert = cert
	for size, want := range map[int]int{2 << 20: 200, 17 << 20: 413} {
		in := api.PollRequest{BootID: "b", Report: &api.StepReport{StepID: "s1", State: "done", Text: strings.Repeat("x", size)}}
		if code := site.call(k, "POST", api.PathPoll, in, nil); code != want && (want == 200 || code != 0) {
			t.Errorf("a poll of %d MiB: status %d, want %d", size>>20, code, want)
		}
	}
}

func TestAPollWithoutAStepEndsInTime(t *testing.T) {
	site := newTLSSite(t)
	k := newAgentKey(t)
	cert, err := site.authority.SignBoot([]byte(k.request(t)), "n-0000000001")
	if err != nil {
		t.Fatal(err)
	}
	k.cert = cert
	for _, wait := range []int{0, 1, -5} {
		if code := site.call(k, "POST", api.PathPoll, api.PollRequest{BootID: "b", Wait: wait}, nil); code != 200 {
			t.Errorf("wait %d: status %d, want 200", wait, code)
		}
	}
}

// Whoever got a boot certificate once, and kept it, cannot ask for anything
// after the machine has booted again.
func TestTheCertificateOfAnEarlierBootIsWorthNothing(t *testing.T) {
	site := newTLSSite(t)
	certified := func() (*agentKey, string) {
		k := newAgentKey(t)
		cert, err := site.authority.SignBoot([]byte(k.request(t)), "n-0000000001")
		if err != nil {
			t.Fatal(err)
		}
		k.cert = cert
		spki, err := x509.MarshalPKIXPublicKey(k.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(spki)
		return k, hex.EncodeToString(sum[:])
	}
	earlier, _ := certified()
	now, key := certified()
	n := site.engine.Nodes()[0]
	n.State, n.BootKey = fleet.Installing, key
	site.engine.put(n, fleet.Event{Type: fleet.EventProgress, Node: n.ID})
	for path, in := range map[string]any{
		api.PathCertify: api.CertifyRequest{CSR: newAgentKey(t).request(t)},
		api.PathPoll:    api.PollRequest{BootID: "b", Wait: 0},
		api.PathRack:    api.RackRequest{Digest: "sha256:aa", Port: 4000},
	} {
		if code := site.call(earlier, "POST", path, in, nil); code != 401 {
			t.Errorf("%s with the earlier certificate: status %d, want 401", path, code)
		}
		if code := site.call(now, "POST", path, in, nil); code != 200 {
			t.Errorf("%s with the certificate of now: status %d, want 200", path, code)
		}
	}
}
