package engine

import (
	"context"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A wiredAccount is a real controller, for an engine whose sealed passwords are
// what they are.
type wiredAccount struct{ bmc *bmc.Controller }

func (w wiredAccount) target(n fleet.Node) bmc.Target {
	b := n.BMC
	return bmc.Target{Driver: b.Via(), Address: b.Address, Username: b.Username, Password: bmc.Password(b.SealedPassword), System: b.System, BasicAuth: b.BasicAuth, Pin: b.Pin}
}

// Probe implements Prober.
func (w wiredAccount) Probe(ctx context.Context, n fleet.Node, anyway bool) (fleet.BMC, error) {
	probe := w.bmc.Probe
	if anyway {
		probe = w.bmc.ProbeAnyway
	}
	found, err := probe(ctx, w.target(n))
	if n.BMC.Driver = found.Driver; err == nil {
		n.BMC.System, n.BMC.BasicAuth, n.BMC.Pin = found.System, found.BasicAuth, found.Pin
	}
	return n.BMC, err
}

// Examine implements Examiner.
func (w wiredAccount) Examine(ctx context.Context, n fleet.Node, all bool) (fleet.Checkup, error) {
	return w.bmc.Examine(ctx, w.target(n), all)
}

// ClearLog implements Examiner.
func (w wiredAccount) ClearLog(ctx context.Context, n fleet.Node) error {
	return w.bmc.ClearLog(ctx, w.target(n))
}

// Switch implements Power.
func (w wiredAccount) Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	return w.bmc.Switch(ctx, w.target(n), o.Op)
}

// A server that does not know which of two passwords a BMC has finds out, and does
// not have the account locked by asking again and again.
func TestABMCThatTakesNeitherPasswordIsAskedTwiceIn5Minutes(t *testing.T) {
	t.Parallel()
	s, err := redfish.Listen(t.Context(), "127.0.0.1:0", redfish.New(redfish.Options{Username: "admin", Password: "Secret123Secret1"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := wiredAccount{bmc.New(bmc.Options{Interval: time.Millisecond})}
	n := fleet.Node{
		ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Revision: 1,
		BMC: fleet.BMC{Address: s.Addr(), Username: "admin", SealedPassword: "Secret123Secret1"},
	}
	if n.BMC, err = w.Probe(t.Context(), n, false); err != nil {
		t.Fatal(err)
	}
	n.BMC.SealedPassword = "Old1Old1Old1Old1"
	n.BMC.Next = fleet.BMCAccount{Address: s.Addr(), Username: "admin", SealedPassword: "New1New1New1New1"}
	before := s.Service.Counts().Refused
	refused := func() int { return s.Service.Counts().Refused - before }

	store := &memoryStore{world: fleet.World{Site: testSite(), Nodes: []fleet.Node{n}}}
	vault := newFakeBMC()
	e := New(Options{Store: store, Power: w, Prober: w, Examiner: w, Vault: vault, Accounts: vault, CheckEvery: -1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }() // which settles at its start, beside the rounds
	<-e.Started()
	for range 3 {
		e.visit(ctx, store.only(t))
	}
	if _, err := e.Power(ctx, "ada", "n-1", fleet.PowerOrder{Op: fleet.PowerOn}); fleet.KindOf(err) != fleet.Denied || fleet.HintOf(err) == "" {
		t.Errorf("Power = %v, want it denied, and what to do", err)
	}
	if got := refused(); got == 0 || got > 2 {
		t.Errorf("%d logins were refused, want 2 at most", got)
	}
	if _, c, _ := e.Checkup("n-1"); c.Failed == 0 {
		t.Error("the rounds do not count it as unanswered")
	}
	if _, err := e.ProbeBMC(ctx, "ada", "n-1", ""); fleet.KindOf(err) != fleet.Denied || refused() != 3 {
		t.Errorf("a person's probe: %v, %d logins refused; want it asked once more", err, refused())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
