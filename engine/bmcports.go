package engine

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// A Vault makes the passwords that we give to BMCs. They are kept sealed, each
// for one node.
type Vault interface {
	// NewPassword makes a password of a shape, from 0; BMCs differ in what they
	// take. It returns "" when there are no more shapes.
	NewPassword(id fleet.NodeID, shape int) (sealed string, err error)
	// Reveal brings a password out, for whoever has to be told.
	Reveal(id fleet.NodeID, sealed string) (fleet.Secret, error)
}

// Accounts looks after the accounts of BMCs over the network.
type Accounts interface {
	// ChangePassword gives the user that n signs in as the password of next.
	ChangePassword(ctx context.Context, n fleet.Node, next fleet.BMCAccount) error
	// Look finds what is wrong with a BMC that nobody has to sign in for, and
	// whether it still takes one of the given accounts.
	Look(ctx context.Context, n fleet.Node, factory []fleet.FactoryAccount) ([]fleet.Finding, error)
}

// A Maker makes accounts of ours on BMCs over the network, and sees to those
// that were there before.
type Maker interface {
	// MakeAccount makes an administrator of next, as the user that n signs in as.
	// Where the BMC makes none the error has the code E-BMC-UNSUPPORTED.
	MakeAccount(ctx context.Context, n fleet.Node, next fleet.BMCAccount) error
	// RetireAccount gives a user, not the one that n signs in as, a password that
	// nobody keeps, and proves it. A user whom somebody has deleted is retired.
	RetireAccount(ctx context.Context, n fleet.Node, user string) error
}
