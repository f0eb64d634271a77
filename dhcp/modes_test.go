package dhcp

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/golden"
)

// Every mode answers every kind of client as it was reviewed: who gets an
// address, who is told what to boot, and who hears nothing.
func TestEachModeAnswersAsReviewed(t *testing.T) {
	clients := []struct {
		name string
		in   []byte
		from arrival
	}{
		{"an operating system", packet(macA, discover, option(55, "\x01\x03\x06\x0f\x1a\x77\x79")).ToBytes(), byBroadcast()},
		{"a BIOS ROM", packet(macA, discover, firmware("PXEClient:Arch:00000:UNDI:002001", 0)).ToBytes(), byBroadcast()},
		{"UEFI PXE", packet(macA, discover, firmware("PXEClient:Arch:00007:UNDI:003000", 7)).ToBytes(), byBroadcast()},
		{"UEFI HTTP boot", packet(macA, discover, firmware("HTTPClient:Arch:00016:UNDI:003000", 16)).ToBytes(), byBroadcast()},
		{"iPXE", packet(macA, discover, firmware("PXEClient:Arch:00007:UNDI:003010", 7), option(77, "iPXE")).ToBytes(), byBroadcast()},
		{"a BOOTP ROM", bootpPacket(macA, true), byBroadcast()},
		{"UEFI PXE behind a relay", packet(macA, discover, firmware("PXEClient:Arch:00007:UNDI:003000", 7), relayed("10.77.0.9"), option(82, "\x01\x04ge-7\x0b\x04\x0a\x4d\x00\x09")).ToBytes(), fromRelay("10.77.0.9")},
		{"UEFI PXE behind another relay", packet(macA, discover, firmware("PXEClient:Arch:00007:UNDI:003000", 7), relayed("10.77.0.8")).ToBytes(), fromRelay("10.77.0.8")},
		{"one with an address", packet(macA, inform, has("10.77.0.50")).ToBytes(), byBroadcast()},
		{"a request on port 4011", packet(macA, request, firmware("PXEClient:Arch:00007:UNDI:003000", 7), has("10.77.0.50")).ToBytes(), onProxyPort()},
	}
	var got strings.Builder
	for _, mode := range []fleet.DHCPMode{fleet.Observe, fleet.Proxy, fleet.Reserved, fleet.Full} {
		for _, state := range []fleet.State{"", fleet.Ready, fleet.Active} {
			fmt.Fprintf(&got, "== %s, %s ==\n", mode, map[fleet.State]string{"": "unknown"}[state]+string(state))
			for _, c := range clients {
				ts := newTestServer(t, modesSubnet(mode))
				ts.SetPools([]fleet.Pool{{Name: "web", Options: []fleet.DHCPOption{{Code: 150, Data: []byte{10, 77, 0, 7}}}}})
				if state != "" {
					ts.nodes[macA] = fleet.Node{MAC: macA, State: state, Name: "web-01", Pool: "web"}
				}
				fmt.Fprintln(&got, c.name)
				got.WriteString(show(ts.put(c.in, c.from)))
			}
		}
	}
	golden.Check(t, filepath.Join("testdata", "modes.golden"), got.String())
}

func onProxyPort() arrival {
	a := fromRelay("10.77.0.50")
	a.proxy = true
	return a
}

func modesSubnet(mode fleet.DHCPMode) fleet.Subnet {
	n := richSubnet()
	n.Mode, n.BOOTP, n.UnknownLease = mode, true, 0
	n.Relays = append(n.Relays, addrOf([]byte{10, 77, 0, 9}))
	n.Classes = []fleet.DHCPClass{{
		Name: "ports", Match: fleet.ClassMatch{CircuitID: hex.EncodeToString([]byte("ge-"))}, Lease: 1200,
		Options: []fleet.DHCPOption{{Code: 42, Data: []byte{10, 77, 0, 44}}},
	}}
	return n
}
