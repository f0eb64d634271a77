package image

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/rackstage/provision/fleet"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func zstdOf(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func gzipOf(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func xzOf(t *testing.T, b []byte) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "xz", "-0", "-c")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// serve gives one file at /disk.raw and sends /elsewhere to target.
func serve(t *testing.T, content []byte, target string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/disk.raw", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(content) //nolint:errcheck // the client sees it
	})
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target, http.StatusFound)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func TestAnImageIsImportedPackedOrNot(t *testing.T) {
	raw := smallImage(11)
	for name, packed := range map[string][]byte{
		"raw": raw, "zstd": zstdOf(t, raw), "gzip": gzipOf(t, raw), "xz": xzOf(t, raw),
	} {
		t.Run(name+" file", func(t *testing.T) {
			s := openStore(t)
			info, err := s.Import(t.Context(), "x", imageFile(t, packed), "", nil)
			if err != nil || info.Digest != "sha256:"+hexDigest(raw) || info.Kind != "raw" {
				t.Errorf("Import = %+v, %v; want digest %s", info, err, hexDigest(raw))
			}
			leftNothing(t, s)
		})
		t.Run(name+" by http", func(t *testing.T) {
			s := openStore(t)
			s.Allow = loopback
			info, err := s.Import(t.Context(), "x", serve(t, packed, "").URL+"/disk.raw", "sha256:"+strings.ToUpper(hexDigest(packed)), nil)
			if err != nil || info.Digest != "sha256:"+hexDigest(raw) {
				t.Errorf("Import = %+v, %v; want digest %s", info, err, hexDigest(raw))
			}
			leftNothing(t, s)
		})
	}
}

func leftNothing(t *testing.T, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.path("tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestAnImportThatCannotBeTrustedIsRefused(t *testing.T) {
	raw := noise(1, 2*mib)
	server := serve(t, raw, "http://169.254.169.254/latest/meta-data")
	right := hexDigest(raw)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		from, sum string
		allow     []netip.Prefix
		want      fleet.Kind
	}{
		"this machine":                       {server.URL + "/disk.raw", right, nil, fleet.Denied},
		"this machine by another name":       {strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/disk.raw", right, nil, fleet.Denied},
		"this machine as v6":                 {strings.Replace(server.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1) + "/disk.raw", right, nil, fleet.Denied},
		"the link, by a redirect":            {server.URL + "/elsewhere", right, loopback, fleet.Denied},
		"no SHA-256":                         {server.URL + "/disk.raw", "", loopback, fleet.Invalid},
		"another SHA-256":                    {server.URL + "/disk.raw", strings.Repeat("0", 64), loopback, fleet.Invalid},
		"half a SHA-256":                     {server.URL + "/disk.raw", right[:32], loopback, fleet.Invalid},
		"nothing there":                      {server.URL + "/nothing", right, loopback, fleet.Unreachable},
		"file URL":                           {"file:///etc/passwd", right, loopback, fleet.Invalid},
		"ftp":                                {"ftp://192.0.2.1/disk.raw", right, loopback, fleet.Invalid},
		"a device":                           {"/dev/zero", "", nil, fleet.Invalid},
		"a device behind a link":             {link, "", nil, fleet.Invalid},
		"the system's own":                   {"/etc/passwd", "", nil, fleet.Invalid},
		"a process's memory":                 {"/proc/self/mem", "", nil, fleet.Invalid},
		"a file with another SHA-256":        {imageFile(t, raw), strings.Repeat("0", 64), nil, fleet.Invalid},
		"a folder":                           {t.TempDir(), "", nil, fleet.Invalid},
		"a file that is not there":           {filepath.Join(t.TempDir(), "no"), "", nil, fleet.NotFound},
		"qcow2, which may name other files":  {imageFile(t, append([]byte("QFI\xfb"), raw...)), "", nil, fleet.Invalid},
		"too large":                          {imageFile(t, noise(1, 5*mib)), "", nil, fleet.Invalid},
		"too large once unpacked":            {imageFile(t, zstdOf(t, make([]byte, 100*mib))), "", nil, fleet.Invalid},
		"too large once unpacked, from gzip": {imageFile(t, gzipOf(t, make([]byte, 100*mib))), "", nil, fleet.Invalid},
		"too large once unpacked, from xz":   {imageFile(t, xzOf(t, make([]byte, 100*mib))), "", nil, fleet.Invalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := openStore(t)
			s.Allow, s.MaxBytes = tt.allow, 4*mib
			_, err := s.Import(t.Context(), "x", tt.from, tt.sum, nil)
			if got := fleet.KindOf(err); got != tt.want {
				t.Errorf("Import = %v, kind %q, want %q", err, got, tt.want)
			}
			if fleet.HintOf(err) == "" && tt.want != "" {
				t.Errorf("Import = %v, without a hint", err)
			}
			if list, err := s.List(); err != nil || len(list) != 0 {
				t.Errorf("List = %v, %v; want none", list, err)
			}
			leftNothing(t, s)
		})
	}
}

func TestACutPackedImageIsNotHalfAnImage(t *testing.T) {
	raw := smallImage(2)
	for name, packed := range map[string][]byte{"zstd": zstdOf(t, raw), "gzip": gzipOf(t, raw), "xz": xzOf(t, raw)} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t)
			if _, err := s.Import(t.Context(), "x", imageFile(t, packed[:len(packed)/2]), "", nil); err == nil {
				t.Error("Import of half a file went well")
			}
			leftNothing(t, s)
		})
	}
}

func TestAPasswordInAURLIsNotTold(t *testing.T) {
	s := openStore(t)
	_, err := s.Import(t.Context(), "x", "http://user:hunter2@127.0.0.1:1/disk.raw?token=hunter3", strings.Repeat("0", 64), nil)
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("Import = %v, want an error without the password", err)
	}
}
