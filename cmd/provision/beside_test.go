package main

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

const besideSite = `
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: proxy}]
`

// A dnsmasq on the same wire gives the addresses, we say what to boot: both
// firmwares run our agent, and have no address of ours.
func TestMachinesBootBesideAnotherServer(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two virtual machines: make test runs it")
	}
	t.Parallel()
	machines := []lab.Machine{
		{Name: "bios", Firmware: lab.BIOS, MAC: "52:54:00:78:00:01"},
		{Name: "uefi", Firmware: lab.UEFI, MAC: "52:54:00:78:00:02"},
		{Name: "edge", Firmware: lab.BIOS, MAC: "52:54:00:78:00:03", Remote: true}, // stays off: there is an edge for it
	}
	r := testRack(t, besideSite, machines...)
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	startEdge(t, r, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file", "--port=0", "--log-dhcp", "--log-facility=-",
		"--interface="+lab.EdgeUplink, "--dhcp-range=10.77.0.150,10.77.0.160,10m", "--dhcp-authoritative", "--no-ping", "--dhcp-leasefile="+filepath.Join(r.dir, "dnsmasq.leases"))
	theirs := fleet.AddrRange{First: netip.MustParseAddr("10.77.0.150"), Last: netip.MustParseAddr("10.77.0.160")}
	for _, m := range machines[:2] {
		node := bootsRemote(t, r, m.Name, m.MAC)
		if addr, err := netip.ParseAddr(node.Addr); err != nil || !theirs.Contains(addr) {
			t.Errorf("%s is at %q, want an address of the other server", m.Name, node.Addr)
		}
	}
}
