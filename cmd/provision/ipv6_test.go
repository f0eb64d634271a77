package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/lab"
)

// site6 is the lab's site on a network without IPv4.
func site6() string {
	return strings.NewReplacer(
		"cidr: 10.77.0.0/24", `cidr: "fd77::/64"`,
		"ranges: [10.77.0.100-10.77.0.200]", `ranges: ["fd77::1000-fd77::1fff"]`,
	).Replace(labSite)
}

// A bare machine becomes a node of a Swarm on a network without IPv4: UEFI
// PXE, iPXE, ramdisk, install and join.
func TestABareMachineBecomesANodeWithoutIPv4(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: make test runs it")
	}
	r := testRack6(t, lab.Machine{Firmware: lab.UEFI})
	if err := r.enrol(t.Context(), t.Logf); err != nil {
		t.Fatal(err)
	}
	run := r.start(t)
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
}
