package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

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

// Without IPv4 on its network a bare machine becomes a node of a Swarm: UEFI
// PXE, iPXE, ramdisk, install and join. Another one boots by UEFI HTTP.
func TestBareMachinesBootWithoutIPv4AndOneBecomesANode(t *testing.T) {
	if testing.Short() {
		t.Skip("boots two virtual machines: make test runs it")
	}
	r := testRack6(t, lab.Machine{Firmware: lab.UEFI}, lab.Machine{Firmware: lab.UEFIHTTP, Serial: "GUEST", MemoryMiB: 768})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	comesUp(t, r, "n1", "UEFI PXEv6")
	until(t, time.Minute, "n1 is off", func(context.Context) (bool, error) { return r.allOff(), nil })
	run := r.start(t)
	comesUp(t, r, "n2", "UEFI HTTPv6") // while n1 is being installed
	if err := r.rack.PowerOff("n2"); err != nil {
		t.Fatal(err)
	}
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
