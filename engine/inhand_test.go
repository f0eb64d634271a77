package engine

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
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
		"a change of BIOS settings": {func(t *testing.T, e *Engine, n fleet.Node) {
			if _, _, err := e.ApplyBIOS(t.Context(), "ada", string(n.ID), false); err != nil {
				t.Fatal(err)
			}
		}, "BIOS settings are being changed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			site := setupSite(fleet.SetupLeave, fleet.SetupLeave)
			site.Rules[0].BMC.Driver = fleet.DriverRedfish
			withShop(t, 1, site, newWorkshop(), func(t *testing.T, r *rack) {
				r.shop.deaf = true // to BIOS settings, which are asked for for long then
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
				if it := p.Items[0]; err != nil || it.Class != fleet.Skip || !strings.Contains(it.Reason, tt.says) || !strings.Contains(it.Reason, "by ada, since ") {
					t.Errorf("meanwhile the plan is %+v, %v; want skip, with %q and who does it", it, err, tt.says)
				}
				leftAlone(t, r, e, n, tt.says)
				if _, err := e.Start(t.Context(), "ada", "prd", fleet.StartOptions{Plan: before.Hash()}); fleet.CodeOf(err) != "E-PLAN-STALE" {
					t.Errorf("the plan from before is carried out: %v", err)
				}
				if _, err := e.CheckBMC(t.Context(), "ada", string(n.ID), true); fleet.CodeOf(err) != fleet.CodeBMCBusy {
					t.Errorf("a check at the same time: %v", err)
				}
				if _, _, err := e.UpdateFirmware(t.Context(), "ada", string(n.ID), fleet.UpdateOptions{}); fleet.CodeOf(err) != fleet.CodeBMCBusy {
					t.Errorf("an update at the same time: %v", err)
				}
				if _, _, err := e.ApplyBIOS(t.Context(), "ada", string(n.ID), true); fleet.CodeOf(err) != fleet.CodeBMCBusy {
					t.Errorf("a change of BIOS settings at the same time: %v", err)
				}
				time.Sleep(2 * time.Hour) //nolint:forbidigo // fake time: synctest
				if _, err := e.Power(t.Context(), "bob", string(n.ID), fleet.PowerOrder{Op: fleet.PowerOff}); err != nil {
					t.Errorf("when it is over nobody may switch it: %v", err)
				}
				if run := over(t, e, start(t, e).ID); run.State != fleet.RunDone {
					t.Errorf("the run afterwards is %s: %+v", run.State, run.Nodes)
				}
			})
		})
	}
}

// leftAlone sees that nobody gets at a node which somebody has in hand, by no order.
func leftAlone(t *testing.T, r *rack, e *Engine, n fleet.Node, says string) {
	t.Helper()
	ref := string(n.ID)
	refused := func(what string, err error) {
		t.Helper()
		if fleet.CodeOf(err) != fleet.CodeBMCBusy || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "ada") || fleet.HintOf(err) == "" {
			t.Errorf("%s = %v (%s), want %s, who does what, and what to do", what, err, fleet.HintOf(err), fleet.CodeBMCBusy)
		}
	}
	before := r.orders()
	for _, op := range fleet.PowerOps() {
		_, err := e.Power(t.Context(), "bob", ref, fleet.PowerOrder{Op: op, URL: "http://10.0.0.1/x"})
		if op != fleet.PowerStatus {
			refused("power "+string(op), err)
		} else if err != nil {
			t.Errorf("power status = %v; it changes nothing", err)
		}
	}
	_, err := e.Rescue(t.Context(), "bob", ref, true)
	refused("Rescue with a restart", err)
	if got := stateOf(t, e, ref); got != n.State {
		t.Errorf("after a rescue that was refused it is %s, want %s", got, n.State)
	}
	if _, err := e.Rescue(t.Context(), "bob", ref, false); err != nil {
		t.Errorf("Rescue without a restart = %v", err)
	}
	_, err = e.EndRescue(t.Context(), "bob", ref, true)
	refused("EndRescue with a restart", err)
	if got := stateOf(t, e, ref); got != fleet.Rescue {
		t.Errorf("after an end of the rescue that was refused it is %s, want rescue", got)
	}
	if _, err := e.EndRescue(t.Context(), "bob", ref, false); err != nil {
		t.Errorf("EndRescue without a restart = %v", err)
	}
	if got := r.orders() - before; got != 1 {
		t.Errorf("its BMC heard %d orders, want the question alone", got)
	}
}

