package relay

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/ipv6"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/internal/netns"
	"github.com/rackstage/provision/pxe/tftp"
)

func TestTransfersThatSayWhereABootStoppedAreReported(t *testing.T) {
	tests := map[string]struct {
		name string
		err  error
		sent int64
		want string // "-": not reported
	}{
		"whole":                        {"ipxe.efi", nil, 1000, ""},
		"nobody acknowledged anything": {"ipxe.efi", tftp.ErrUnheard, 0, api.TransferUnheard},
		"the last packet is left":      {"ipxe.efi", tftp.ErrLastUnheard, 900, api.TransferLastUnheard},
		"something else":               {"ipxe.efi", errors.New("disk broke"), 10, "disk broke"},
		"a script":                     {"grub/grub.cfg", nil, 100, "-"},
		"only the size was asked for":  {"ipxe.efi", &tftp.AbortedError{}, 0, "-"},
		"there is none":                {"x86_64-efi/command.lst", fs.ErrNotExist, 0, "-"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := alone(t)
			now := time.Unix(1, 0)
			r.o.Now = func() time.Time { return now }
			r.sawTransfer(tftp.Transfer{
				Client: netip.MustParseAddrPort("10.78.0.50:2070"), Local: netip.MustParseAddrPort("10.78.0.1:4000"), Name: tt.name, Err: tt.err, Sent: tt.sent, Packets: 6,
			})
			want := []api.RelayFetched{{
				At: now, Addr: netip.MustParseAddr("10.78.0.50"), File: tt.name, By: "TFTP",
				Transfer: &api.RelayTransfer{Port: 4000, Sent: tt.sent, Packets: 6, Err: tt.want},
			}}
			if tt.want == "-" {
				want = nil
			}
			if diff := cmp.Diff(want, r.takeSeen(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("to report (-want +got):\n%s", diff)
			}
		})
	}
}

// watches has the relay look for other servers until the test ends.
func (s *segment) watches() {
	ctx, stop := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.relay.others.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}

// TestARouterAmongTheMachinesIsReported has one advertise a prefix.
func TestARouterAmongTheMachinesIsReported(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegment6(t)
	s.watches()
	advert := append([]byte{134, 0, 0, 0, 64, 0x40, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0}, netip.MustParseAddr("fd99::").AsSlice()...)
	var found []api.RelayForeign
	await(t, "the router in a report", func() bool {
		if _, err := s.icmp.WriteTo(advert, &ipv6.ControlMessage{HopLimit: 255, IfIndex: s.index}, &net.IPAddr{IP: net.ParseIP("ff02::1")}); err != nil {
			t.Fatal(err)
		}
		found = s.relay.reportNow(nil).Foreign
		return len(found) > 0
	})
	if f := found[0]; len(found) > 1 || f.Addr != machine6 || f.At != link6 || f.Router == nil || f.Router.Managed || !f.Router.Other || f.Router.Lifetime != 1800*time.Second ||
		!slices.Equal(f.Router.Prefixes, []api.RelayPrefix{{Prefix: netip.MustParsePrefix("fd99::/64"), Auto: true}}) {
		t.Errorf("reported %+v, %+v", found, found[0].Router)
	}
}

// TestAnotherDHCPServerAmongTheMachinesIsReported has one answer a machine.
func TestAnotherDHCPServerAmongTheMachinesIsReported(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	s := newSegmentFrom(t, 67)
	s.watches()
	offer := reply(set(atYIAddr, 10, 78, 0, 99), set(atGIAddr, 0, 0, 0, 0), set(atOptions+2, 2), with(optionServer, 10, 78, 0, 50))
	for range 50 {
		if _, err := s.machine.WriteToUDPAddrPort(offer, netip.MustParseAddrPort("255.255.255.255:68")); err != nil {
			t.Fatal(err)
		}
		s.hearsWithin(s.server, 100*time.Millisecond)
		report := s.relay.reportNow(nil)
		if len(report.Foreign) == 0 {
			continue
		}
		if f := report.Foreign[0]; f.Addr.String() != "10.78.0.50" || f.At != eth1.addr.Addr() || f.MAC == "" || !f.Full {
			t.Errorf("reported %+v", f)
		}
		return
	}
	t.Error("an OFFER of another server was never reported")
}
