package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
)

// RotateBMC gives a node's BMC a new password, signs in with it, and only then
// forgets the one before. Both are kept until one is proven, so that a server
// that is killed in between finds out which of them it is.
func (e *Engine) RotateBMC(ctx context.Context, actor, ref string) (fleet.Node, error) {
	n, err := e.Node(ref)
	if err != nil {
		return n, err
	}
	if e.Vault == nil || e.Accounts == nil || n.BMC.Address == "" || n.BMC.SealedPassword == "" {
		return n, rotateError(n, fleet.Conflict, "E-BMC-NONE", errors.New("it has no BMC account"), "boot it once from the network, or give its rule bmc: {username, password_file}")
	}
	if !n.BMC.Via().HasAccounts() {
		return n, rotateError(n, fleet.Conflict, fleet.CodeBMCUnsupported, fmt.Errorf("driver %s changes no passwords", n.BMC.Via()), "change it there, and in the password_file of its rule")
	}
	if o, found := e.othersBehind(n); found {
		return n, rotateError(n, fleet.Conflict, fleet.CodeBMCSeveral, fmt.Errorf("node %s is behind the same BMC, with the same account", o.Title()), "change the password at the BMC, and in the password_file of their rules")
	}
	if err := e.mayRotate(n); err != nil {
		return n, err
	}
	defer e.endEnrolment(n.ID)
	ctx, cancel := e.outliving(ctx, rotateWithin)
	defer cancel()
	if err := e.settle(ctx, n.ID); err != nil {
		return n, err
	}
	if n, err = e.signedIn(ctx, n.ID); err != nil {
		return n, err // nothing has been changed
	}
	err = e.rotatePassword(ctx, actor, n.ID)
	if now, ok := e.world.node(n.ID); ok {
		n = now
	}
	if err != nil && n.BMC.Next.Open() {
		e.refine(ctx, n.ID, func(b fleet.BMC) fleet.BMC {
			return b.WithFinding(fleet.CodeBMCPassword, "it is not known yet whether it took the new password: "+fleet.CleanText(err.Error()))
		})
		e.rounds.soon(n.ID, time.Now())
	}
	return n, err
}

func besideNothing(handling) bool { return false }

// mayRotate takes the node's account to be changed, or says why not: who works on
// the machine, or checks its BMC, signs in with the password that it has.
func (e *Engine) mayRotate(n fleet.Node) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	if err := e.mayTake(n, rotate, besideNothing); err != nil {
		return err
	}
	if !e.enrolments.begin(n.ID) {
		return rotateError(n, fleet.Conflict, fleet.CodeBMCPassword, errors.New("its account is being changed already"), "wait a minute, then see: provision nodes show "+n.Title())
	}
	return nil
}

// signedIn returns a node whose BMC takes the password that we have, be it only
// to let it be changed.
func (e *Engine) signedIn(ctx context.Context, id fleet.NodeID) (fleet.Node, error) {
	n, ok := e.world.node(id)
	if !ok {
		return n, unknownNode(string(id))
	}
	if _, err := e.prove(ctx, n, false); fleet.CodeOf(err) != fleet.CodeBMCMustChange {
		return n, err
	}
	return n, nil
}

// othersBehind returns a node whose BMC is the same one, with the same account:
// it would have a password that is over.
func (e *Engine) othersBehind(n fleet.Node) (other fleet.Node, found bool) {
	for _, o := range e.Nodes() {
		if o.ID != n.ID && o.State != fleet.Retired && o.BMC.Place() == n.BMC.Place() && o.BMC.Username == n.BMC.Username {
			return o, true
		}
	}
	return other, false
}

// rotatePassword changes the password of the node's account, to the first shape that
// its BMC takes.
func (e *Engine) rotatePassword(ctx context.Context, actor string, id fleet.NodeID) error {
	for shape := 0; ; shape++ {
		if err := e.changePassword(ctx, actor, id, shape); fleet.CodeOf(err) != codeShape {
			return err
		}
	}
}

const rotateWithin = 5 * time.Minute

const rotate = "rotate BMC password"

func rotateError(n fleet.Node, kind fleet.Kind, code fleet.Code, err error, hint string) error {
	return &fleet.Error{Kind: kind, Code: code, Op: rotate, On: "node " + n.Title(), Err: err, Hint: hint}
}

// changePassword gives the BMC a password of a shape.
func (e *Engine) changePassword(ctx context.Context, actor string, id fleet.NodeID, shape int) error {
	n, err := e.stageNext(ctx, id, "", shape)
	if err != nil {
		return err
	}
	// From here on the BMC may have either, whatever becomes of the answer: some
	// end all sessions with the change, and then refuse the one that ordered it.
	refused := e.Accounts.ChangePassword(ctx, n, n.BMC.Next)
	if fleet.CodeOf(refused) == codeShape {
		return errors.Join(refused, e.dropNext(ctx, id))
	}
	if err := e.settle(ctx, id); err != nil {
		return errors.Join(refused, err)
	}
	now, _ := e.world.node(id)
	if now.BMC.SealedPassword != n.BMC.Next.SealedPassword {
		if refused == nil {
			refused = errors.New("the BMC said yes, and kept the password that it had")
		}
		return rotateError(n, fleet.Conflict, fleet.CodeBMCPassword, refused, "try once more; if it stays so, restart the BMC")
	}
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		t.event(fleet.EventAccess, n, actor, fmt.Sprintf("password of BMC user %s changed, proven by signing in", n.BMC.Username))
		return nil
	})
}

