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

// fallSilent is a BMC whose web server restarts with a new password.
func fallSilent(b *fakeBMC) error {
	b.silent = true
	return &fleet.Error{Kind: fleet.Unreachable, Code: "E-BMC-TIMEOUT", Err: errors.New("no answer")}
}

// endSession is a BMC that ends all sessions with a new password, the one that
// ordered it too, before it has answered.
func endSession(*fakeBMC) error {
	return &fleet.Error{Kind: fleet.Denied, Code: "E-BMC-LOGIN", Err: errors.New("401 Unauthorized")}
}

// An answer that was lost is a finding until it is known which password counts,
// and that is found out as soon as the BMC speaks again.
func TestALostAnswerIsSettledByItself(t *testing.T) {
	tests := map[string]func(*testing.T, *Engine){
		"by the next checkup": func(*testing.T, *Engine) { time.Sleep(time.Hour) }, //nolint:forbidigo // fake time: synctest
		"by the next order": func(t *testing.T, e *Engine) {
			if _, err := e.Power(t.Context(), "ada", "n-1", fleet.PowerOrder{Op: fleet.PowerStatus}); err != nil {
				t.Error(err)
			}
		},
	}
	for name, meanwhile := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := rotationRack(t)
				s.world.Nodes[0].BMC.Driver = fleet.DriverIPMI
				r.bmc.change(func(b *fakeBMC) { b.answers = fallSilent })
				o := Options{Store: s, Power: newWorkshop(), Prober: r.bmc, Vault: r.bmc, Accounts: r.bmc}
				o.Examiner = newWard(func(fleet.Node, int) (fleet.Checkup, error) { return fleet.Checkup{Health: fleet.HealthOK}, nil })
				e := New(o)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx) }()
				<-e.Started()
				if _, err := e.RotateBMC(t.Context(), "ada", "n-1"); err == nil {
					t.Error("the rotation did not say that its answer was lost")
				}
				checkAlarms(t, e, []string{fleet.CodeBMCPassword})
				r.bmc.change(func(b *fakeBMC) { b.silent = false })
				meanwhile(t, e)
				if n := s.only(t); n.BMC.Next != (fleet.BMCAccount{}) || !r.bmc.opens(n) {
					t.Errorf("the BMC is %+v", n.BMC)
				}
				checkAlarms(t, e, nil)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestTheAccountOfSeveralNodesIsNotRotatedForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := rotationRack(t)
		two := s.world.Nodes[0]
		two.ID, two.MAC = "n-2", "52:54:00:00:00:02"
		two.BMC.Address += ":443" // the same, written otherwise
		s.world.Nodes = append(s.world.Nodes, two)
		e, kill := r.serve(s)
		_, err := e.RotateBMC(t.Context(), "ada", "n-1")
		if fleet.CodeOf(err) != fleet.CodeBMCSeveral || fleet.HintOf(err) == "" {
			t.Errorf("RotateBMC = %v, want %s and what to do", err, fleet.CodeBMCSeveral)
		}
		n, _ := e.Node("n-2")
		n.BMC.Address = bmcAddress
		if !r.bmc.opens(n) {
			t.Error("the other node is locked out")
		}
		kill()
		synctest.Wait()
	})
}

// Who works on a machine signs in to its BMC with the password that it has.
func TestNoPasswordIsChangedBehindTheBackOfWhoWorks(t *testing.T) {
	tests := map[string]struct {
		take func(e *Engine, n *fleet.Node)
		code fleet.Code
	}{
		"a run":                 {func(_ *Engine, n *fleet.Node) { n.Run = "prd-0001" }, "E-RUN-ACTIVE"},
		"an update of firmware": {func(e *Engine, n *fleet.Node) { e.hands.put(n.ID, handFirmware, "bob") }, fleet.CodeBMCBusy},
		"a check with power":    {func(e *Engine, n *fleet.Node) { e.hands.put(n.ID, handPower, "bob") }, fleet.CodeBMCBusy},
		"a check":               {func(e *Engine, n *fleet.Node) { e.hands.put(n.ID, handCheck, "bob") }, fleet.CodeBMCBusy},
		"who switches it":       {func(e *Engine, n *fleet.Node) { e.hands.put(n.ID, handSwitch, "bob") }, fleet.CodeBMCBusy},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, s := rotationRack(t)
				e, kill := r.serve(s)
				err := e.update(t.Context(), func(tx *tx) error {
					n, err := tx.node("n-1")
					n.BMC.Factory = "admin"
					tt.take(e, &n)
					tx.put(n)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := e.RotateBMC(t.Context(), "ada", "n-1"); fleet.CodeOf(err) != tt.code || fleet.HintOf(err) == "" {
					t.Errorf("RotateBMC = %v, want %s and what to do", err, tt.code)
				}
				if n, err := e.TakeOverBMC(t.Context(), "n-1"); err != nil || n.BMC.Factory != "admin" || n.BMC.Own {
					t.Errorf("TakeOverBMC = %+v, %v; want it left for later", n.BMC, err)
				}
				if r.bmc.logins > 0 || e.enrolments.changes("n-1") {
					t.Errorf("%d logins, its account taken: %t", r.bmc.logins, e.enrolments.changes("n-1"))
				}
				kill()
				synctest.Wait()
			})
		})
	}
}

func TestAPasswordThatNobodyCanChangeStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := rotationRack(t)
		s.world.Nodes[0].BMC.Driver = fleet.DriverPDU
		e, kill := r.serve(s)
		_, err := e.RotateBMC(t.Context(), "ada", "n-1")
		if n := s.only(t); fleet.CodeOf(err) != fleet.CodeBMCUnsupported || n.BMC.Next.Open() {
			t.Errorf("RotateBMC = %v, next %+v; want %s and nothing stored", err, n.BMC.Next, fleet.CodeBMCUnsupported)
		}
		kill()
		synctest.Wait()
	})
}

// Whoever gives an order may go away: it is carried out to its end.
func TestAnOrderOutlivesWhoGaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := rotationRack(t)
		s.world.Nodes[0].BMC.Driver = fleet.DriverIPMI
		p := &patient{}
		e := New(Options{Store: s, Power: p})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		<-e.Started()
		asking, goAway := context.WithTimeout(t.Context(), time.Second)
		defer goAway()
		if _, err := e.Power(asking, "ada", "n-1", fleet.PowerOrder{Op: fleet.PowerCycle}); err != nil || !p.finished {
			t.Errorf("Power = %v, on again: %t", err, p.finished)
		}
		stopping, stop := context.WithCancel(t.Context())
		defer stop()
		time.AfterFunc(time.Second, cancel) // the server ends
		if _, err := e.Power(stopping, "ada", "n-1", fleet.PowerOrder{Op: fleet.PowerCycle}); !errors.Is(err, context.Canceled) {
			t.Errorf("Power = %v while the server ended, want %v", err, context.Canceled)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// patient takes ten seconds for an order.
type patient struct{ finished bool }

// Switch implements Power.
func (p *patient) Switch(ctx context.Context, _ fleet.Node, _ fleet.PowerOrder) (fleet.Switched, error) {
	p.finished = false
	select {
	case <-ctx.Done():
		return fleet.Switched{}, ctx.Err()
	case <-time.After(10 * time.Second):
		p.finished = true
		return fleet.Switched{After: fleet.PowerIsOn}, nil
	}
}

// A machine may say what it likes of its BMC: nobody signs in with the password
// of a node where its certificate was not seen before.
func TestABMCThatMovesKeepsItsCertificate(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	for said, want := range map[string]string{
		"10.77.1.66":      "10.77.1.66",
		"":                bmcAddress,
		"10.77.1.66:8443": bmcAddress,
		"bmc.example":     bmcAddress,
		"127.0.0.1":       bmcAddress,
		"224.0.0.1":       bmcAddress,
	} {
		t.Run(said, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				access := fleet.BMCAccess{Username: "admin", PasswordFile: "f", SealedPassword: "given"}
				s := &memoryStore{world: fleet.World{Site: enrolSite(access), Nodes: []fleet.Node{{
					ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Approved: true, Pool: "prd", Stage: "prd", Revision: 1,
					Inventory: fleet.Inventory{BMC: fleet.InventoryBMC{Present: true, Address: bmcAddress}},
					BMC:       fleet.BMC{Address: bmcAddress, Username: "admin", SealedPassword: "given", Driver: fleet.DriverRedfish, Pin: pin, HostKey: "SHA256:x"},
				}}}}
				e := New(Options{Store: s})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx) }()
				<-e.Started()
				inv := fleet.Inventory{BMC: fleet.InventoryBMC{Present: true, Address: said}}
				err := e.update(t.Context(), func(tx *tx) error {
					n, err := tx.node("n-1")
					n.Inventory = inv.Clean()
					e.classify(tx, &n)
					tx.put(n)
					return err
				})
				n := s.only(t)
				if err != nil || n.BMC.Address != want || n.BMC.Pin != pin || n.BMC.HostKey == "" || n.BMC.Driver != fleet.DriverRedfish {
					t.Errorf("%v, the BMC is %+v; want it at %s with what is known of it", err, n.BMC, want)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
