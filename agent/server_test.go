package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rackstage/provision/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An authority is a CA for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{t: t, key: newKey(t)}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	a.cert = a.sign(c, c, &a.key.PublicKey)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authority) sign(c, parent *x509.Certificate, public any) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a authority) pin() string {
	sum := sha256.Sum256(a.cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// server is a server's certificate for 127.0.0.1, with the CA behind it.
func (a authority) server(from, until time.Time) tls.Certificate {
	return a.issue(from, until, x509.ExtKeyUsageServerAuth)
}

func (a authority) issue(from, until time.Time, usage x509.ExtKeyUsage) tls.Certificate {
	key := newKey(a.t)
	c := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, a.cert, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{c.Raw, a.cert.Raw}, PrivateKey: key}
}

// certify answers a certificate request with a certificate of the given life.
func (a authority) certify(csrPEM string, life time.Duration) string {
	block, _ := pem.Decode([]byte(csrPEM))
	if block == nil {
		a.t.Error("the request is not PEM")
		return ""
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		a.t.Errorf("bad certificate request: %v", err)
		return ""
	}
	c := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "n-1"}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, csr.PublicKey)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// A scripted server hands out steps one after the other, each until its
// report says that it is over.
type scripted struct {
	t  *testing.T
	ca authority

	mu      sync.Mutex
	steps   []*api.Step
	reports []api.StepReport // final ones
	polls   int
	news    []api.Inventory
	refuse  func(poll int) int // status to answer a poll with; 0: let it in
	forget  int                // so many final reports are taken and forgotten
	hellos  []api.HelloRequest
	reply   http.HandlerFunc // for other paths
	over    chan struct{}    // closed when all steps are over
}

func newScripted(t *testing.T, steps ...*api.Step) *scripted {
	return &scripted{t: t, ca: newAuthority(t), steps: steps, over: make(chan struct{}), refuse: func(int) int { return 0 }}
}

// start serves on an address; "" takes any.
func (s *scripted) start(addr string) *httptest.Server {
	return s.startWith(addr, s.ca.server(time.Now().Add(-time.Hour), time.Now().Add(time.Hour)))
}

func (s *scripted) startWith(addr string, cert tls.Certificate) *httptest.Server {
	s.t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathHello, s.hello)
	mux.HandleFunc("POST "+api.PathPoll, s.poll)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if s.reply != nil {
			s.reply(w, r)
		}
	})
	srv := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: mux, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
	}}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	srv.StartTLS()
	s.t.Cleanup(srv.Close)
	return srv
}

func (s *scripted) read(r *http.Request, v any) {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		s.t.Errorf("%s: %v", r.URL.Path, err)
	}
}

func (s *scripted) hello(w http.ResponseWriter, r *http.Request) {
	var h api.HelloRequest
	s.read(r, &h)
	s.mu.Lock()
	s.hellos = append(s.hellos, h)
	n := len(s.hellos)
	s.mu.Unlock()
	if status := s.refuse(n); status != 0 {
		answer(w, status, api.Problem{Title: "no", Detail: "the ticket is used up", Code: "E-TICKET"})
		return
	}
	answer(w, http.StatusOK, api.HelloReply{NodeID: "n-1", Certificate: s.ca.certify(h.CSR, time.Hour)})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *scripted) poll(w http.ResponseWriter, r *http.Request) {
	var p api.PollRequest
	s.read(r, &p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	if p.Inventory != nil {
		s.news = append(s.news, *p.Inventory)
	}
	if len(r.TLS.PeerCertificates) != 1 {
		s.t.Error("an agent without certificate polls")
	}
	if status := s.refuse(s.polls); status != 0 {
		answer(w, status, api.Problem{Title: "no"})
		return
	}
	if rep := p.Report; rep != nil && rep.State != "running" && len(s.steps) > 0 && rep.StepID == s.steps[0].ID {
		if s.forget--; s.forget < 0 {
			s.reports = append(s.reports, *rep)
			if s.steps = s.steps[1:]; len(s.steps) == 0 {
				close(s.over)
			}
		}
	}
	var reply api.PollReply
	if len(s.steps) > 0 {
		reply.Step = s.steps[0]
	}
	answer(w, http.StatusOK, reply)
}

func (s *scripted) states() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.reports {
		out = append(out, r.StepID+" "+r.State)
	}
	return slices.Clone(out)
}

// known returns a client that has a certificate of the server already.
func known(t *testing.T, s *scripted, url string) *client {
	t.Helper()
	c, err := newClient(url, s.ca.pin(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := adopt(c, s.ca.certify(id.csr, time.Hour), id.keyPEM); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}
