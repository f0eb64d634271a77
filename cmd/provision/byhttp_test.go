package main

import (
	"slices"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

// PXE is told of a TFTP server that is not there, as behind a firewall that
// drops TFTP. OVMF goes on to HTTP boot then, as its setup says.
const noTFTPSite = `
subnets:
  - name: rack
    cidr: 10.77.0.0/24
    mode: full
    ranges: [10.77.0.100-10.77.0.200]
    lease: 1h
    classes: [{name: nowhere, match: {vendor: "PXEClient:Arch:00007"}, boot_file: snponly.efi, boot_server: 10.77.0.99}]
`

func TestFirmwareWhosePXEComesToNothingIsLeftToHTTPBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine three times: make test runs it")
	}
	const name = "falls"
	byHTTP := []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET"}
	falls := slices.Concat([]string{"dhcp: DISCOVER from rom firmware, arch 7"}, byHTTP)
	left := slices.Concat([]string{
		"its PXE came to nothing, and it booted by HTTP; Falls 1U gets no answer to PXE next time",
		"rom firmware is not served on this model: " + leftToHTTP,
	}, byHTTP)
	b := boot{firmware: lab.UEFI, product: "Falls 1U"}

	state, program := testImages(t)
	var ids map[string]fleet.NodeID
	machine := lab.Machine{Name: name, Firmware: b.firmware, DiskMiB: 64, MemoryMiB: 768, CPUs: 1, MAC: "52:54:00:7c:00:01"}
	r := prepareTestRack(t, labPlan{state: state, machines: []lab.Machine{machine}, site: noTFTPSite, hook: program}, func(r *labRack) (err error) {
		ids, err = knowMachines(t, r, map[string]boot{name: b})
		return err
	})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := followEvents(t, r)
	for _, more := range [][]string{falls, falls, left} {
		b.want = append(b.want, more...)
		bootOnce(t, r, name, b, seen, ids[name])
	}
}
