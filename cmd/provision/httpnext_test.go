package main

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

// httpNextSite has a machine that boots from a URL that its BMC is given.
const httpNextSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker, trust: 1}]
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], lease: 1h}]
rules:
  - {name: uefi, match: {mac: "52:54:00:7d:00:01"}, pool: prd, approve: true, bmc: {address: 10.77.1.11, username: admin, password_file: "{{.Dir}}/bmc-password", boot: http}}
`

// A run tells a BMC by Redfish which URL its machine boots from; the machine's
// firmware, whose own order begins with PXE, asks for exactly that, and its
// agent says hello.
func TestARunBootsAMachineFromTheURLThatItsBMCGets(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: make test runs it")
	}
	m := lab.Machine{Name: "uefi", Firmware: lab.UEFI, MAC: "52:54:00:7d:00:01", DiskMiB: 64, BMC: lab.BMC{Speaks: lab.Redfish}}
	state, program := testImages(t)
	had := netip.MustParseAddr("10.77.0.150") // when it booted last
	r := prepareTestRack(t, labPlan{state: state, machines: []lab.Machine{m}, site: httpNextSite, hook: program}, knowByBMC(t, had))
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	node, err := r.client.Node(t.Context(), m.MAC)
	if err != nil {
		t.Fatal(err)
	}
	seen := followEvents(t, r)
	began, run := time.Now(), r.start(t)
	until(t, 10*time.Minute, "its agent said hello", func(ctx context.Context) (bool, error) {
		if run, err = r.client.Run(ctx, run.ID); err == nil {
			node, err = r.client.Node(ctx, m.MAC)
		}
		return err == nil && (node.Inventory.MemoryMiB > 0 || !run.Ended.IsZero()), err
	})
	lines := seen.of(fleet.NodeID(node.ID))
	for _, l := range lines {
		t.Logf("%6.2f s  %s", l.at.Sub(began).Seconds(), l.text)
	}
	want := []string{
		"next boot from http://10.77.0.1/boot/snponly.efi", "dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi",
		"script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img",
	}
	if m := missing(lines, want); m != "" {
		t.Errorf("%q never came", m)
	}
	for _, never := range []string{"from rom firmware", "by TFTP"} {
		if missing(lines, []string{never}) == "" {
			t.Errorf("%q came, and should not have", never)
		}
	}
	if node.Inventory.MemoryMiB == 0 { // what became of the run then is no matter: there is a disk of 64 MiB
		t.Errorf("there was no hello of %+v; the run is %+v", node, run)
	}
}
