package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// enrolments knows whose BMC is being changed, and which boots of ramdisks
// have had their turn.
type enrolments struct {
	mu   sync.Mutex
	busy map[fleet.NodeID]*accountChange
	boot map[fleet.NodeID]string
}

// An accountChange is a change of the account of one BMC.
type accountChange struct {
	ramdisk bool // its machine's agent has asked for it, and makes it
	began   time.Time
	over    chan struct{}
}

func newEnrolments() *enrolments {
	return &enrolments{busy: map[fleet.NodeID]*accountChange{}, boot: map[fleet.NodeID]string{}}
}

// begin reports whether nobody changes the node's BMC now, and holds it.
func (s *enrolments) begin(id fleet.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hold(id, false)
}

// hold is begin for who has the lock.
func (s *enrolments) hold(id fleet.NodeID, ramdisk bool) bool {
	if s.busy[id] != nil {
		return false
	}
	s.busy[id] = &accountChange{ramdisk: ramdisk, began: time.Now(), over: make(chan struct{})}
	return true
}

// change returns what is being done to the account of the node's BMC; nil is nothing.
func (s *enrolments) change(id fleet.NodeID) *accountChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy[id]
}

// changes reports whether somebody changes the node's BMC: its machine is not
// to be switched off meanwhile.
func (s *enrolments) changes(id fleet.NodeID) bool { return s.change(id) != nil }

func (s *enrolments) end(id fleet.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.busy[id]; c != nil {
		close(c.over)
		delete(s.busy, id)
	}
}

// owes reports whether this boot of the node's ramdisk has not had its turn yet.
func (s *enrolments) owes(id fleet.NodeID, boot string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boot[id] != boot
}

// turn gives this boot of the node's ramdisk its turn, if it has not had it and
// nobody changes the node's BMC.
func (s *enrolments) turn(id fleet.NodeID, boot string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boot[id] == boot || !s.hold(id, true) {
		return false
	}
	s.boot[id] = boot
	return true
}

// madeWithin is how long orders wait for an account that the ramdisk makes. It
// takes a minute; but its machine may hang meanwhile, and who comes to switch
// that off must not wait for its agent.
const madeWithin = 4 * time.Minute

// await waits until the change is over.
func (c *accountChange) await(ctx context.Context) {
	var late <-chan time.Time
	if c.ramdisk {
		late = time.After(time.Until(c.began.Add(madeWithin)))
	}
	select {
	case <-c.over:
	case <-late:
	case <-ctx.Done():
	}
}

// enrolWithin is for all of an enrolment: the machine may be writing its disk
// meanwhile, and its agent does one thing at a time.
const enrolWithin = time.Hour

// enrolBMC makes an account of ours on the BMC of a node whose ramdisk asks for
// work, where its rule leaves that to us: once in each boot, beside everything
// else but who signs in just then. It returns true while that has to wait.
func (e *Engine) enrolBMC(n fleet.Node, s fleet.Session) (waits bool) {
	if s.Installed || e.Vault == nil || e.Prober == nil || !e.ownsAccount(n) || !e.enrolments.owes(n.ID, s.BootID) {
		return false
	}
	if !e.takeTurn(n.ID, s.BootID) {
		return true // it asks again
	}
	e.runs.Go(func() {
		defer e.endEnrolment(n.ID)
		ctx, cancel := context.WithTimeout(e.running, enrolWithin)
		defer cancel()
		e.enrol(ctx, n.ID)
	})
	return false
}

// takeTurn gives a boot of the node's ramdisk its turn. Who checks the node's BMC
// or switches it takes the node under the same lock.
func (e *Engine) takeTurn(id fleet.NodeID, boot string) bool {
	e.writing.Lock()
	defer e.writing.Unlock()
	return !e.signsIn(id) && e.enrolments.turn(id, boot)
}

// endEnrolment lets go of the node's BMC, and wakes its agent, which may go to
// standby now.
func (e *Engine) endEnrolment(id fleet.NodeID) {
	e.enrolments.end(id)
	e.links.of(id).nudge()
}

