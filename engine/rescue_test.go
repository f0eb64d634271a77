package engine

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

func stateOf(t *testing.T, e *Engine, ref string) fleet.State {
	t.Helper()
	n, err := e.Node(ref)
	if err != nil {
		t.Fatal(err)
	}
	return n.State
}

func TestANodeIsRescuedAndBecomesWhatItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		r, s := newRack(ctx, t, 1), &memoryStore{world: fleet.World{Site: testSite()}}
		e, kill := r.serve(s)
		r.enrol(e)
		run := start(t, e)
		id := string(run.Nodes[0].Node)
		if _, err := e.Rescue(t.Context(), "anna", id, true); fleet.CodeOf(err) != "E-RESCUE" {
			t.Errorf("Rescue while a run works on it = %v, want E-RESCUE", err)
		}
		if got := over(t, e, run.ID); got.State != fleet.RunDone {
			t.Fatalf("run ended as %s", got.State)
		}
		m := r.machines["52:54:00:00:00:01"]
		boots := m.boots
		n, err := e.Rescue(t.Context(), "anna", id, true)
		if err != nil || n.State != fleet.Rescue || n.Rescue.From != fleet.Active {
			t.Fatalf("Rescue = %s from %s, %v", n.State, n.Rescue.From, err)
		}
		if m.boots != boots+1 {
			t.Errorf("it was restarted %d times, want once", m.boots-boots)
		}
		if _, err := e.MayCertify(t.Context(), n.ID); err == nil {
			t.Error("a node in rescue may have a certificate of its stage")
		}
		if p, err := e.Plan(t.Context(), "prd"); err != nil || p.Items[0].Class != fleet.Skip {
			t.Errorf("Plan = %+v, %v; want that it is skipped", p.Items, err)
		}

		kill() // the state is stored
		e, kill = r.serve(s)
		defer func() { kill() }()
		if got := stateOf(t, e, id); got != fleet.Rescue {
			t.Fatalf("after a restart of the server it is %s", got)
		}
		e.EndRescueOnce(t.Context(), n.MAC) // it starts again, which ends only what its own menu began
		if got := stateOf(t, e, id); got != fleet.Rescue {
			t.Errorf("when it starts again it is %s, want rescue", got)
		}
		n, err = e.EndRescue(t.Context(), "anna", id, true)
		if err != nil || n.State != fleet.Active || n.Rescue != (fleet.Stay{}) {
			t.Errorf("EndRescue = %s, %+v, %v; want active", n.State, n.Rescue, err)
		}
		if _, err := e.EndRescue(t.Context(), "anna", id, true); fleet.CodeOf(err) != "E-RESCUE" {
			t.Errorf("EndRescue of an active node = %v, want E-RESCUE", err)
		}
	})
}

func TestAMachineIsRescuedByItsMenuOnlyWhileItHasNothingToLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		r, s := newRack(ctx, t, 1), &memoryStore{world: fleet.World{Site: testSite()}}
		e, kill := r.serve(s)
		defer kill()
		const mac = "52:54:00:00:00:01"
		if !e.RescueOnce(t.Context(), mac) {
			t.Error("a machine that nobody knows is refused")
		}
		r.enrol(e)
		if !e.RescueOnce(t.Context(), mac) || stateOf(t, e, mac) != fleet.Rescue {
			t.Errorf("a ready machine is %s, want rescue", stateOf(t, e, mac))
		}
		e.EndRescueOnce(t.Context(), mac)
		if got := stateOf(t, e, mac); got != fleet.Ready {
			t.Errorf("when it starts again it is %s, want ready", got)
		}
		run := start(t, e)
		if e.RescueOnce(t.Context(), mac) {
			t.Error("a machine that a run trusts is given the rescue system by its menu")
		}
		over(t, e, run.ID)
		if e.RescueOnce(t.Context(), mac) || stateOf(t, e, mac) != fleet.Active {
			t.Error("a member is given the rescue system by its menu")
		}
	})
}

func TestAnAgentThatWaitsRestartsIntoTheRescueSystem(t *testing.T) {
	tests := map[string]struct {
		node fleet.Node
		want fleet.StepKind
	}{
		"in rescue":     {fleet.Node{State: fleet.Rescue}, fleet.StepReboot},
		"without a BMC": {fleet.Node{State: fleet.Ready}, ""},
		"with one":      {fleet.Node{State: fleet.Ready, BMC: fleet.BMC{Address: "10.77.1.1"}}, fleet.StepPowerOff},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got fleet.StepKind
			if step := standby(tt.node, fleet.Session{BootID: "b"}); step != nil {
				got = step.Kind
			}
			if got != tt.want {
				t.Errorf("standby = %q, want %q", got, tt.want)
			}
			if step := standby(tt.node, fleet.Session{BootID: "b", Installed: true}); step != nil {
				t.Errorf("the installed system gets %s", step.Kind)
			}
		})
	}
}
