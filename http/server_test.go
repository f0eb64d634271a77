package http

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// newTestServer returns a server over a fake rack.
func newTestServer(tb testing.TB, change ...func(*Options)) (*Server, *rackEngine) {
	tb.Helper()
	dir := tb.TempDir()
	for name, data := range map[string]string{
		"boot/vmlinuz": "kernel kernel kernel", "boot/initrd.img": strings.Repeat("ramdisk ", 1<<16), "boot/snponly.efi": "loader",
		"boot/.hidden": "secret", "outside": "secret", "chunks/" + testChunk: "chunk",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "boot/link")); err != nil {
		tb.Fatal(err)
	}
	engine := newRackEngine()
	o := Options{
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(1_800_000_060, 0).UTC() },
		Version: api.Version{Version: "1.2.3", Commit: "abc", Go: "go1.26"},
		Engine:  engine, Accounts: desk{}, Authority: noAuthority{}, Images: shelf{dir + "/chunks"},
		BootDir:  filepath.Join(dir, "boot"),
		Counters: func() map[string]int64 { return map[string]int64{"provision_dhcp_naks_total": 2} },
		ParseSite: func(raw []byte) (fleet.Site, error) {
			if strings.Contains(string(raw), "pols:") {
				return fleet.Site{}, &fleet.Error{Kind: fleet.Invalid, Code: "E-SITE", On: "site.yaml:1:1", Hint: `did you mean "pools"?`, Err: io.ErrUnexpectedEOF}
			}
			return fleet.Site{Pools: []fleet.Pool{{Name: "prd"}}}, nil
		},
	}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.bootDir.Close() })
	return s, engine
}

const testChunk = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// through makes requests come in by a door.
func through(s *Server, d door) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.echo.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), keyDoor, d)))
	})
}

// ask sends one request through the plain door as somebody ("" is nobody).
func ask(s *Server, method, target, token, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	req.Host = "localhost"
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	out := httptest.NewRecorder()
	through(s, doorPlain).ServeHTTP(out, req)
	return out
}
