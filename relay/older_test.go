package relay

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// A node of both families has an address of each, whichever the server has stored;
// older servers tell one.
func TestANodeIsKnownByTheAddressesOfBothFamilies(t *testing.T) {
	four, none := netip.MustParseAddr("10.78.0.50"), netip.Addr{}
	tests := map[string]struct {
		addr, other      netip.Addr
		by4, by6         netip.Addr
		known, strangers []netip.Addr
	}{
		"one of IPv4 is stored":   {four, node6, four, node6, []netip.Addr{four, node6}, nil},
		"one of IPv6 is":          {node6, four, four, node6, []netip.Addr{four, node6}, nil},
		"it has one of IPv4 only": {four, none, four, four, []netip.Addr{four}, []netip.Addr{node6}},
		"it has one of IPv6 only": {node6, none, node6, node6, []netip.Addr{node6}, []netip.Addr{four}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := farSnapshot()
			s.Nodes[0].Addr, s.Nodes[0].Other = tt.addr, tt.other
			k, err := understand(s, "1", []string{"lo"}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			mac := fleet.MAC(hardware(macA))
			if got4, got6 := k.byMAC[mac].Addr, k.byMAC6[mac].Addr; got4 != tt.by4 || got6 != tt.by6 {
				t.Errorf("it is told %s and %s, want %s and %s", got4, got6, tt.by4, tt.by6)
			}
			for _, a := range tt.known {
				if n := k.byAddr[a]; n.ID != "n-0000000001" || n.Addr != a {
					t.Errorf("at %s is %q with %s", a, n.ID, n.Addr)
				}
			}
			for _, a := range tt.strangers {
				if n, ok := k.byAddr[a]; ok {
					t.Errorf("at %s is %q", a, n.ID)
				}
			}
		})
	}
}

// Servers say so of a path that they have never heard of, since the first one.
func TestARefusalOfAnOlderServerSaysWhatToUpgrade(t *testing.T) {
	tests := map[string]struct {
		status int
		body   string
		want   string
	}{
		"an endpoint that it does not have": {404, `{"code":"E-PATH","detail":"there is nothing at this path","hint":"see /api/v1/openapi.json"}`, "does not know " + api.PathRelayQuirk + ": it is older than this relay; upgrade the server"},
		"a file that it does not have":      {404, `{"code":"E-PATH","detail":"no such file"}`, "no such file"},
		"a chunk that it does not have":     {404, "404 page not found", "Not Found"},
		"a relay that it does not know":     {401, `{"code":"E-RELAY","detail":"none of a relay","hint":"enrol it again"}`, "none of a relay"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			res := &http.Response{StatusCode: tt.status, Body: io.NopCloser(strings.NewReader(tt.body)), Request: httptest.NewRequest("GET", "https://server"+api.PathRelayQuirk, nil)}
			if got := refused(res).Error(); !strings.HasSuffix(got, tt.want) {
				t.Errorf("refused = %q, want %q at its end", got, tt.want)
			}
		})
	}
}
