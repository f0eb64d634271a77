package dhcp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

// realLeases keeps leases in the store that servers have.
func realLeases(t *testing.T) *store.Store {
	t.Helper()
	db, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestALeaseThatTheStoreRefusesCostsNobodyElseItsACK(t *testing.T) {
	ts := newTestServer(t, wideSubnet())
	ts.o.Leases = realLeases(t)
	var batch []reply
	for i := range 20 {
		mac := fleet.MAC(fmt.Sprintf("52:54:00:00:01:%02x", i))
		addr := fmt.Sprintf("10.77.0.%d", 100+i)
		r, ok := ts.handle(packet(mac, request, wants(addr), chooses("10.77.0.1")).ToBytes(), byBroadcast())
		if !ok {
			t.Fatalf("no ACK for %s", mac)
		}
		batch = append(batch, r)
	}
	batch[7].lease.ClientID = strings.Repeat("00", 600)
	ts.commit.Commit(t.Context(), batch)
	if len(ts.sent) != 19 {
		t.Errorf("%d of 20 ACKs left, want all but that of the lease that the store refuses", len(ts.sent))
	}
	if st := ts.Stats(); st.ACKs != 19 || st.Unsaved != 1 {
		t.Errorf("Stats = %+v", st)
	}
	if got := ts.alarms.detail(fleet.CodeLeasesUnsaved, unsavedOn); got != "" {
		t.Errorf("alarm %q, and the store is well", got)
	}
	if _, ok := ts.LeaseByAddr(netip.MustParseAddr("10.77.0.107")); ok {
		t.Error("a lease that was not stored is shown")
	}
}

func TestAnEndlessClientIdentifierIsRefused(t *testing.T) {
	tests := map[string]struct {
		pieces []int
		heard  bool
	}{
		"a long one":                       {[]int{255}, true},
		"a long one, in pieces":            {[]int{100, 155}, true},
		"one byte longer":                  {[]int{200, 56}, false},
		"longer than the store would take": {[]int{255, 255, 255}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(fleet.Full))
			ts.o.Leases = realLeases(t)
			options := "\x35\x01\x03\x32\x04\x0a\x4d\x00\x64\x36\x04\x0a\x4d\x00\x01"
			for _, n := range tt.pieces {
				options += "\x3d" + string([]byte{byte(n)}) + strings.Repeat("x", n)
			}
			got, _ := ts.put(raw(options+"\xff"), byBroadcast())
			if (kindOf(got) == ack) != tt.heard {
				t.Errorf("answer = %s", kindOf(got))
			}
			if st := ts.Stats(); (st.Malformed == 1) == tt.heard || st.Unsaved != 0 {
				t.Errorf("Stats = %+v", st)
			}
		})
	}
}
