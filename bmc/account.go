package bmc

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// ChangePassword gives the user that the target signs in as another password.
// Whoever relies on it signs in with it before: some BMCs say yes and keep what
// they had.
func (c *Controller) ChangePassword(ctx context.Context, t Target, next Password) error {
	const op = "change BMC password of"
	if next == "" || len(next) > maxPassword {
		return invalid(op, t, fmt.Errorf("a password of %d bytes: want 1 to %d", len(next), maxPassword))
	}
	return c.change(ctx, op, t, func(ctx context.Context) error {
		var err error
		switch {
		case t.Driver == fleet.DriverIPMI, t.Driver == fleet.DriverIPMITool, t.Driver == "":
			_, err = talkIPMI(ctx, c, t, administrator, func(ctx context.Context, ipmi *client.Client) (struct{}, error) {
				return struct{}{}, setPassword(ctx, ipmi, t.Username, next)
			})
		case t.Driver.Web():
			_, err = talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (struct{}, error) {
				return struct{}{}, r.setPassword(ctx, next)
			})
		default:
			err = fmt.Errorf("%w: change a password by driver %q", ErrUnsupported, t.Driver)
		}
		return err
	})
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
	return fmt.Errorf("%w: its table of users has none of the name %q", ErrUnsupported, name)
}

// An account is a user of a Redfish service.
type account struct {
	Path     string `json:"@odata.id"`
	UserName string
}

// setPassword changes the password of the user that is signed in.
func (r *redfish) setPassword(ctx context.Context, next Password) error {
	a, err := r.account(ctx, r.target.Username)
	if err != nil {
		return err
	}
	err = r.patch(ctx, a, map[string]string{"Password": string(next)})
	// What the service says of a value has the value in it, with some.
	if e, ok := errors.AsType[*statusError](err); ok {
		switch e.status {
		case http.StatusBadRequest, http.StatusUnprocessableEntity:
			return fmt.Errorf("%w (%d)", ErrShape, e.status)
		}
		return fmt.Errorf("%w: change the password (%d)", e.name(), e.status)
	}
	return err
}

// account returns the path of the account with this user name, freshly read.
func (r *redfish) account(ctx context.Context, name string) (string, error) {
	paths, err := r.members(ctx, rootPath+"AccountService/Accounts")
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		var a account
		if err := r.get(ctx, path, &a); errors.Is(err, ErrDenied) || errors.Is(err, ErrUnsupported) {
			continue // somebody else's, or an empty slot
		} else if err != nil {
			return "", err
		}
		if a.UserName == name {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: its list of accounts has none of the name %q", ErrUnsupported, name)
}