// ownsAccount reports whether the account of a node's BMC is our own business.
// Nobody's BMC is changed who has not been approved, nor where a rule gives an
// account or says that the BMC is to be left alone.
func (e *Engine) ownsAccount(n fleet.Node) bool {
	if !n.Approved || !n.WasApproved() || n.State == fleet.Quarantined || !n.Inventory.BMC.Present {
		return false
	}
	r, ok := e.Site().MatchRule(n)
	return ok && r.BMC.MakesAccount()
}

// enrol sees to it that we can sign in to the node's BMC.
func (e *Engine) enrol(ctx context.Context, id fleet.NodeID) {
	n, ok := e.world.node(id)
	if !ok {
		return
	}
	if n.BMC.Own && n.BMC.SealedPassword != "" && e.stillOurs(ctx, n) {
		e.look(ctx, id)
		return
	}
	report, err := e.makeAccount(ctx, id)
	if err == nil {
		err = e.adoptNext(ctx, id, fmt.Sprintf("made by its agent in slot %d", report.Slot))
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, errRestarted):
		return // the next boot goes on
	case err != nil:
		e.find(ctx, id, codeOfEnrolment(err), err)
		return
	}
	e.look(ctx, id)
}

var errNoAddress = errors.New("the BMC has no LAN address")

func codeOfEnrolment(err error) string {
	if errors.Is(err, errNoAddress) {
		return fleet.CodeBMCNoAddress
	}
	return fleet.CodeBMCEnrol
}

// stillOurs reports whether the account that we made before signs in, at the
// address that the machine says now. Only a BMC that says no is given another
// password: one that is silent may be back tomorrow.
func (e *Engine) stillOurs(ctx context.Context, n fleet.Node) bool {
	r, _ := e.Site().MatchRule(n)
	at := n.BMC.Candidate(fleet.BMCAccount{
		Address: cmp.Or(r.BMC.Address, n.Inventory.BMC.Address, n.BMC.Address), Username: n.BMC.Username, SealedPassword: n.BMC.SealedPassword,
	})
	err := e.adopt(ctx, n.ID, at, "")
	if fleet.KindOf(err) == fleet.Denied {
		return false
	}
	if err != nil {
		e.find(ctx, n.ID, fleet.CodeBMCEnrol, err)
	}
	return true
}

// makeAccount has the node's agent make the account. What it is given is
// stored before, so that a server which is killed does not lose what a BMC has
// got; it is used for nothing until it has signed in.
func (e *Engine) makeAccount(ctx context.Context, id fleet.NodeID) (fleet.BMCReport, error) {
	for shape := 0; ; shape++ {
		next, err := e.prepare(ctx, id, shape)
		if err != nil {
			return fleet.BMCReport{}, err
		}
		report, err := e.orderAccount(ctx, id, next)
		if fleet.CodeOf(err) == codeShape {
			continue
		}
		if err != nil {
			return report, err
		}
		if report.Address == "" {
			return report, errNoAddress
		}
		return report, e.update(ctx, func(t *tx) error {
			n, err := t.node(id)
			if err != nil {
				return err
			}
			r, _ := e.Site().MatchRule(n)
			n.BMC.Next.Address = cmp.Or(r.BMC.Address, report.Address)
			n.Inventory.BMC.Address = report.Address
			t.put(n)
			return nil
		})
	}
}

// codeShape is what an agent, or a BMC, says when such a password is not taken.
const codeShape = fleet.CodeBMCShape

func (e *Engine) orderAccount(ctx context.Context, id fleet.NodeID, next fleet.BMCAccount) (fleet.BMCReport, error) {
	password, err := e.Vault.Reveal(id, next.SealedPassword)
	if err != nil {
		return fleet.BMCReport{}, err
	}
	step := fleet.Step{
		ID:   "bmc/" + fleet.ShortHash(fleet.HashSecret(next.SealedPassword)), // the same after a restart of the server
		Kind: fleet.StepBMC, BMC: &fleet.BMCOrder{Username: next.Username, Password: password},
	}
	done, err := e.do(ctx, id, step, false)
	if err != nil {
		return fleet.BMCReport{}, err
	}
	if done.BMC == nil {
		return fleet.BMCReport{}, &fleet.Error{Kind: fleet.Internal, Op: "make BMC account", On: "node " + string(id), Err: errors.New("the agent sent no report")}
	}
	return *done.BMC, nil
}

