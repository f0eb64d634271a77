package api

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tlsServer serves with a certificate that a CA of its own issued, and sends
// the CA's certificate along.
func tlsServer(t *testing.T, handler http.HandlerFunc) (server *httptest.Server, ca *x509.Certificate) {
	t.Helper()
	ca, leaf := newChain(t, net.IPv4(127, 0, 0, 1))
	server = httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, ca
}

func pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWhichServersAreTrusted(t *testing.T) {
	server, ca := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"version":"1"}`) })
	other, _ := newChain(t, net.IPv4(127, 0, 0, 1))
	elsewhere, elsewhereLeaf := newChain(t, net.IPv4(10, 0, 0, 1))
	wrongName := httptest.NewUnstartedServer(http.NotFoundHandler())
	wrongName.TLS = &tls.Config{Certificates: []tls.Certificate{elsewhereLeaf}}
	wrongName.StartTLS()
	defer wrongName.Close()
	caFile := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})))

	tests := map[string]struct {
		o  ClientOptions
		ok bool
	}{
		"the system's CAs know nothing of it":          {ClientOptions{Server: server.URL}, false},
		"its CA by file":                               {ClientOptions{Server: server.URL, CAFile: caFile}, true},
		"its CA by fingerprint":                        {ClientOptions{Server: server.URL, CAPin: pin(ca)}, true},
		"its CA by both":                               {ClientOptions{Server: server.URL, CAFile: caFile, CAPin: pin(ca)}, true},
		"the right file and another fingerprint":       {ClientOptions{Server: server.URL, CAFile: caFile, CAPin: pin(other)}, false},
		"another CA's fingerprint":                     {ClientOptions{Server: server.URL, CAPin: pin(other)}, false},
		"the server's own fingerprint is no CA's":      {ClientOptions{Server: server.URL, CAPin: pin(leafOf(t, server))}, false},
		"the right CA, a certificate for another host": {ClientOptions{Server: wrongName.URL, CAPin: pin(elsewhere)}, false},
		"nobody listens":                               {ClientOptions{Server: "https://127.0.0.1:1", CAPin: pin(ca)}, false},
		"no socket is there":                           {ClientOptions{Server: "unix:" + filepath.Join(t.TempDir(), "api.sock")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := NewClient(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Version(t.Context())
			if tt.ok {
				if err != nil {
					t.Errorf("Version = %v", err)
				}
				return
			}
			var away *UnreachableError
			if !errors.As(err, &away) || away.Server != tt.o.Server {
				t.Errorf("Version = %v, want an UnreachableError that names the server", err)
			}
		})
	}
}

func leafOf(t *testing.T, s *httptest.Server) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(s.TLS.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, o := range map[string]ClientOptions{
		"plain http":                   {Server: "http://host:8443"},
		"no scheme":                    {Server: "host:8443"},
		"a pin that is none":           {Server: "https://host:8443", CAPin: "sha256:12"},
		"a CA file without CA":         {Server: "https://host:8443", CAFile: file(t, "nonsense")},
		"a token file that is missing": {TokenFile: "/nonexistent/token"},
		"an empty token file":          {TokenFile: file(t, "\n")},
		"a token of two lines":         {TokenFile: file(t, "a\nb")},
	} {
		if _, err := NewClient(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTheTokenGoesToTheServerAndNotBeyond(t *testing.T) {
	var got []string
	server, ca := tlsServer(t, func(w http.ResponseWriter, req *http.Request) {
		got = append(got, req.URL.Path+" "+req.Header.Get("Authorization"))
		http.Redirect(w, req, "/elsewhere", http.StatusFound)
	})
	c, err := NewClient(ClientOptions{Server: server.URL, CAPin: pin(ca), TokenFile: file(t, "word\n")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Pools(t.Context()); err == nil {
		t.Error("a redirect was taken for an answer")
	}
	if want := "/api/v1/pools Bearer word"; len(got) != 1 || got[0] != want {
		t.Errorf("requests = %q, want %q and no more", got, want)
	}
}

func TestErrorsOfTheServer(t *testing.T) {
	tests := map[string]struct {
		status     int
		body       string
		code, text string
	}{
		"a problem":             {409, `{"title":"Conflict","status":409,"detail":"another run","code":"E-RUN-ACTIVE","hint":"wait"}`, "E-RUN-ACTIVE", "another run"},
		"a proxy's page":        {502, `<html>bad gateway</html>`, "", "502 Bad Gateway"},
		"nothing":               {500, ``, "", "500 Internal Server Error"},
		"JSON that is no error": {404, `{"detail":1}`, "", "404 Not Found"},
		"a lie about the code":  {403, `{"title":"OK","status":200}`, "", "OK"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server, ca := tlsServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			c, err := NewClient(ClientOptions{Server: server.URL, CAPin: pin(ca)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Pool(t.Context(), "prd")
			var p *Problem
			if !errors.As(err, &p) || p.Status != tt.status || p.Code != tt.code || !strings.Contains(p.Error(), tt.text) {
				t.Errorf("error = %#v, want status %d, code %q, text %q", err, tt.status, tt.code, tt.text)
			}
		})
	}
}

func TestReadStream(t *testing.T) {
	tests := map[string]struct {
		stream string
		texts  []string
		want   error
	}{
		"two events":            {"retry: 2000\n\nid: 1\ndata: {\"text\":\"a\"}\n\n: \n\ndata: {\"text\":\"b\"}\n\n", []string{"a", "b"}, io.EOF},
		"a reset":               {"data: {\"text\":\"a\"}\n\nevent: reset\ndata: {}\n\ndata: {\"text\":\"b\"}\n\n", []string{"a"}, ErrReset},
		"a cut off event":       {"data: {\"text\":\"a\"}\n", nil, io.EOF},
		"data on several lines": {"data: {\"text\":\ndata: \"a\"}\n\n", []string{"a"}, io.EOF},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var texts []string
			err := readStream(strings.NewReader(tt.stream), func(ev Event) error { texts = append(texts, ev.Text); return nil })
			if !errors.Is(err, tt.want) || strings.Join(texts, ",") != strings.Join(tt.texts, ",") {
				t.Errorf("texts %q, %v; want %q, %v", texts, err, tt.texts, tt.want)
			}
		})
	}
}

func FuzzReadStream(f *testing.F) {
	f.Add("id: 1\ndata: {\"text\":\"a\"}\n\nevent: reset\n\n")
	f.Fuzz(func(_ *testing.T, stream string) {
		_ = readStream(strings.NewReader(stream), func(Event) error { return nil })
	})
}