// errNoShape says that there are no more kinds of passwords to be tried.
var errNoShape = errors.New("the BMC takes none of our passwords")

// stageNext stores the password that the node's BMC is to get: for its user,
// or for another one.
func (e *Engine) stageNext(ctx context.Context, id fleet.NodeID, user string, shape int) (staged fleet.Node, err error) {
	sealed, err := e.Vault.NewPassword(id, shape)
	if err == nil && sealed == "" {
		err = errNoShape
	}
	if err != nil {
		return staged, err
	}
	err = e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		if user != "" && user != n.BMC.Username && !n.BMC.Own {
			n.BMC.Factory = n.BMC.Username
		}
		n.BMC.Next = fleet.BMCAccount{Address: n.BMC.Address, Username: cmp.Or(user, n.BMC.Username), SealedPassword: sealed}
		t.put(n)
		staged = n
		return nil
	})
	return staged, err
}

func (e *Engine) dropNext(ctx context.Context, id fleet.NodeID) error {
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		n.BMC.Next = fleet.BMCAccount{}
		n.BMC = n.BMC.WithoutFindings(fleet.CodeBMCPassword)
		t.put(n)
		return nil
	})
}

// settle finds out which of two passwords a BMC has, where that is open: the
// new one, or else the one before. It keeps both while the BMC says neither. A new
// account that is of no use before its password is changed is given up for the one
// before, where that is another.
func (e *Engine) settle(ctx context.Context, id fleet.NodeID) error {
	n, ok := e.world.node(id)
	if !ok {
		return unknownNode(string(id))
	}
	if !n.BMC.Next.Open() {
		return nil
	}
	candidate := n
	candidate.BMC = n.BMC.Candidate(n.BMC.Next)
	proven, err := e.prove(ctx, candidate, false)
	if err == nil {
		return e.takeNext(ctx, id, proven)
	}
	owed := fleet.CodeOf(err) == fleet.CodeBMCMustChange // it is the new one, and is to be changed once more
	if fleet.KindOf(err) != fleet.Denied && !owed || n.BMC.SealedPassword == "" {
		return err
	}
	if owed && n.BMC.Next.Username == n.BMC.Username {
		return e.takeNext(ctx, id, candidate.BMC)
	}
	// One that has to be changed first is known all the same.
	_, err = e.prove(ctx, n, false)
	switch {
	case err == nil || fleet.CodeOf(err) == fleet.CodeBMCMustChange:
		return e.dropNext(ctx, id)
	case fleet.KindOf(err) != fleet.Denied:
		return err
	case owed:
		return e.takeNext(ctx, id, candidate.BMC)
	}
	err = rotateError(n, fleet.Denied, fleet.CodeBMCPassword, errors.New("the BMC takes neither the old password nor the new one; both are kept"),
		"reset the account by hand, then boot the machine from the network")
	e.refine(ctx, id, func(b fleet.BMC) fleet.BMC { return b.WithFinding(fleet.CodeBMCPassword, err.Error()) })
	return err
}

func (e *Engine) takeNext(ctx context.Context, id fleet.NodeID, proven fleet.BMC) error {
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		if holdsBegun(t.siteNow(), n) {
			t.dropBegun(n.Inventory.BMC.MAC)
		}
		proven.Findings, proven.Factory = n.BMC.Findings, n.BMC.Factory
		n.BMC = proven.Taken(settled...)
		t.put(n)
		return nil
	})
}

// settleAll finishes what the server was in the middle of when it ended.
func (e *Engine) settleAll(ctx context.Context) {
	for _, n := range e.Nodes() {
		if n.BMC.Next.Open() { // the prober holds no more at a time than it can
			e.runs.Go(func() { _, _ = e.settleOpen(ctx, n) }) // what is open is a finding
		}
	}
}

// settleOpen finds out which of two passwords a BMC has, where that is open and
// nobody else is about it, and returns the node as it is then. An error means that
// the BMC takes neither: who signed in all the same would have it lock the account.
func (e *Engine) settleOpen(ctx context.Context, n fleet.Node) (fleet.Node, error) {
	if !n.BMC.Next.Open() || e.Prober == nil || e.Vault == nil || !e.enrolments.begin(n.ID) {
		return n, nil
	}
	defer e.endEnrolment(n.ID)
	ctx, cancel := context.WithTimeout(ctx, rotateWithin)
	defer cancel()
	err := e.settle(ctx, n.ID)
	if err != nil {
		e.Log.WarnContext(ctx, "BMC password still open", "node", n.ID, "err", err)
	}
	e.alertFindings(time.Now())
	if now, ok := e.world.node(n.ID); ok {
		n = now
	}
	if fleet.KindOf(err) == fleet.Denied {
		return n, err
	}
	return n, nil // whoever speaks to it next says what is wrong
}
