package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// slowChecker finds one thing, after a while.
type slowChecker struct{ err error }

// Check implements Checker.
func (c slowChecker) Check(ctx context.Context, _ fleet.Node, _ bool) (fleet.BMCCheck, error) {
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
		return fleet.BMCCheck{}, ctx.Err()
	}
	return fleet.BMCCheck{
		Model:   fleet.BMCModel{Vendor: "AMI", Product: "BMC 3000", Firmware: "1.7"},
		Results: []fleet.BMCResult{{Check: "sign in", Grade: fleet.BMCOK}},
	}, c.err
}

func TestACheckGoesOnBehindARequestAndIsReadLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 1)
		site := testSite()
		site.BMCProfiles = []fleet.BMCProfile{{Vendor: "ami", Firmware: "1.7", Quirks: fleet.BMCQuirks{Profile: "ami-1.7", NoReset: true}}}
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: site}})
		e.Checker = slowChecker{}
		r.enrol(e)
		ref := string(e.Nodes()[0].ID)
		probedNode(t, e, ref)
		if _, err := e.BMCCheck(ctx, ref); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("before the first check: %v", err)
		}
		began, err := e.CheckBMC(ctx, "ada", ref, true)
		if err != nil || !began.Running {
			t.Fatalf("CheckBMC = %+v, %v", began, err)
		}
		if _, err := e.CheckBMC(ctx, "ada", ref, false); fleet.CodeOf(err) != fleet.CodeBMCBusy {
			t.Errorf("a second check at the same time: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if got, err := e.BMCCheck(short, ref); err != nil || !got.Running {
			t.Errorf("while it is under way: %+v, %v", got, err)
		}
		got, err := e.BMCCheck(ctx, ref)
		if err != nil || got.Running || !got.Power || len(got.Results) != 1 {
			t.Errorf("when it is over: %+v, %v", got, err)
		}
		if b := e.Nodes()[0].BMC; b.Model.Firmware != "1.7" || b.Quirks.Profile != "ami-1.7" {
			t.Errorf("the node's BMC is %+v with %+v", b.Model, b.Quirks)
		}
		e.Checker = slowChecker{errors.New("no")}
		if _, err := e.CheckBMC(ctx, "ada", ref, false); err != nil {
			t.Error(err)
		}
		if _, err := e.BMCCheck(ctx, ref); err == nil || err.Error() != "no" {
			t.Errorf("a check that cannot be made: %v", err)
		}
		kill()
		stop()
		synctest.Wait()
	})
}

// probedNode has a node's BMC looked at.
func probedNode(t *testing.T, e *Engine, ref string) {
	t.Helper()
	n, err := e.Node(ref)
	if err != nil {
		t.Fatal(err)
	}
	found := n.BMC
	found.Driver, found.CipherSuite = fleet.DriverIPMI, 17
	if _, err := e.keepBMC(t.Context(), n.ID, found); err != nil {
		t.Fatal(err)
	}
}

func TestABMCIsNotCheckedWhileARunNeedsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 1)
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: testSite()}})
		e.Checker = slowChecker{}
		r.enrol(e)
		ref := string(e.Nodes()[0].ID)
		probedNode(t, e, ref)
		run := start(t, e)
		if _, err := e.CheckBMC(ctx, "ada", ref, false); fleet.CodeOf(err) != "E-RUN-ACTIVE" {
			t.Errorf("CheckBMC = %v, want that a run works on it", err)
		}
		over(t, e, run.ID)
		kill()
		stop()
		synctest.Wait()
	})
}
