package netns_test

import (
	"net"
	"testing"

	"github.com/rackstage/provision/internal/netns"
)

// A link of which one end is elsewhere is not seen there from here.
func TestALinkHasItsEndsInTwoNamespaces(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	if err := netns.IP("link", "add", "here0", "type", "veth", "peer", "name", "there0"); err != nil {
		t.Fatal(err)
	}
	has := func(name string) bool { _, err := net.InterfaceByName(name); return err == nil }
	netns.Elsewhere(t, "there0", func() error {
		if has("here0") || !has("there0") {
			t.Errorf("elsewhere: here0 %t, there0 %t; want only there0", has("here0"), has("there0"))
		}
		return netns.IP("link", "set", "there0", "up")
	})
	if err := netns.IP("link", "set", "none0", "up"); err == nil {
		t.Error("a link that is not there went up")
	}
}
