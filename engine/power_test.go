package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A switchboard is Power and Prober for nodes that need no machine behind them.
type switchboard struct {
	orders []fleet.PowerOrder
	done   fleet.Switched
	err    error
	found  fleet.BMC
}

func (s *switchboard) Switch(_ context.Context, _ fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	s.orders = append(s.orders, o)
	return s.done, s.err
}

func (s *switchboard) Probe(context.Context, fleet.Node, bool) (fleet.BMC, error) {
	return s.found, s.err
}

// otherPinError is the error of a BMC whose certificate has changed.
type otherPinError string

func (otherPinError) Error() string    { return "another certificate" }
func (p otherPinError) NewPin() string { return string(p) }

// withNode runs a test with an engine that knows one node.
func withNode(t *testing.T, b fleet.BMC, fn func(t *testing.T, e *Engine, s *switchboard, events func() string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := &switchboard{}
		e := New(Options{Store: &memoryStore{onCut: func() {}}, Power: s, Prober: s})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = e.Run(ctx)
		}()
		<-e.Started()
		err := e.update(ctx, func(t *tx) error {
			t.put(fleet.Node{ID: "n-0000000001", Name: "n1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Approved: true, BMC: b})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		live, done := e.Subscribe()
		fn(t, e, s, func() string {
			synctest.Wait()
			var all []string
			for {
				select {
				case ev := <-live:
					all = append(all, string(ev.Type)+" "+ev.Actor+": "+ev.Text)
				default:
					return strings.Join(all, "\n")
				}
			}
		})
		done()
		stop()
		<-ended
	})
}

func TestEveryOrderIsRecordedWithWhoAndWhy(t *testing.T) {
	ipmi := fleet.BMC{Address: "10.0.0.1", Driver: fleet.DriverIPMI}
	on, off := fleet.PowerIsOn, fleet.PowerIsOff
	tests := map[string]struct {
		order fleet.PowerOrder
		done  fleet.Switched
		err   error
		want  string
	}{
		"what was done":   {fleet.PowerOrder{Op: fleet.PowerOff, Reason: "fan tray"}, fleet.Switched{Before: on, After: off}, nil, "node.power ann: power off, was on, is off (fan tray)"},
		"what was set":    {fleet.PowerOrder{Op: fleet.HTTPNext, URL: "http://10.0.0.9/x.efi", Persist: true}, fleet.Switched{}, nil, "node.power ann: power http-next http://10.0.0.9/x.efi from now on"},
		"what has failed": {fleet.PowerOrder{Op: fleet.PowerOn}, fleet.Switched{Before: off, After: off}, &fleet.Error{Code: "E-BMC-NO-EFFECT", Err: errors.New("nothing happened")}, "node.power ann: power on, was off, failed: E-BMC-NO-EFFECT nothing happened"},
		"but no question": {fleet.PowerOrder{Op: fleet.PowerStatus}, fleet.Switched{Before: on, After: on}, nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withNode(t, ipmi, func(t *testing.T, e *Engine, s *switchboard, events func() string) {
				s.done, s.err = tt.done, tt.err
				state, err := e.Power(t.Context(), "ann", "n1", tt.order)
				if !errors.Is(err, tt.err) || tt.err == nil && tt.done.After != "" && state != tt.done.After {
					t.Errorf("Power = %s, %v", state, err)
				}
				if got := events(); got != tt.want {
					t.Errorf("recorded is %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestABMCIsLookedAtBeforeItIsFirstSwitched(t *testing.T) {
	withNode(t, fleet.BMC{Address: "10.0.0.1", CipherSuite: -1}, func(t *testing.T, e *Engine, s *switchboard, _ func() string) {
		s.found = fleet.BMC{Address: "10.0.0.1", Driver: fleet.DriverRedfish, Pin: "aa"}
		if _, err := e.Power(t.Context(), "ann", "n1", fleet.PowerOrder{Op: fleet.PowerOn}); err != nil {
			t.Fatal(err)
		}
		if n, _ := e.Node("n1"); n.BMC.Driver != fleet.DriverRedfish || n.BMC.Pin != "aa" || len(s.orders) != 1 {
			t.Errorf("it is %+v after %d orders", n.BMC, len(s.orders))
		}
	})
}

func TestACertificateThatChangesWaitsForAnOperator(t *testing.T) {
	withNode(t, fleet.BMC{Address: "10.0.0.1", Driver: fleet.DriverRedfish, Pin: "aa"}, func(t *testing.T, e *Engine, s *switchboard, events func() string) {
		s.err = otherPinError("bb")
		if _, err := e.Power(t.Context(), "ann", "n1", fleet.PowerOrder{Op: fleet.PowerOn}); err == nil {
			t.Fatal("no error")
		}
		if n, _ := e.Node("n1"); n.BMC.NewPin != "bb" || n.BMC.Pin != "aa" {
			t.Errorf("it is %+v", n.BMC)
		}
		time.Sleep(3 * fleet.AlarmHold) //nolint:forbidigo // fake time: synctest
		if a := e.Alarms(); len(a) != 1 || a[0].Code != fleet.CodeBMCPin {
			t.Errorf("alarms are %+v", a)
		}
		if _, err := e.AcceptPin(t.Context(), "ann", "n1", "cc"); fleet.KindOf(err) != fleet.Conflict {
			t.Errorf("another one was accepted: %v", err)
		}
		n, err := e.AcceptPin(t.Context(), "ann", "n1", "BB")
		if err != nil || n.BMC.Pin != "bb" || n.BMC.NewPin != "" || len(e.Alarms()) != 0 {
			t.Errorf("AcceptPin = %+v, %v with %d alarms", n.BMC, err, len(e.Alarms()))
		}
		if got := events(); !strings.Contains(got, "access.changed ann: accepted the BMC's TLS certificate bb in place of aa") {
			t.Errorf("recorded is %s", got)
		}
	})
}

func TestAPersonSwitchesAMachineWithoutABMC(t *testing.T) {
	withNode(t, fleet.BMC{Wanted: fleet.DriverManual}, func(t *testing.T, e *Engine, s *switchboard, events func() string) {
		if _, err := e.PowerDone(t.Context(), "bob", "n1"); fleet.KindOf(err) != fleet.Conflict {
			t.Errorf("done before it was asked: %v", err)
		}
		result := make(chan error, 1)
		go func() {
			_, err := e.Power(t.Context(), "ann", "n1", fleet.PowerOrder{Op: fleet.PowerOff})
			result <- err
		}()
		time.Sleep(fleet.AlarmHold + time.Minute) //nolint:forbidigo // fake time: synctest
		if a := e.Alarms(); len(a) != 1 || a[0].Code != fleet.CodePowerManual || a[0].Detail != "switch it off" {
			t.Errorf("alarms are %+v", a)
		}
		e.alive("52:54:00:00:00:01", "") // which does not show that it is off
		if _, err := e.PowerDone(t.Context(), "bob", "n1"); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil || len(e.Alarms()) != 0 || len(s.orders) != 0 {
			t.Errorf("Power = %v with %d alarms", err, len(e.Alarms()))
		}
		if got := events(); !strings.Contains(got, "node.power bob: done by hand: switch it off") || !strings.Contains(got, "node.power ann: power off, is off") {
			t.Errorf("recorded is %s", got)
		}
	})
}

func TestAMachineThatBootsSaysSoItself(t *testing.T) {
	withNode(t, fleet.BMC{Wanted: fleet.DriverManual}, func(t *testing.T, e *Engine, _ *switchboard, _ func() string) {
		result := make(chan error, 1)
		go func() {
			_, err := e.Power(t.Context(), "ann", "n1", fleet.PowerOrder{Op: fleet.PowerOn})
			result <- err
		}()
		synctest.Wait()
		e.Observe(fleet.Evidence{MAC: "52:54:00:00:00:01", Phase: fleet.PhaseDHCP})
		if err := <-result; err != nil {
			t.Errorf("Power = %v", err)
		}
	})
}

func TestAPersonWhoDoesNotComeIsNamed(t *testing.T) {
	withNode(t, fleet.BMC{Wanted: fleet.DriverManual}, func(t *testing.T, e *Engine, _ *switchboard, _ func() string) {
		_, err := e.Power(t.Context(), "ann", "n1", fleet.PowerOrder{Op: fleet.PowerCycle})
		if fleet.CodeOf(err) != fleet.CodePowerManual || !strings.Contains(fleet.HintOf(err), "provision power done n1") || len(e.Alarms()) != 0 {
			t.Errorf("Power = %v (%s)", err, fleet.HintOf(err))
		}
	})
}

func TestAMachineIsWokenUntilItGivesASignOfLife(t *testing.T) {
	tests := map[string]struct {
		wakes bool
		code  fleet.Code
		least int
	}{"one that wakes": {true, "", 3}, "one that sleeps on": {false, fleet.CodeWakeSilent, 25}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withNode(t, fleet.BMC{Wanted: fleet.DriverWOL}, func(t *testing.T, e *Engine, s *switchboard, _ func() string) {
				result := make(chan error, 1)
				go func() {
					_, err := e.Power(t.Context(), "ann", "n1", fleet.PowerOrder{Op: fleet.PowerOn})
					result <- err
				}()
				time.Sleep(25 * time.Second) //nolint:forbidigo // fake time: synctest
				if tt.wakes {
					e.Observe(fleet.Evidence{MAC: "52:54:00:00:00:01", Phase: fleet.PhaseDHCP})
				}
				if err := <-result; fleet.CodeOf(err) != tt.code || len(s.orders) < tt.least {
					t.Errorf("Power = %v after %d packets", err, len(s.orders))
				}
			})
		})
	}
}

func TestARunWaitsForAMachineThatAPersonStarts(t *testing.T) {
	site := testSite()
	site.Rules[0].BMC = fleet.BMCAccess{Driver: fleet.DriverManual}
	withRack(t, 1, site, func(t *testing.T, r *rack) {
		r.switchOff(r.machine())
		wait(2 * aliveFor)
		run := start(t, r.server)
		wait(5 * time.Minute)
		if a := r.server.Alarms(); len(a) != 1 || a[0].Code != fleet.CodePowerManual {
			t.Errorf("alarms are %+v", a)
		}
		r.switchOn(r.machine())
		if run = over(t, r.server, run.ID); run.State != fleet.RunDone {
			t.Errorf("run is %s: %+v", run.State, run.Nodes)
		}
	})
}
