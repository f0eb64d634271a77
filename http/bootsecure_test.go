package http

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWhatComesByTLSStaysThere(t *testing.T) {
	s, _ := newTestServer(t, func(o *Options) { o.BootHTTPS = 443 })
	for _, path := range []string{"/boot/ipxe?mac=52-54-00-00-00-99", "/boot/autoexec.ipxe"} {
		for port, want := range map[int]string{443: "https://10.77.0.1/boot/", 80: "http://10.77.0.1/boot/"} {
			req := httptest.NewRequest(http.MethodGet, path, nil)
			local := &net.TCPAddr{IP: net.IPv4(10, 77, 0, 1), Port: port}
			req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, net.Addr(local)))
			rec := httptest.NewRecorder()
			s.BootHandler().ServeHTTP(rec, req)
			if body := rec.Body.String(); !strings.Contains(body, want) || port == 443 && strings.Contains(body, "http://") {
				t.Errorf("%s on port %d: want URLs that begin with %s:\n%s", path, port, want, body)
			}
		}
	}
}
