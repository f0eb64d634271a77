package main

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

const besideSite = `
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: proxy}]
quirks: [{product: Old 1U, block_size: 512, reason: its card is old}]
`

// besideBoots are watched to the hello of the agent. What becomes of the loaders
// is known though the addresses are not ours.
var besideBoots = map[string]boot{
	"bios": { // its ROM is iPXE
		firmware: lab.BIOS, hello: true,
		want: []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "offered beside another server", "script: GET", "kernel: GET initrd.img"},
	},
	"uefi": {
		firmware: lab.UEFI, product: "Old 1U", hello: true,
		want: []string{"offered beside another server: snponly.efi", "loader: snponly.efi by TFTP", "block 512", "script: GET", "kernel: GET initrd.img"},
	},
	"locked": { // nobody knows that its Secure Boot is on
		firmware: lab.SB, product: "Locked 1U", again: "Access Denied", hello: true,
		want: []string{
			"offered beside another server: snponly.efi", "loader: snponly.efi by TFTP", "snponly.efi was fetched and did not start; Locked 1U gets shimx64.efi next time",
			"loader: shimx64.efi by TFTP", "script: agent script for GRUB", "kernel: GET initrd.img",
		},
	},
}

// A dnsmasq on the same wire gives the addresses, we say what to boot: all
// firmwares run our agent, and have no address of ours.
func TestMachinesBootBesideAnotherServer(t *testing.T) {
	if testing.Short() {
		t.Skip("boots three virtual machines: make test runs it")
	}
	t.Parallel()
	machines := []lab.Machine{{Name: "edge", Firmware: lab.BIOS, MAC: "52:54:00:78:00:09", Remote: true}} // stays off: there is an edge for it
	for i, name := range slices.Sorted(maps.Keys(besideBoots)) {
		machines = append(machines, lab.Machine{Name: name, Firmware: besideBoots[name].firmware, MAC: fmt.Sprintf("52:54:00:78:00:%02x", i+1)})
	}
	state, program := testImages(t)
	var ids map[string]fleet.NodeID
	r := prepareTestRack(t, labPlan{state: state, machines: machines, site: besideSite, hook: program}, func(r *labRack) (err error) {
		ids, err = knowMachines(t, r, besideBoots)
		return err
	})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	startEdge(t, r, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file", "--port=0", "--log-dhcp", "--log-facility=-",
		"--interface="+lab.EdgeUplink, "--dhcp-range=10.77.0.150,10.77.0.160,10m", "--dhcp-authoritative", "--no-ping", "--dhcp-leasefile="+filepath.Join(r.dir, "dnsmasq.leases"))
	theirs := fleet.AddrRange{First: netip.MustParseAddr("10.77.0.150"), Last: netip.MustParseAddr("10.77.0.160")}
	seen := followEvents(t, r)
	for name, b := range besideBoots {
		bootOnce(t, r, name, b, seen, ids[name])
		node, err := r.client.Node(t.Context(), string(ids[name]))
		if err != nil {
			t.Fatal(err)
		}
		if addr, err := netip.ParseAddr(node.Addr); err != nil || !theirs.Contains(addr) {
			t.Errorf("%s is at %q, want an address of the other server", name, node.Addr)
		}
	}
}
