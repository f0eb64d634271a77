package commit

import (
	"cmp"
	"context"

	"github.com/rackstage/provision/fleet"
)

// Now puts leases on the disk for which no client waits, and tells the book.
func Now[L any](ctx context.Context, leases []L, save func(context.Context, []L) error, stored func([]L, bool)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := save(ctx, leases)
	stored(leases, err == nil)
	if err == nil {
		return nil
	}
	return &fleet.Error{
		Kind: fleet.Internal, Code: fleet.CodeLeasesUnsaved, Op: "store leases", Err: err,
		Hint: cmp.Or(fleet.HintOf(err), "see why in the error; a full disk needs room in the state folder"),
	}
}
