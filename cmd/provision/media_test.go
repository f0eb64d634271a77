package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
	"github.com/rackstage/provision/store"
)

// mediaSite has the BMCs of machines whose network cards nothing boots from.
const mediaSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools:
  - {name: prd, stage: prd, profile: docker, trust: 1}
  - {name: spare, stage: prd, profile: docker, trust: 1}
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], lease: 1h}]
rules:
  - {name: bios, match: {mac: "52:54:00:7c:00:01"}, pool: prd, approve: true, bmc: {address: 10.77.1.11, username: admin, password_file: "{{.Dir}}/bmc-password", boot: media}}
  - {name: uefi, match: {mac: "52:54:00:7c:00:02"}, pool: prd, approve: true, bmc: {address: 10.77.1.12, username: admin, password_file: "{{.Dir}}/bmc-password", boot: media}}
  - {name: uefi-sb, match: {mac: "52:54:00:7c:00:03"}, pool: spare, approve: true, bmc: {address: 10.77.1.13, username: admin, password_file: "{{.Dir}}/bmc-password", boot: media}}
`

// Three machines whose firmware has no driver for their network card, with a
// BIOS, a UEFI and Secure Boot on: all that is known of them is what their BMCs
// say. They boot CD images of ours, by hand, and say hello; a run then boots two
// of them in the same way and installs them.
func TestMachinesWithoutPXEBootFromTheirBMCs(t *testing.T) {
	if testing.Short() {
		t.Skip("boots three virtual machines: make test runs it")
	}
	var machines []lab.Machine
	for i, f := range []lab.Firmware{lab.BIOS, lab.UEFI, lab.SB} {
		machines = append(machines, lab.Machine{
			Name: string(f), Firmware: f, NIC: "e1000", NoROM: true, MAC: "52:54:00:7c:00:0" + string(rune('1'+i)), BMC: lab.BMC{Speaks: lab.Redfish},
		})
	}
	state, program := testImages(t)
	r := prepareTestRack(t, labPlan{state: state, machines: machines, site: mediaSite, hook: program}, knowByBMC(t, netip.Addr{}))
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		bootByHand(t, r, m)
	}
	run := r.start(t)
	until(t, 25*time.Minute, "run over", func(ctx context.Context) (bool, error) {
		got, err := r.client.Run(ctx, run.ID)
		run = got
		return err == nil && !got.Ended.IsZero(), err
	})
	if run.State != "done" || run.Done != 2 {
		t.Errorf("run is %s with %d done, want done with 2: %+v", run.State, run.Done, run.Nodes)
	}
	var table strings.Builder
	printPhases(&table, run)
	t.Log(table.String())
	for _, m := range machines {
		if hasDisc(r, m.Name) {
			t.Errorf("there is a CD in the drive of %s still", m.Name)
		}
	}
}

// knowByBMC makes nodes of machines as if their BMCs had been found: there are
// their addresses, and what Redfish says; addr is one that a machine had before.
func knowByBMC(t *testing.T, addr netip.Addr) func(r *labRack) error {
	return func(r *labRack) error {
		var nodes []fleet.Node
		for _, m := range r.rack.Machines() {
			nodes = append(nodes, fleet.Node{
				ID: fleet.NewNodeID(), MAC: fleet.MAC(m.MAC), MACs: []fleet.MAC{fleet.MAC(m.MAC)}, UUID: m.UUID, Addr: addr, State: fleet.Discovered, Revision: 1,
				Inventory: fleet.Inventory{Vendor: m.Vendor, Product: m.Product, Serial: m.Serial, Firmware: map[bool]string{true: "bios"}[m.Firmware == lab.BIOS]},
				BMC:       fleet.BMC{CipherSuite: -1},
			})
		}
		s, err := store.Open(t.Context(), filepath.Join(r.dir, "state/provision.db"), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return errors.Join(s.Save(t.Context(), fleet.Change{Nodes: nodes}), s.Close())
	}
}

// bootByHand boots a machine from a CD image as people do it, and waits until
// its agent has said hello and the CD is out again.
func bootByHand(t *testing.T, r *labRack, m lab.Machine) {
	t.Helper()
	for _, words := range [][]string{{"power", "media-next", m.MAC}, {"power", "on", m.MAC}} {
		var stdout, stderr strings.Builder
		if code := newApp(&stdout, &stderr).run(t.Context(), append(words, "--server", "unix:"+r.socket())); code != exitOK {
			t.Fatalf("%q = %d, %s%s", words, code, stdout.String(), stderr.String())
		}
		if words[1] == "media-next" && !hasDisc(r, m.Name) {
			t.Fatalf("there is no CD in the drive of %s", m.Name)
		}
	}
	began := time.Now()
	var node api.Node
	until(t, 8*time.Minute, m.Name+" said hello, and its drive is empty", func(ctx context.Context) (bool, error) {
		var err error
		node, err = r.client.Node(ctx, m.MAC)
		return err == nil && node.Inventory.MemoryMiB > 0 && len(node.Inventory.Disks) > 0 && !hasDisc(r, m.Name), err
	})
	t.Logf("%s said hello %s after power on", m.Name, time.Since(began).Round(time.Second))
	if node.Inventory.Serial != m.Serial && m.Serial != "" || node.Inventory.Secure != (m.Firmware == lab.SB) {
		t.Errorf("%s says that it is %+v", m.Name, node.Inventory)
	}
}

func hasDisc(r *labRack, name string) bool {
	_, err := os.Stat(filepath.Join(r.rack.Dir(), name, "media.iso"))
	return err == nil
}
