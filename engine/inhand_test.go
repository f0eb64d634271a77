package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestARunLeavesAloneWhatSomebodyHasInHand(t *testing.T) {
	tests := map[string]struct {
		take func(t *testing.T, e *Engine, n fleet.Node)
		says string
	}{
		"a check with power": {func(t *testing.T, e *Engine, n fleet.Node) {
			if _, err := e.CheckBMC(t.Context(), "ada", string(n.ID), true); err != nil {
				t.Fatal(err)
			}
		}, "checked, with power"},
		"an update of firmware": {func(t *testing.T, e *Engine, n fleet.Node) {
			if _, _, err := e.UpdateFirmware(t.Context(), "ada", string(n.ID), fleet.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}, "firmware is being updated"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			site := setupSite(fleet.SetupLeave, fleet.SetupLeave)
			site.Rules[0].BMC.Driver = fleet.DriverRedfish
			withShop(t, 1, site, newWorkshop(), func(t *testing.T, r *rack) {
				e := r.server
				e.Checker = slowChecker{}
				n := e.Nodes()[0]
				found := n.BMC
				found.Driver, found.Pin = fleet.DriverRedfish, strings.Repeat("ab", 32)
				if _, err := e.keepBMC(t.Context(), n.ID, found); err != nil {
					t.Fatal(err)
				}
				before, err := e.Plan(t.Context(), "prd")
				if err != nil || before.Items[0].Class != fleet.Add {
					t.Fatalf("plan: %+v, %v; want add", before.Items, err)
				}
				tt.take(t, e, n)
				p, err := e.Plan(t.Context(), "prd")
				if it := p.Items[0]; err != nil || it.Class != fleet.Skip || !strings.Contains(it.Reason, tt.says) {
					t.Errorf("meanwhile the plan is %+v, %v; want skip, with %q", it, err, tt.says)
				}
				if _, err := e.Start(t.Context(), "ada", "prd", fleet.StartOptions{Plan: before.Hash()}); fleet.CodeOf(err) != "E-PLAN-STALE" {
					t.Errorf("the plan from before is carried out: %v", err)
				}
				if _, err := e.CheckBMC(t.Context(), "ada", string(n.ID), true); fleet.CodeOf(err) != fleet.CodeBMCBusy {
					t.Errorf("a check at the same time: %v", err)
				}
				if _, _, err := e.UpdateFirmware(t.Context(), "ada", string(n.ID), fleet.UpdateOptions{}); fleet.CodeOf(err) != fleet.CodeBMCBusy {
					t.Errorf("an update at the same time: %v", err)
				}
				time.Sleep(2 * time.Hour) //nolint:forbidigo // fake time: synctest
				if run := over(t, e, start(t, e).ID); run.State != fleet.RunDone {
					t.Errorf("the run afterwards is %s: %+v", run.State, run.Nodes)
				}
			})
		})
	}
}

func TestARunWaitsUntilAnAccountIsChanged(t *testing.T) {
	withRack(t, 1, testSite(), func(t *testing.T, r *rack) {
		e := r.server
		id := e.Nodes()[0].ID
		if !e.enrolments.begin(id) {
			t.Fatal("its account is being changed already")
		}
		run := start(t, e)
		time.Sleep(3 * time.Minute) //nolint:forbidigo // fake time: synctest
		if n, _ := e.Node(string(id)); n.Phase != "" {
			t.Errorf("while its account is being changed the run is at %s", n.Phase)
		}
		e.endEnrolment(id)
		if run = over(t, e, run.ID); run.State != fleet.RunDone {
			t.Errorf("run is %s, want done: %+v", run.State, run.Nodes)
		}
	})
}
