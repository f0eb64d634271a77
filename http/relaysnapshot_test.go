package http

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestTheSnapshotHasTheRelaysOwnNodesOnly(t *testing.T) {
	s := newRelaySite(t)
	for i, addr := range []string{"10.78.0.11", "10.79.0.11", "10.78.0.50"} {
		n := fleet.Node{ID: fleet.NewNodeID(), Name: "web-" + addr[3:5], MAC: fleet.MAC("52:54:00:00:01:0" + string(rune('0'+i))), State: fleet.Active, Addr: netip.MustParseAddr(addr)}
		s.engine.nodes = append(s.engine.nodes, n)
	}
	res, body := s.ask("GET", api.PathRelaySnapshot, "", nil)
	var got api.RelaySnapshot
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	// 10.78.0.50 is another machine's by now.
	if len(got.Nodes) != 1 || got.Nodes[0].Addr.String() != "10.78.0.11" || len(got.Subnets) != 1 || got.Subnets[0].Name != "west-boot" {
		t.Errorf("nodes %+v, subnets %+v", got.Nodes, got.Subnets)
	}
	names := map[string]string{}
	for _, f := range got.Files {
		names[f.Name] = f.SHA256
	}
	if len(names) != 3 || len(names["vmlinuz"]) != 64 {
		t.Errorf("files %v, want the loader, the kernel and the ramdisk", names)
	}
	if status, _ := s.snapshotUnless(res.Header.Get("ETag")); status != http.StatusNotModified {
		t.Errorf("asked again: status %d, want 304", status)
	}
}

// heldAddrs are the addresses that machines hold.
type heldAddrs map[fleet.MAC][]netip.Addr

func (h heldAddrs) AddrsOf(macs ...fleet.MAC) (addrs []netip.Addr) {
	for _, mac := range macs {
		addrs = append(addrs, h[mac]...)
	}
	return addrs
}

func TestTheSnapshotHasTheAddressesOfBothFamilies(t *testing.T) {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	const one, two = fleet.MAC("52:54:00:00:01:01"), fleet.MAC("52:54:00:00:01:02")
	tests := map[string]struct {
		stored      netip.Addr
		held        heldAddrs
		addr, other string // "invalid IP": none
	}{
		"it has what is stored":                   {a("10.78.0.11"), nil, "10.78.0.11", "invalid IP"},
		"it holds one of IPv6":                    {a("10.78.0.11"), heldAddrs{one: {a("10.78.0.11"), a("fd78::11")}}, "10.78.0.11", "fd78::11"},
		"that of IPv6 is stored":                  {a("fd78::11"), heldAddrs{one: {a("10.78.0.11"), a("fd78::11")}}, "fd78::11", "10.78.0.11"},
		"another card of it does":                 {a("10.78.0.11"), heldAddrs{two: {a("fd78::12")}}, "10.78.0.11", "fd78::12"},
		"it holds one elsewhere":                  {a("10.78.0.11"), heldAddrs{one: {a("fd79::11")}}, "10.78.0.11", "invalid IP"},
		"what is stored is elsewhere":             {a("10.79.0.11"), heldAddrs{one: {a("fd78::11")}}, "fd78::11", "invalid IP"},
		"what is stored is another machine's now": {a("10.78.0.50"), heldAddrs{one: {a("10.78.0.12"), a("fd78::11")}}, "10.78.0.12", "fd78::11"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, e := newTestServer(t, func(o *Options) { o.Held, o.Leases = tt.held, leaseBook{a("10.78.0.50"): "52:54:00:00:00:77"} })
			e.site.Subnets = []fleet.Subnet{
				{Name: "west-boot", CIDR: netip.MustParsePrefix("10.78.0.0/24")},
				{Name: "west6", CIDR: netip.MustParsePrefix("fd78::/64")},
				{Name: "prd-boot", CIDR: netip.MustParsePrefix("10.79.0.0/24")},
				{Name: "prd6", CIDR: netip.MustParsePrefix("fd79::/64")},
			}
			got, ok := s.relayNode(fleet.Relay{Subnets: []string{"west-boot", "west6"}}, fleet.Node{MAC: one, MACs: []fleet.MAC{one, two}, State: fleet.Active, Addr: tt.stored})
			if !ok || got.Addr.String() != tt.addr || got.Other.String() != tt.other {
				t.Errorf("told are %s and %s (%v), want %s and %s", got.Addr, got.Other, ok, tt.addr, tt.other)
			}
		})
	}
}

// snapshotUnless asks for the snapshot, unless it has this tag.
func (s *relaySite) snapshotUnless(tag string) (status int, now string) {
	s.t.Helper()
	req, _ := http.NewRequestWithContext(s.t.Context(), "GET", s.base+api.PathRelaySnapshot, nil)
	req.Header.Set("If-None-Match", tag)
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode, res.Header.Get("ETag")
}

func TestASnapshotIsMadeAgainOnlyWhenSomethingHasChanged(t *testing.T) {
	s := newRelaySite(t)
	_, tag := s.snapshotUnless("")
	made := s.engine.listed
	for range 5 {
		if status, _ := s.snapshotUnless(tag); status != http.StatusNotModified {
			t.Fatalf("status %d, want 304", status)
		}
	}
	if s.engine.listed != made {
		t.Errorf("it was made %d times more for a relay that has it", s.engine.listed-made)
	}
	changes := map[string]func(){
		"a node": func() {
			s.engine.put(fleet.Node{ID: "n-0000000001", MAC: "52:54:00:00:00:01", State: fleet.Active, Addr: netip.MustParseAddr("10.78.0.19")}, fleet.Event{})
		},
		"a boot file": func() {
			if err := os.WriteFile(filepath.Join(s.dir, "memtest"), []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, change := range changes {
		change()
		status, now := s.snapshotUnless(tag)
		if status != http.StatusOK || now == tag {
			t.Errorf("%s is new: status %d, want 200", name, status)
		}
		tag = now
	}
}
