package access

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// serve starts a TLS server that answers with who asked.
func serve(t *testing.T, a *Authority) *httptest.Server {
	t.Helper()
	config, err := a.ServerTLS([]string{"provision.lab"}, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	must(t, err)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node, stage, err := a.Identify(r.TLS.PeerCertificates)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, string(node)+"@"+string(stage))
	}))
	srv.TLS = config
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// agent returns a client that trusts the fingerprint only, and shows a
// certificate if it has one.
func agent(t *testing.T, a *Authority, name string, cert ...tls.Certificate) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.CAPEM()) {
		t.Fatal("the CA is not PEM")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name, Certificates: cert}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	res, err := c.Do(req)
	if err != nil {
		return "refused"
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode != http.StatusOK {
		return res.Status
	}
	return string(body)
}

func nodeCert(t *testing.T, a *Authority, stage string) tls.Certificate {
	t.Helper()
	key := ecKey(t)
	cert, err := a.SignBoot(request(t, key), "n-1")
	if stage != "" {
		cert, err = a.SignStage(request(t, key), "n-1", "prd")
	}
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{parse(t, cert).Raw}, PrivateKey: key}
}

func TestTheServerKnowsItsNodes(t *testing.T) {
	a := authority(t, t.TempDir())
	srv := serve(t, a) // before there is a stage
	stranger := nodeCert(t, authority(t, t.TempDir()), "prd")
	tests := map[string]struct {
		client *http.Client
		want   string
	}{
		"nobody":              {agent(t, a, ""), "403 Forbidden"},
		"by its name":         {agent(t, a, "provision.lab", nodeCert(t, a, "")), "n-1@"},
		"a booting machine":   {agent(t, a, "", nodeCert(t, a, "")), "n-1@"},
		"a stage that is new": {agent(t, a, "", nodeCert(t, a, "prd")), "n-1@prd"},
		"a stranger":          {agent(t, a, "", stranger), "refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := get(t, tt.client, srv.URL); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheServerProvesItselfByItsFingerprint(t *testing.T) {
	a := authority(t, t.TempDir())
	srv := serve(t, a)
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // looks at what is sent
	conn, err := dialer.DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	must(t, err)
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(chain) != 2 || !chain[1].Equal(a.server.cert) {
		t.Fatalf("it sent %d certificates, want its own and its authority's", len(chain))
	}
	if got := get(t, agent(t, authority(t, t.TempDir()), ""), srv.URL); got != "refused" {
		t.Errorf("an agent of another server got %q", got)
	}
}

func TestTheServersCertificateIsRenewedInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		config, err := authority(t, dir).ServerTLS([]string{"provision"}, nil)
		must(t, err)
		first, err := config.GetCertificate(nil)
		must(t, err)
		for day := range 400 {
			cert, err := config.GetCertificate(nil)
			must(t, err)
			if left := time.Until(cert.Leaf.NotAfter); left < 29*24*time.Hour {
				t.Fatalf("day %d: %v left", day, left)
			}
			if day < 59 && cert != first {
				t.Fatalf("day %d: renewed already", day)
			}
			wait(24 * time.Hour)
		}
	})
}

func TestALeafDoesNotOutliveItsAuthority(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := authority(t, dir)
		wait(caLife - 10*24*time.Hour)
		cert, err := a.SignStage(request(t, ecKey(t)), "n-1", "dev") // made today
		must(t, err)
		if got := parse(t, cert); got.NotAfter.After(a.stages["dev"].cert.NotAfter) {
			t.Errorf("it is valid until %v", got.NotAfter)
		}
		config, err := a.ServerTLS([]string{"provision"}, nil)
		must(t, err)
		server, err := config.GetCertificate(nil)
		must(t, err)
		if server.Leaf.NotAfter.After(a.server.cert.NotAfter) {
			t.Errorf("the server's is valid until %v, its authority until %v", server.Leaf.NotAfter, a.server.cert.NotAfter)
		}
	})
}

// cameIn is a connection to one of our addresses.
type cameIn struct {
	net.Conn
	at netip.Addr
}

func (c cameIn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.at, 8443))
}

func TestTheCertificateHasRoomForAnAddressHoweverManyThereWere(t *testing.T) {
	first, own := netip.MustParseAddr("10.1.0.0"), netip.MustParseAddr("10.77.0.1")
	config, err := authority(t, t.TempDir()).ServerTLS(nil, []netip.Addr{own})
	must(t, err)
	at := func(a netip.Addr) *tls.Certificate {
		cert, err := config.GetCertificate(&tls.ClientHelloInfo{Conn: cameIn{at: a}})
		must(t, err)
		if err := cert.Leaf.VerifyHostname(a.String()); err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for i, a := 0, first; i < maxLearned+10; i, a = i+1, a.Next() {
		at(a)
		at(first) // is in use all the time
	}
	before := at(first)
	if at(own) != before || at(first) != before || len(before.Leaf.IPAddresses) != 1+maxLearned {
		t.Errorf("a certificate with %d addresses was made anew, or has lost those in use", len(before.Leaf.IPAddresses))
	}
}
