package relay

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
)

// behind is a relay of a server that answers so.
func behind(t *testing.T, answer http.HandlerFunc) *Relay {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	r := alone(t)
	r.link.base, r.link.machines, r.link.control = server.URL, server.Client(), server.Client()
	r.away.Store(false)
	return r
}

func TestAPrivateFilePassesARelayWholeOrInParts(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 MiB
	r := behind(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != api.PathRelayBoot+"boot/t/ticket/big.img" || req.Header.Get(api.HeaderMachine) != "10.78.0.50:4711" {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(big))
	})
	tests := map[string]struct {
		header map[string]string
		status int
		body   []byte
	}{
		"whole":                     {nil, 200, big},
		"the end":                   {map[string]string{"Range": "bytes=3145720-"}, 206, big[3145720:]},
		"the end of this version":   {map[string]string{"Range": "bytes=3145720-", "If-Range": `"v1"`}, 206, big[3145720:]},
		"the end of an older one":   {map[string]string{"Range": "bytes=3145720-", "If-Range": `"v0"`}, 200, big},
		"what it has":               {map[string]string{"If-None-Match": `"v1"`}, 304, nil},
		"what is not in the server": {map[string]string{"Range": "bytes=9999999-"}, 416, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequestWithContext(t.Context(), "GET", "/boot/t/ticket/big.img", nil)
			req.RemoteAddr = "10.78.0.50:4711"
			for k, v := range tt.header {
				req.Header.Set(k, v)
			}
			req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(10, 78, 0, 1), Port: 80})))
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			if w.Code != tt.status || tt.body != nil && !bytes.Equal(w.Body.Bytes(), tt.body) {
				t.Errorf("status %d and %d bytes, want %d and %d", w.Code, w.Body.Len(), tt.status, len(tt.body))
			}
			if tt.status != 416 && w.Header().Get("ETag") != `"v1"` || (tt.status == 206) != strings.HasPrefix(w.Header().Get("Content-Range"), "bytes ") && tt.status != 416 {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

// TestAnAnswerThatBreaksOffIsNotTakenForAWholeOne has the server die in the
// middle of an answer of unknown length.
func TestAnAnswerThatBreaksOffIsNotTakenForAWholeOne(t *testing.T) {
	r := behind(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("#!ipxe"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Error("half an answer was passed on as a whole one")
		}
	}()
	fetches(t, r, "GET", "/boot/ipxe", "10.78.0.50")
}
