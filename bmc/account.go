package bmc

import (
	"context"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// ChangePassword gives the user that the target signs in as another password,
// also where the BMC does nothing else before. Whoever relies on it signs in
// with it before: some BMCs say yes and keep what they had.
func (c *Controller) ChangePassword(ctx context.Context, t Target, next Password) error {
	return c.SetPassword(ctx, t, t.Username, next)
}

// SetPassword is [Controller.ChangePassword] for a user that may be another. One
// who is not there is [ErrNoUser], where the BMC shows us all that are.
func (c *Controller) SetPassword(ctx context.Context, t Target, user string, next Password) error {
	const op = "change BMC password of"
	if err := next.valid(); err != nil {
		return invalid(op, t, err)
	}
	t.next = next
	defer c.changed(t, user, next)
	return c.changeBMC(ctx, op, t, func(ctx context.Context) error {
		var err error
		switch {
		case t.Driver == fleet.DriverIPMI, t.Driver == fleet.DriverIPMITool, t.Driver == "":
			_, err = talkIPMI(ctx, c, t, administrator, func(ctx context.Context, ipmi *client.Client) (struct{}, error) {
				return struct{}{}, setPassword(ctx, ipmi, user, next)
			})
		case t.Driver.Web():
			_, err = talkAccounts(ctx, c, t, func(ctx context.Context, r *redfish) (struct{}, error) {
				return struct{}{}, r.setPassword(ctx, user, next)
			})
		default:
			err = fmt.Errorf("%w: change a password by driver %q", ErrUnsupported, t.Driver)
		}
		return err
	})
}

// MakeAccount makes an administrator of that name, or makes one of the user who
// has the name. Whoever relies on it signs in as that user before. A BMC where
// none can be made is [ErrUnsupported].
func (c *Controller) MakeAccount(ctx context.Context, t Target, user string, password Password) error {
	const op = "make account on BMC of"
	if err := password.valid(); err != nil {
		return invalid(op, t, err)
	}
	if user == "" || len(user) > maxUsername {
		return invalid(op, t, fmt.Errorf("a user name of %d bytes: want 1 to %d", len(user), maxUsername))
	}
	t.next = password
	defer c.changed(t, user, password)
	return c.changeBMC(ctx, op, t, func(ctx context.Context) error {
		if !t.Driver.Web() {
			return fmt.Errorf("%w: make an account by driver %q", ErrUnsupported, t.Driver)
		}
		_, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (struct{}, error) {
			return struct{}{}, r.makeAccount(ctx, user, password)
		})
		return err
	})
}

// changed has a password be tried that a user may have from now on, whatever was
// said to us.
func (c *Controller) changed(t Target, user string, next Password) {
	t.Username, t.Password = user, next
	c.gate(t).breaker.changed(t)
}

func (p Password) valid() error {
	if p == "" || len(p) > maxPassword {
		return fmt.Errorf("a password of %d bytes: want 1 to %d", len(p), maxPassword)
	}
	return nil
}

// mostUsers is how many users IPMI can have.
const mostUsers = 63

// setPassword changes the password of a user by IPMI, where users have numbers.
func setPassword(ctx context.Context, ipmi *client.Client, name string, next Password) error {
	const thisChannel = 0x0e
	most := uint8(1)
	for id := uint8(1); id <= most; id++ {
		if id == 1 {
			access, err := ipmi.GetUserAccess(ctx, thisChannel, id)
			if err != nil {
				return fmt.Errorf("read user table: %w", err)
			}
			most = min(access.MaxUsersIDCount, mostUsers)
		}
		user, err := ipmi.GetUsername(ctx, id)
		if _, refused := errors.AsType[*types.ResponseError](err); refused {
			continue // a slot that was never used
		}
		if err != nil {
			return fmt.Errorf("read user table: %w", err)
		}
		if user.Username != name {
			continue
		}
		_, err = ipmi.SetUserPassword(ctx, id, string(next), len(next) > 16)
		if code, refused := errors.AsType[*types.ResponseError](err); refused && code.CompletionCode() != codeNoPrivilege {
			return fmt.Errorf("%w (%v)", ErrShape, err)
		}
		if err != nil {
			return fmt.Errorf("set password: %w", err)
		}
		return nil
	}
	return fmt.Errorf("%w: its table of users has none of the name %q", ErrNoUser, name)
}
