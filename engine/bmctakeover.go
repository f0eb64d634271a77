package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// TakeOverBMC makes a BMC ours that let us in with what it came with: it gets
// an account of our own, which signs in before anything is given up, and the
// one that it came with gets a password that nobody knows. A BMC on which no
// account can be made keeps the one that it came with, under another password.
// What is left undone is done when it is called again.
func (e *Engine) TakeOverBMC(ctx context.Context, id fleet.NodeID) (fleet.Node, error) {
	n, ok := e.world.node(id)
	if !ok {
		return n, unknownNode(string(id))
	}
	site := e.Site()
	r, matches := site.MatchRule(n)
	gives := matches && r.BMC.Usable()
	given := matches && r.BMC.Keep || gives && !n.BMC.Own && !holdsBegun(site, n) && !r.BMC.Withholds(n.BMC, n.Inventory.BMC.Address)
	if e.Vault == nil || e.Accounts == nil || given || e.mayRotate(n) != nil {
		return n, nil // nothing to do, or not now: somebody else does it, or has the machine
	}
	defer e.endEnrolment(id)
	if o, found := e.othersWithFactory(n); found {
		return n, rotateError(n, fleet.Conflict, fleet.CodeBMCSeveral, fmt.Errorf("node %s is behind the same BMC, with the account that it came with", o.Title()), "give their rules an account of the BMC: bmc: {address, username, password_file}")
	}
	ctx, cancel := context.WithTimeout(ctx, takeOverWithin)
	defer cancel()
	user := cmp.Or(r.BMC.Username, fleet.OwnUser)
	switch {
	case gives && r.BMC.Withholds(n.BMC, n.Inventory.BMC.Address) && n.BMC.Username != user: // that one's password is not ours
		user = fleet.OwnUser
	case gives:
		user = n.BMC.Username
	}
	err := e.settle(ctx, id)
	if err == nil {
		err = e.replaceFactory(ctx, id, user)
	}
	if err == nil {
		err = e.retireFactory(ctx, id)
	}
	e.alertFindings(time.Now())
	n, _ = e.world.node(id)
	return n, err
}

// othersWithFactory returns a node that signs in to the same BMC with an account
// whose password would be changed.
func (e *Engine) othersWithFactory(n fleet.Node) (other fleet.Node, found bool) {
	if !n.BMC.Own {
		if other, found = e.othersBehind(n); found {
			return other, found
		}
	}
	if n.BMC.Factory == "" {
		return other, false
	}
	n.BMC.Username = n.BMC.Factory
	return e.othersBehind(n)
}

const takeOverWithin = 2 * rotateWithin

// replaceFactory sees to it that the node's account is ours.
func (e *Engine) replaceFactory(ctx context.Context, id fleet.NodeID, user string) error {
	n, _ := e.world.node(id)
	if n.BMC.Own {
		return nil
	}
	if e.Maker == nil || n.BMC.Username == user {
		return e.rotatePassword(ctx, "engine", id)
	}
	err := e.makeOwn(ctx, id, user)
	if !makesNone(err) {
		return err
	}
	e.Log.InfoContext(ctx, "BMC makes no account, password of its own changed", "node", id, "err", err)
	return e.rotatePassword(ctx, "engine", id)
}

// makesNone reports whether a BMC has said that it makes no account for us, at
// least none that is of use.
func makesNone(err error) bool {
	return errors.Is(err, errNoShape) || slices.Contains([]fleet.Code{fleet.CodeBMCUnsupported, fleet.CodeBMCNoEffect, fleet.CodeBMCMustChange, fleet.CodeBMCDenied}, fleet.CodeOf(err))
}

// makeOwn makes an account of ours, of the first shape that the BMC takes. Its
// password is stored before, so that nothing is lost when the server is killed.
func (e *Engine) makeOwn(ctx context.Context, id fleet.NodeID, user string) error {
	for shape := 0; ; shape++ {
		n, err := e.stageNext(ctx, id, user, shape)
		if err != nil {
			return err
		}
		refused := e.Maker.MakeAccount(ctx, n, n.BMC.Next)
		if code := fleet.CodeOf(refused); code == codeShape || makesNone(refused) || fleet.KindOf(refused) == fleet.Denied {
			if err := e.dropNext(ctx, id); err != nil {
				return errors.Join(refused, err)
			}
			if code == codeShape {
				continue
			}
			return refused
		}
		if err := e.settleMade(ctx, n); err != nil {
			return cmp.Or(refused, err)
		}
		if now, _ := e.world.node(id); !now.BMC.Own {
			return cmp.Or(refused, rotateError(n, fleet.Conflict, fleet.CodeBMCNoEffect, errors.New("the BMC said that it made an account, which does not sign in"), ""))
		}
		return e.update(ctx, func(t *tx) error {
			n, err := t.node(id)
			if err != nil {
				return err
			}
			t.event(fleet.EventAccess, n, "engine", "BMC account "+user+" at "+n.BMC.Address+": made over the network, proven by signing in")
			return nil
		})
	}
}

// settleMade finds out whether an account that was made signs in. Some BMCs need
// a moment. One that has to change its password first is of no use.
func (e *Engine) settleMade(ctx context.Context, n fleet.Node) error {
	made := n
	made.BMC = n.BMC.Candidate(n.BMC.Next)
	for try := 1; try < proofs; try++ {
		proven, err := e.prove(ctx, made, false)
		if err == nil {
			return e.takeNext(ctx, n.ID, proven)
		}
		if fleet.CodeOf(err) == fleet.CodeBMCMustChange {
			return errors.Join(err, e.dropNext(ctx, n.ID))
		}
		if fleet.KindOf(err) != fleet.Denied || rest(ctx, proofRest) != nil {
			break
		}
	}
	return e.settle(ctx, n.ID)
}

// retireFactory changes the password of the account that the BMC came with. We
// can always set it again.
func (e *Engine) retireFactory(ctx context.Context, id fleet.NodeID) error {
	n, _ := e.world.node(id)
	user := n.BMC.Factory
	if user == "" || e.Maker == nil {
		return nil
	}
	if err := e.Maker.RetireAccount(ctx, n, user); err != nil {
		return err
	}
	return e.update(ctx, func(t *tx) error {
		n, err := t.node(id)
		if err != nil {
			return err
		}
		n.BMC.Factory = ""
		n.BMC = n.BMC.WithoutFindings(fleet.CodeBMCFactory)
		t.put(n)
		t.event(fleet.EventAccess, n, "engine", fmt.Sprintf("BMC user %s, which it came with, lets nobody in any more: %s can give it a password", user, n.BMC.Username))
		return nil
	})
}
