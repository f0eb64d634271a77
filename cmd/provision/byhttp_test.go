package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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
		t.Skip("boots three virtual machines: make test runs it")
	}
	t.Parallel()
	byHTTP := []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET"}
	falls := boot{firmware: lab.UEFI, product: "Falls 1U", want: slices.Concat([]string{"dhcp: REQUEST from rom firmware, arch 7"}, byHTTP)}
	left := falls
	notServed := "rom firmware is not served on this model: learned: PXE came to nothing on two of this model"
	left.want = slices.Concat([]string{notServed, notServed}, byHTTP) // the offer and the lease, whose menu ends its PXE
	boots := map[string]boot{"first": falls, "second": falls, "third": left}

	state, program := testImages(t)
	var machines []lab.Machine
	for i, name := range slices.Sorted(maps.Keys(boots)) {
		machines = append(machines, lab.Machine{
			Name: name, Firmware: lab.UEFI, DiskMiB: 64, MemoryMiB: 768, CPUs: 1, MAC: fmt.Sprintf("52:54:00:7c:00:%02x", i+1),
		})
	}
	var ids map[string]fleet.NodeID
	r := prepareTestRack(t, labPlan{state: state, machines: machines, site: noTFTPSite, hook: program}, func(r *labRack) (err error) {
		ids, err = knowMachines(t, r, boots)
		return err
	})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := followEvents(t, r)
	t.Run("they", func(t *testing.T) {
		for _, name := range []string{"first", "second"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				bootOnce(t, r, name, boots[name], seen, ids[name])
			})
		}
	})
	bootOnce(t, r, "third", boots["third"], seen, ids["third"])
	for name, asked := range map[string]bool{"first": true, "second": true, "third": false} {
		if got := strings.Contains(bootConsole(t, r, name)(), "NBP filename is snponly.efi"); got != asked {
			t.Errorf("the PXE of %s asked for a file by TFTP: %t, want %t", name, got, asked)
		}
	}
}