func TestNothingBeginsInTheMiddleOfAPowerOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		w.work(t, func(e *Engine) {
			e.Options.Power, e.Checker = slowPower{w}, slowChecker{}
			if _, err := e.keepBMC(t.Context(), "n-1", fleet.BMC{Driver: fleet.DriverRedfish, Pin: strings.Repeat("ab", 32)}); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := e.Power(t.Context(), "ada", "n-1", fleet.PowerOrder{Op: fleet.PowerCycle})
				done <- err
			}()
			wait(10 * time.Second)
			_, check := e.CheckBMC(t.Context(), "bob", "n-1", true)
			_, _, update := e.UpdateFirmware(t.Context(), "bob", "n-1", fleet.UpdateOptions{})
			_, _, bios := e.ApplyBIOS(t.Context(), "bob", "n-1", false)
			n, _ := e.Node("n-1")
			for what, err := range map[string]error{"a check with power": check, "an update": update, "BIOS settings": bios, "a new password": e.mayRotate(n)} {
				if fleet.CodeOf(err) != fleet.CodeBMCBusy || !strings.Contains(err.Error(), "it is being switched by ada") {
					t.Errorf("%s = %v, want %s", what, err, fleet.CodeBMCBusy)
				}
			}
			if _, err := e.Power(t.Context(), "bob", "n-1", fleet.PowerOrder{Op: fleet.PowerOff}); err != nil {
				t.Errorf("another order = %v; the BMC hears it after the first", err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if _, err := e.CheckBMC(t.Context(), "bob", "n-1", true); err != nil {
				t.Errorf("afterwards a check = %v", err)
			}
		})
	})
}

// slowPower takes a minute for each order.
type slowPower struct{ *workshop }

// Switch implements Power.
func (s slowPower) Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	<-time.After(time.Minute)
	return s.workshop.Switch(ctx, n, o)
}

func TestAMachineInTheRamdiskIsNotSwitchedOffUnderWhoHasItInHand(t *testing.T) {
	withRack(t, 1, testSite(), func(t *testing.T, r *rack) {
		e := r.server
		n := e.Nodes()[0]
		s := fleet.Session{Node: n.ID, BootID: n.BootID}
		letGo, err := e.takeInHand(n, "update firmware", "ada", handFirmware)
		if err != nil {
			t.Fatal(err)
		}
		poll := func() *fleet.Step {
			short, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			step, err := e.Poll(short, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			return step
		}
		if step := poll(); step != nil {
			t.Errorf("while its firmware is written its agent is told to %s", step.Kind)
		}
		time.AfterFunc(20*time.Second, letGo)
		began := time.Now()
		if step := poll(); step == nil || step.Kind != fleet.StepPowerOff || time.Since(began) != 20*time.Second {
			t.Errorf("afterwards it is told %+v after %s, want %s at once", step, time.Since(began), fleet.StepPowerOff)
		}
	})
}

func TestARunWaitsUntilAMachineIsSwitched(t *testing.T) {
	withRack(t, 1, testSite(), func(t *testing.T, r *rack) {
		e := r.server
		n := e.Nodes()[0]
		letGo, err := e.takeInHand(n, "power cycle", "ada", handSwitch)
		if err != nil {
			t.Fatal(err)
		}
		run := start(t, e)
		time.Sleep(3 * time.Minute) //nolint:forbidigo // fake time: synctest
		if n, _ := e.Node(string(n.ID)); n.Phase != "" {
			t.Errorf("while it is being switched the run is at %s", n.Phase)
		}
		if _, err := e.order(t.Context(), "ada", n, fleet.PowerOrder{Op: fleet.PowerOn}); fleet.CodeOf(err) != "E-RUN-ACTIVE" {
			t.Errorf("the next order of the same hand = %v; the run has it now", err)
		}
		letGo()
		if run = over(t, e, run.ID); run.State != fleet.RunDone {
			t.Errorf("run is %s, want done: %+v", run.State, run.Nodes)
		}
	})
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
