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
	"github.com/rackstage/provision/bmc"
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

// armMediaSite has the BMC of an arm64 machine.
const armMediaSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker, trust: 1}]
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], lease: 1h}]
rules:
  - {name: arm64, match: {mac: "52:54:00:7c:00:04"}, pool: prd, approve: true, bmc: {address: 10.77.1.11, username: admin, password_file: "{{.Dir}}/bmc-password", boot: media}}
`

// An arm64 machine that never asked by the network: that it is one is what its
// BMC says. It boots a CD image for arm64, and nothing over the network before
// its agent says hello.
func TestAnARM64MachineWithoutPXEBootsFromItsBMC(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: make test runs it")
	}
	t.Parallel()
	m := lab.Machine{
		Name: "arm64", Firmware: lab.ARM64, NIC: "e1000", MAC: "52:54:00:7c:00:04", DiskMiB: 64, MemoryMiB: 768, CPUs: 1, BMC: lab.BMC{Speaks: lab.Redfish},
	}
	state, program := testImages(t)
	r := prepareTestRack(t, labPlan{state: state, machines: []lab.Machine{m}, site: armMediaSite, hook: program}, knowByBMC(t, netip.Addr{}))
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	node, err := r.client.Node(t.Context(), m.MAC)
	if err != nil || node.Inventory.Arch != "arm64" {
		t.Fatalf("before it boots the node is %+v, %v, want one of arm64", node, err)
	}
	seen := followEvents(t, r)
	bootByHand(t, r, r.rack.Machines()[0])
	lines := seen.of(fleet.NodeID(node.ID))
	for _, l := range lines {
		t.Log(l.text)
	}
	if m := missing(lines, []string{"loader: CD image read by"}); m != "" {
		t.Errorf("%q never came", m)
	}
	for _, never := range []string{"rom firmware", "http firmware", "ipxe firmware", "script: ", "kernel: "} {
		if missing(lines, []string{never}) == "" {
			t.Errorf("%q came, and should not have", never)
		}
	}
}

// knowByBMC makes nodes of machines as if their BMCs had been found: there are
// their addresses, and what Redfish says; addr is one that a machine had before.
func knowByBMC(t *testing.T, addr netip.Addr) func(r *labRack) error {
	return func(r *labRack) error {
		var nodes []fleet.Node
		for _, m := range r.rack.Machines() {
			said, err := identify(t.Context(), r, m)
			if err != nil {
				return err
			}
			nodes = append(nodes, fleet.Node{
				ID: fleet.NewNodeID(), MAC: said.MACs[0], MACs: said.MACs, UUID: said.UUID, Addr: addr, State: fleet.Discovered, Revision: 1,
				Inventory: fleet.Inventory{
					Vendor: said.Vendor, Product: said.Product, Serial: said.Serial, Arch: said.Arch,
					Firmware: map[bool]string{true: "bios"}[m.Firmware == lab.BIOS],
				},
				BMC: fleet.BMC{CipherSuite: -1},
			})
		}
		s, err := store.Open(t.Context(), filepath.Join(r.dir, "state/provision.db"), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return errors.Join(s.Save(t.Context(), fleet.Change{Nodes: nodes}), s.Close())
	}
}

// identify asks a machine's BMC which one it is in.
func identify(ctx context.Context, r *labRack, m lab.Machine) (bmc.Machine, error) {
	c := bmc.New(bmc.Options{Dial: r.rack.Dial})
	target := bmc.Target{Node: m.Name, Driver: fleet.DriverRedfish, Address: m.BMC.Address.String(), Username: m.BMC.Username, Password: bmc.Password(m.BMC.Password)}
	found, err := c.Probe(ctx, target)
	if err != nil {
		return bmc.Machine{}, err
	}
	said, err := c.Identify(ctx, found.Use(target))
	if err == nil && len(said.MACs) == 0 {
		err = errors.New("its BMC names no network card")
	}
	return said, err
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
