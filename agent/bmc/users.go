package bmc

import (
	"context"
	"errors"

	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/agent/fault"
)

// A user is one slot of a BMC's table.
type user struct {
	slot    uint8
	name    string
	fixed   bool // its name cannot be changed
	enabled bool
}

type users []user

// mostSlots is how many IPMI can have.
const mostSlots = 63

// Codes of Get User Access, IPMI 2.0 §22.27.
const enabledByCommand = 1

func listUsers(ctx context.Context, c Commands, channel uint8) (users, error) {
	var all users
	for slot, most := uint8(1), uint8(1); slot <= most; slot++ {
		access, err := c.GetUserAccess(ctx, channel, slot)
		if err != nil {
			if _, refused := errors.AsType[*types.ResponseError](err); refused && slot > 1 {
				continue // a hole in the table
			}
			return nil, fail("read user table", err)
		}
		if slot == 1 {
			most = min(access.MaxUsersIDCount, mostSlots)
		}
		u := user{slot: slot, fixed: slot <= access.FixedNameUseIDsCount, enabled: isEnabled(access)}
		name, err := c.GetUsername(ctx, slot)
		if _, refused := errors.AsType[*types.ResponseError](err); err != nil && !refused {
			return nil, fail("read user table", err) // the slot may be somebody's
		}
		if err == nil {
			u.name = name.Username // a slot that was never used has none, and some BMCs refuse to say so
		}
		all = append(all, u)
	}
	return all, nil
}

// isEnabled reports whether somebody may sign in. BMCs from before 2009 do not
// say whether a user is enabled, only what it may do.
func isEnabled(a *app.GetUserAccessResponse) bool {
	if a.EnableStatus != 0 {
		return a.EnableStatus == enabledByCommand
	}
	return a.IPMIMessagingEnabled
}

// slotFor returns where the user of this name is, or else a slot that nobody
// uses. The first slot is the anonymous user's.
func (us users) slotFor(name string) (uint8, error) {
	free := uint8(0)
	for _, u := range us {
		switch {
		case u.slot == 1 || u.fixed && u.name != name:
		case u.name == name:
			return u.slot, nil
		case free == 0 && u.name == "" && !u.enabled:
			free = u.slot
		}
	}
	if free == 0 {
		return 0, fault.Errorf(fault.BMCFull, "all %d user slots of the BMC are taken", len(us))
	}
	return free, nil
}

// enabled counts the users that may sign in, but for one.
func (us users) enabled(but uint8) int {
	n := 0
	for _, u := range us {
		if u.enabled && u.slot != but {
			n++
		}
	}
	return n
}