// prepare returns the account that the node's BMC is to get next: the one that
// it may have got already, or a new one, which is stored. A shape after the
// first is tried because the one before was refused.
func (e *Engine) prepare(ctx context.Context, id fleet.NodeID, shape int) (next fleet.BMCAccount, err error) {
	sealed := ""
	if n, ok := e.world.node(id); !ok || shape > 0 || n.BMC.Next.SealedPassword == "" {
		if sealed, err = e.Vault.NewPassword(id, shape); err != nil {
			return next, err
		}
		if sealed == "" {
			return next, &fleet.Error{
				Kind: fleet.Conflict, Code: fleet.CodeBMCEnrol, Op: "make BMC account", On: "node " + string(id),
				Err: errors.New("the BMC takes none of our passwords"), Hint: "give its rule an account in site.yaml: bmc: {username, password_file}",
			}
		}
	}
	err = e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		if sealed != "" {
			n.BMC.Next.SealedPassword = sealed
		}
		r, _ := e.Site().MatchRule(n)
		n.BMC.Next.Username = cmp.Or(r.BMC.Username, fleet.OwnUser)
		n.BMC.Wanted, n.BMC.Ports, n.BMC.System = r.BMC.Driver, r.BMC.Ports, cmp.Or(r.BMC.System, n.BMC.System)
		next = n.BMC.Next
		t.put(n)
		return nil
	})
	return next, err
}

// adoptNext signs in with the account that is not proven yet, and makes it the
// node's.
func (e *Engine) adoptNext(ctx context.Context, id fleet.NodeID, how string) error {
	n, ok := e.world.node(id)
	if !ok {
		return unknownNode(string(id))
	}
	return e.adopt(ctx, id, n.BMC.Candidate(n.BMC.Next), how)
}

// How often a BMC that has just got a password is asked whether it takes it.
// Some need a moment; few refusals are so many that a user is locked out.
const (
	proofs    = 2
	proofRest = 5 * time.Second
)

// adopt signs in as a candidate, and makes that the node's BMC when it works.
// Otherwise the node keeps what it has. How is for the record; "" when there is
// nothing new to be told.
func (e *Engine) adopt(ctx context.Context, id fleet.NodeID, candidate fleet.BMC, how string) error {
	n, ok := e.world.node(id)
	if !ok {
		return unknownNode(string(id))
	}
	n.BMC = candidate
	var err error
	for try := 1; ; try++ {
		changed := how != "" && try == 1 // whatever was refused before
		if candidate, err = e.prove(ctx, n, changed); err == nil {
			break
		}
		if how == "" || try == proofs || ctx.Err() != nil || rest(ctx, proofRest) != nil {
			return err
		}
	}
	return e.update(ctx, func(t *tx) error {
		now, err := t.node(id)
		if err != nil {
			return err
		}
		if holdsBegun(t.siteNow(), now) {
			t.dropBegun(now.Inventory.BMC.MAC)
		}
		candidate.Findings, candidate.Factory = now.BMC.Findings, now.BMC.Factory
		now.BMC = candidate.Taken(settled...)
		t.put(now)
		if how != "" {
			t.event(fleet.EventAccess, now, "engine", "BMC account "+candidate.Username+" at "+candidate.Address+": "+how+", proven by signing in")
		}
		return nil
	})
}

// prove signs in to a BMC, and returns it with what that has shown. Where a
// probe may choose, it takes Redfish first; but there are BMCs whose Redfish
// has users of its own.
func (e *Engine) prove(ctx context.Context, n fleet.Node, anyway bool) (fleet.BMC, error) {
	proven, err := e.Prober.Probe(ctx, n, anyway)
	wanted := n.BMC.Wanted
	if fleet.KindOf(err) != fleet.Denied || wanted != "" || n.BMC.Driver != "" || proven.Driver != fleet.DriverRedfish {
		return proven, err
	}
	n.BMC.Wanted = fleet.DriverIPMI
	if proven, second := e.Prober.Probe(ctx, n, anyway); second == nil {
		proven.Wanted = wanted
		return proven, nil
	}
	return proven, err
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
