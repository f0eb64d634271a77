package bmc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// makeAccount makes an administrator: of the user who has the name, else by
// adding one to the list, else in a slot that is empty.
func (r *redfish) makeAccount(ctx context.Context, user string, password Password) error {
	s, err := r.accountService(ctx)
	if err != nil {
		return err
	}
	if err := s.takes(password); err != nil {
		return err
	}
	all, _, err := r.accounts(ctx, s.Accounts.Path)
	if err != nil {
		return err
	}
	wanted := map[string]any{"UserName": user, "Password": string(password), "RoleId": roleAdministrator, "Enabled": true}
	path := ""
	if i := slices.IndexFunc(all, func(a account) bool { return string(a.UserName) == user }); i >= 0 {
		delete(wanted, "UserName")
		if all[i].Locked {
			wanted["Locked"] = false
		}
		path, err = all[i].Path, withoutValue("change an account", r.patchAccount(ctx, all[i].Path, wanted))
	} else {
		path, err = r.addAccount(ctx, s.Accounts.Path, all, wanted)
	}
	if err != nil {
		return err
	}
	return r.checkAccount(ctx, s.Accounts.Path, path, user)
}

// addAccount makes an account that is not there.
func (r *redfish) addAccount(ctx context.Context, list string, all []account, wanted map[string]any) (path string, err error) {
	path, err = r.post(ctx, list, wanted)
	switch e, _ := errors.AsType[*statusError](err); {
	case err == nil:
		return path, nil
	case e == nil, errors.Is(err, ErrDenied), errors.Is(err, ErrLogin), errors.Is(err, ErrMustChange):
		return "", withoutValue("make an account", err)
	case errors.Is(err, ErrUnsupported), e.full():
	default:
		return "", withoutValue("make an account", err)
	}
	return r.fillSlot(ctx, all, wanted)
}

// full reports whether a service makes no account because it has no place for
// it, and not because of what it was asked for.
func (e *statusError) full() bool {
	return strings.Contains(e.ids, "CreateLimitReached") || strings.Contains(e.ids, "ResourceExhaustion") || strings.Contains(e.ids, "ActionNotSupported") ||
		strings.Contains(e.ids, "OperationNotAllowed")
}

// mostSlots is how many empty slots are tried.
const mostSlots = 2

// fillSlot makes an account in a slot that nobody uses. The first slot of all
// is tried last: it is nobody's for ever with some, as IPMI's user 1 is.
func (r *redfish) fillSlot(ctx context.Context, all []account, wanted map[string]any) (path string, err error) {
	if len(all) > 0 {
		all = append(slices.Clone(all[1:]), all[0])
	}
	empty := slices.DeleteFunc(all, func(a account) bool { return a.UserName != "" })
	if len(empty) == 0 {
		return "", fmt.Errorf("%w: it makes no accounts, and has no slot for one", ErrUnsupported)
	}
	for _, a := range empty[:min(len(empty), mostSlots)] {
		err = r.patchAccount(ctx, a.Path, wanted)
		if err == nil {
			return a.Path, nil
		}
		e, ok := errors.AsType[*statusError](err)
		if !ok {
			return "", err
		}
		if strings.Contains(e.ids, "NotWritable") || strings.Contains(e.ids, "PropertyUnknown") {
			err = fmt.Errorf("%w: it fills no slot (%d)", ErrUnsupported, http.StatusBadRequest)
		}
	}
	return "", withoutValue("fill a slot", err)
}

// checkAccount reads back what was made: some services leave out what they do
// not like. A password that its user would have to change first is declared to
// be the final one; where that is not taken, signing in will show it.
func (r *redfish) checkAccount(ctx context.Context, list, path, user string) error {
	if path == "" { // it does not say where it has put it
		var err error
		if path, err = r.account(ctx, list, user); err != nil {
			return err
		}
	}
	a, err := r.readAccount(ctx, path)
	switch {
	case errors.Is(err, ErrDenied), errors.Is(err, ErrUnsupported):
		return nil // signing in will show it
	case err != nil:
		return err
	case string(a.UserName) != user:
		return fmt.Errorf("%w: the account is named %q", ErrNoEffect, string(a.UserName))
	case a.RoleID != "" && a.RoleID != roleAdministrator:
		return fmt.Errorf("%w: the account has the role %s", ErrNoEffect, a.RoleID)
	case a.Enabled != nil && !*a.Enabled:
		return fmt.Errorf("%w: the account is disabled", ErrNoEffect)
	}
	if a.Expired {
		_ = r.patchAccount(ctx, path, map[string]any{"PasswordChangeRequired": false})
	}
	return nil
}
