package relay

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/pxe/tftp"
)

// TestKernelsGoByTFTPOnlyToLoadersWithoutHTTP is what the server does, too.
func TestKernelsGoByTFTPOnlyToLoadersWithoutHTTP(t *testing.T) {
	r := behind(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case api.PathRelayTFTP + "grub/grub.cfg":
			_, _ = w.Write([]byte("linux vmlinuz"))
		case api.PathRelayQuirk:
			_ = json.NewEncoder(w).Encode(api.RelayQuirk{BlockSize: 1024})
		default:
			http.NotFound(w, req)
		}
	})
	big := api.RelayFile{Name: "big.img", Size: 5 << 20, SHA256: strings.Repeat("2", 64)}
	r.known.Load().files[big.Name] = big
	who := speaker{netip.MustParseAddrPort("10.78.0.50:2070"), eth1.addr.Addr()}
	if f, _, err := r.openTFTP(t.Context(), "vmlinuz", who); err != nil {
		t.Errorf("a small file: %v", err)
	} else {
		_ = f.Close()
	}
	if _, _, err := r.openTFTP(t.Context(), "big.img", who); !errors.Is(err, tftp.ErrNotByTFTP) {
		t.Errorf("a big one: %v, want that it goes by HTTP", err)
	}
	if _, _, err := r.openTFTP(t.Context(), "grub/grub.cfg", who); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.openTFTP(t.Context(), "big.img", who); errors.Is(err, tftp.ErrNotByTFTP) {
		t.Errorf("a big one for a GRUB without HTTP: %v", err)
	}
	if got := r.maxBlock(t.Context(), who); got != 1024 {
		t.Errorf("blocks of %d, want 1024", got)
	}
	r.away.Store(true)
	if got := r.maxBlock(t.Context(), who); got != 0 {
		t.Errorf("blocks of %d while the server is away, want any", got)
	}
}
