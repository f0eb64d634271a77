package bmc_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

func TestAMagicPacketGoesToEveryCard(t *testing.T) {
	t.Parallel()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	target := bmc.Target{
		Node: "n1", Driver: fleet.DriverWOL,
		Wake: bmc.Wake{MACs: []string{"52:54:00:12:34:56", "52:54:00:12:34:57"}, To: []netip.AddrPort{conn.LocalAddr().(*net.UDPAddr).AddrPort()}},
	}
	if _, err := quick().Switch(t.Context(), target, fleet.PowerOn); err != nil {
		t.Fatal(err)
	}
	for _, mac := range target.Wake.MACs {
		buf := make([]byte, 200)
		if err := conn.SetReadDeadline(time.Now().Add(generous)); err != nil {
			t.Fatal(err)
		}
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		hw, _ := net.ParseMAC(mac)
		want := bytes.Repeat([]byte{0xff}, 6)
		for range 16 {
			want = append(want, hw...)
		}
		if !bytes.Equal(buf[:n], want) {
			t.Errorf("for %s came % x", mac, buf[:n])
		}
	}
}

func TestAMagicPacketDoesNothingElse(t *testing.T) {
	t.Parallel()
	woken := bmc.Wake{MACs: []string{"52:54:00:12:34:56"}, To: bmc.Broadcast(netip.Prefix{})}
	for _, op := range []fleet.PowerOp{fleet.PowerOff, fleet.PowerSoft, fleet.PowerNMI} {
		_, err := quick().Switch(t.Context(), bmc.Target{Node: "n1", Driver: fleet.DriverWOL, Wake: woken}, op)
		if !errors.Is(err, bmc.ErrUnsupported) {
			t.Errorf("power %s = %v, want %v", op, err, bmc.ErrUnsupported)
		}
	}
	_, err := quick().Switch(t.Context(), bmc.Target{Node: "n1", Driver: fleet.DriverWOL}, fleet.PowerOn)
	if !errors.Is(err, bmc.ErrNoRoute) {
		t.Errorf("with nowhere to send it: %v, want %v", err, bmc.ErrNoRoute)
	}
}

func TestMagicPacketsGoToTheWholeSubnet(t *testing.T) {
	all := netip.MustParseAddrPort("255.255.255.255:9")
	tests := map[string][]netip.AddrPort{
		"10.77.0.0/24":  {netip.MustParseAddrPort("10.77.0.255:9"), all},
		"10.77.4.9/22":  {netip.MustParseAddrPort("10.77.7.255:9"), all},
		"10.0.0.0/8":    {netip.MustParseAddrPort("10.255.255.255:9"), all},
		"2001:db8::/64": {all},
	}
	for subnet, want := range tests {
		if got := bmc.Broadcast(netip.MustParsePrefix(subnet)); !slices.Equal(got, want) {
			t.Errorf("Broadcast(%s) = %v, want %v", subnet, got, want)
		}
	}
}
