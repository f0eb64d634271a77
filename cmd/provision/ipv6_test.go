package main

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

// site6 is the lab's site on a network without IPv4. A machine that is a guest
// says hello and waits to be approved.
func site6() string {
	return strings.NewReplacer(
		"cidr: 10.77.0.0/24", `cidr: "fd77::/64"`,
		"ranges: [10.77.0.100-10.77.0.200]", `ranges: ["fd77::1000-fd77::1fff"]`,
		"rules:\n", "rules:\n  - {name: guest, match: {serial: GUEST}, pool: prd}\n",
	).Replace(labSite)
}

// boots6 are the machines without IPv4 that have their system already.
var boots6 = map[string]boot{
	"uefi6-local": {
		firmware: lab.UEFI, state: fleet.Active,
		want:  []string{"loader: snponly.efi by TFTP", "script: GET local_disk script from fd77::1"},
		never: []string{"vmlinuz"}, console: lab.DiskSays,
	},
	"uefi6-http-local": {
		firmware: lab.UEFIHTTP, state: fleet.Active,
		want:  []string{"loader: GET snponly.efi from fd77::1", "script: GET local_disk script from fd77::1"},
		never: []string{"vmlinuz", "by TFTP"}, console: lab.DiskSays,
	},
}

// Without IPv4 on its network a bare machine becomes a node of a Swarm: UEFI
// PXE, iPXE, ramdisk, install and join. Another one boots by UEFI HTTP, and
// those that have their system get their disk.
func TestBareMachinesBootWithoutIPv4AndOneBecomesANode(t *testing.T) {
	if testing.Short() {
		t.Skip("boots four virtual machines: make test runs it")
	}
	t.Parallel()
	r, ids := rack6(t)
	seen := followEvents(t, r)
	recorded := recordBoot(t, r, "uefi6")
	comesUp(t, r, "uefi6", "UEFI PXEv6")
	recorded()
	until(t, time.Minute, "it is off", func(context.Context) (bool, error) { return r.allOff(), nil })
	run := r.start(t)
	t.Run("beside the install", func(t *testing.T) {
		t.Run("uefi6-http", func(t *testing.T) {
			besides(t)
			defer recordBoot(t, r, "uefi6-http")()
			comesUp(t, r, "uefi6-http", "UEFI HTTPv6")
			if err := r.rack.PowerOff("uefi6-http"); err != nil {
				t.Fatal(err)
			}
		})
		for name, b := range boots6 {
			t.Run(name, func(t *testing.T) {
				besides(t)
				bootOnce(t, r, name, b, seen, ids[name])
			})
		}
	})
	until(t, 15*time.Minute, "run over", func(ctx context.Context) (bool, error) {
		got, err := r.client.Run(ctx, run.ID)
		run = got
		return err == nil && !got.Ended.IsZero(), err
	})
	if run.State != "done" || run.Done != 1 {
		t.Fatalf("run is %s with %d done, want done with 1: %+v", run.State, run.Done, run.Nodes)
	}
	var table strings.Builder
	printPhases(&table, run)
	t.Log(table.String())
	node, err := r.client.Node(t.Context(), run.Nodes[0].Node)
	if err != nil || node.State != "active" || !strings.HasPrefix(node.Addr, "fd77::1") {
		t.Errorf("the node is %s at %s (%v), want active at an address of the subnet", node.State, node.Addr, err)
	}
}

// besides has a boot be beside others: UEFI HTTP boot waits for IPv4 for a
// minute. What is recorded has one machine in it.
func besides(t *testing.T) {
	t.Helper()
	if os.Getenv("PROVISION_TEST_RECORD") == "" {
		t.Parallel()
	}
}

// rack6 raises a rack without IPv4: uefi6 is to become a node, uefi6-http is a guest, the
// others are of boots6.
func rack6(t *testing.T) (*labRack, map[string]fleet.NodeID) {
	t.Helper()
	machines := []lab.Machine{{Name: "uefi6", Firmware: lab.UEFI}, {Name: "uefi6-http", Firmware: lab.UEFIHTTP, Serial: "GUEST", MemoryMiB: 768}}
	for _, name := range slices.Sorted(maps.Keys(boots6)) {
		machines = append(machines, lab.Machine{Name: name, Firmware: boots6[name].firmware, DiskMiB: 64, MemoryMiB: 512, CPUs: 1})
	}
	state, program := testImages(t)
	var ids map[string]fleet.NodeID
	r := prepareTestRack(t, labPlan{state: state, machines: machines, site: site6(), hook: program, ipv6: true}, func(r *labRack) (err error) {
		ids, err = knowMachines(t, r, boots6)
		return err
	})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, ids
}

// comesUp powers a machine on and follows it from its firmware's boot option
// to our agent's hello.
func comesUp(t *testing.T, r *labRack, name, option string) {
	t.Helper()
	if err := r.rack.PowerOn(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	for _, line := range []string{`starting Boot[0-9]+ "` + option, `\[fd77::1\]/boot/ipxe\S* ok`, `\[fd77::1\]/boot/initrd.img\S*`, `hello accepted`} {
		if _, err := r.rack.WaitConsole(ctx, name, regexp.MustCompile(line)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s came up by %s", name, option)
}
