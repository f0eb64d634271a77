package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
	"github.com/rackstage/provision/pxe/tftp"
)

// TestAMachineThatTFTPDoesNotAnswerIsReported has one on the relay's wire with an
// address of no subnet that the server told of, until it tells of it.
func TestAMachineThatTFTPDoesNotAnswerIsReported(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	ip(t, "link", "add", "eth1", "type", "veth", "peer", "name", "nic0", "address", hardware(macA))
	for _, args := range []string{"address add 10.78.0.1/24 dev eth1", "address add 10.99.0.1/24 dev eth1", "link set eth1 up"} {
		ip(t, strings.Fields(args)...)
	}
	machine := socketIn(t, "nic0", "10.99.0.50/24", 2070)
	r := relayBehind(t)
	r.servesTFTP(t)

	ask := func(n int) {
		t.Helper()
		b := make([]byte, 600)
		for range n {
			if _, err := machine.WriteToUDP([]byte("\x00\x01ipxe.efi\x00octet\x00"), &net.UDPAddr{IP: net.IPv4(10, 78, 0, 1), Port: tftp.Port}); err != nil {
				t.Fatal(err)
			}
			_ = machine.SetReadDeadline(time.Now().Add(1100 * time.Millisecond))
			if n, err := machine.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the machine hears %q, %v; want nothing", b[:n], err)
			}
		}
	}
	ask(1)
	r.seekStrangersNow()
	if got := r.reportNow(nil).Trouble; len(got) != 0 {
		t.Errorf("after one packet it reports %+v", got)
	}
	ask(3)
	r.seekStrangersNow()
	got := r.reportNow(nil).Trouble
	want := "TFTP: 10.99.0.50 (" + hardware(macA) + ", node far-1) asked "
	if len(got) != 1 || got[0].Code != fleet.CodeTFTPStranger || !strings.HasPrefix(got[0].Detail, want) || !strings.HasSuffix(got[0].Detail, `for "ipxe.efi" last`) {
		t.Errorf("it reports %+v, want %q", got, want)
	}
	told := farSnapshot()
	told.Subnets = append(told.Subnets, api.RelaySubnet{Name: "other", CIDR: netip.MustParsePrefix("10.99.0.0/24")})
	if err := r.learn(told, "2"); err != nil {
		t.Fatal(err)
	}
	r.seekStrangersNow()
	if got := r.reportNow(nil).Trouble; len(got) != 0 {
		t.Errorf("once the subnet is declared it reports %+v", got)
	}
}

// TestEachMachineThatTFTPDoesNotAnswerIsNamed, not the first alone.
func TestEachMachineThatTFTPDoesNotAnswerIsNamed(t *testing.T) {
	r := &Relay{}
	k, err := understand(farSnapshot(), "1", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.known.Store(k)
	one, two, now := netip.MustParseAddr("10.99.0.50"), netip.MustParseAddr("10.99.0.51"), time.Unix(1_000_000, 0)
	for range 4 {
		for _, a := range []netip.Addr{one, two, netip.MustParseAddr("10.78.0.50")} {
			r.strangers.Ask(a, "ipxe.efi", now)
		}
		now = now.Add(2 * time.Second)
	}
	r.seekStrangers(now, func() (map[netip.Addr]string, error) {
		return map[netip.Addr]string{one: hardware(macA), two: "52:54:00:00:00:0c"}, nil
	})
	want := `10.99.0.50 (52:54:00:00:00:0a, node far-1) asked 4 times in 6s, for "ipxe.efi" last; so did 10.99.0.51 (52:54:00:00:00:0c, node far-2)`
	if got := r.troubles[cause{fleet.CodeTFTPStranger, "TFTP"}]; got != want {
		t.Errorf("it reports\n%s, want\n%s", got, want)
	}
}

// servesTFTP serves at the relay's address until the test ends.
func (r *Relay) servesTFTP(t *testing.T) {
	t.Helper()
	conn, err := listenTFTP(t.Context(), eth1.addr.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.serveTFTP(ctx, conn) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
