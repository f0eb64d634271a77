package neighbour_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/internal/neighbour"
	"github.com/rackstage/provision/internal/netns"
)

// Nobody answers these machines: that they have asked is enough.
func TestWhoHasAskedForOurHardwareAddressIsKnown(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	for _, args := range []string{"link add rack0 type veth peer name nic0 address 52:54:00:00:00:07", "address add 10.77.0.1/24 dev rack0", "address add fd77::1/64 dev rack0 nodad", "link set rack0 up"} {
		if err := netns.IP(strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
	}
	netns.Elsewhere(t, "nic0", func() error {
		for _, args := range []string{"address add 10.77.0.9/24 dev nic0", "address add fd77::9/64 dev nic0 nodad", "link set nic0 up"} {
			if err := netns.IP(strings.Fields(args)...); err != nil {
				return err
			}
		}
		for _, to := range []string{"10.77.0.1:69", "[fd77::1]:69"} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "udp", to)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = conn.Close() }) // it keeps the namespace alive
			if _, err := conn.Write([]byte("hello")); err != nil {
				return err
			}
		}
		return nil
	})
	four, six := netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("fd77::9")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var got map[netip.Addr]string
	for range 250 {
		var err error
		if got, err = neighbour.Cards(); err != nil {
			t.Fatal(err)
		}
		if got[four] != "" && got[six] != "" {
			break
		}
		<-tick.C
	}
	if got[four] != "52:54:00:00:00:07" || got[six] != "52:54:00:00:00:07" {
		t.Errorf("known are %v, want %s and %s", got, four, six)
	}
	if len(got) > 4 { // and link-local ones
		t.Errorf("known are %v", got)
	}
}
