package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// An account is a user of a Redfish service, or an empty slot for one.
type account struct {
	Path     string `json:"-"`
	ID       text   `json:"Id"`
	UserName text
	RoleID   text  `json:"RoleId"`
	Enabled  *bool // nil: it does not say
	Locked   bool
	Expired  bool `json:"PasswordChangeRequired"`
	ETag     text `json:"@odata.etag"`
}

// administrator is the role that the schema has for those who may do all.
const roleAdministrator = "Administrator"

// accountService is what a service says about all of its accounts.
type accountService struct {
	Min      number `json:"MinPasswordLength"`
	Max      number `json:"MaxPasswordLength"`
	Accounts link
}

// talkAccounts is talkRedfish for who may have to change the password before
// anything else. Some services give no session until then, and take the change
// with the login in the same request.
func talkAccounts[T any](ctx context.Context, c *Controller, t Target, f func(context.Context, *redfish) (T, error)) (T, error) {
	return guard(ctx, c, t, func(ctx context.Context) (none T, err error) {
		if t.Pin == "" {
			return none, ErrNotProbed
		}
		r, err := c.newRedfish(t)
		if err != nil {
			return none, err
		}
		defer r.hangUp(ctx)
		if !r.target.BasicAuth {
			err = r.login(ctx)
		}
		if errors.Is(err, ErrMustChange) {
			r.target.BasicAuth, err = true, nil
		}
		if err != nil {
			return none, reason(ctx, err)
		}
		value, err := f(ctx, r)
		if err != nil {
			return none, early(ctx, reason(ctx, err))
		}
		return value, nil
	})
}

// accountService finds the accounts. Those who have to change their password
// may not, so that what it does not say is where all services have it.
func (r *redfish) accountService(ctx context.Context) (accountService, error) {
	s := accountService{Accounts: link{rootPath + "AccountService/Accounts"}}
	var root struct{ AccountService link }
	if err := r.get(ctx, rootPath, &root); err != nil {
		return s, err
	}
	var said accountService
	err := r.get(ctx, cmp.Or(localPath(root.AccountService.Path), rootPath+"AccountService"), &said)
	if errors.Is(err, ErrUnsupported) || errors.Is(err, ErrDenied) || errors.Is(err, ErrMustChange) || errors.Is(err, ErrRejected) {
		return s, nil // its accounts may be there all the same
	}
	said.Accounts.Path = cmp.Or(localPath(said.Accounts.Path), s.Accounts.Path)
	return said, err
}

// takes tells what need not be tried.
func (s accountService) takes(p Password) error {
	if n := number(len(p)); n < s.Min || s.Max > 0 && n > s.Max {
		return fmt.Errorf("%w: it takes %g to %g bytes", ErrShape, s.Min, s.Max)
	}
	return nil
}

// setPassword changes the password of a user, who may be the one that is signed
// in.
func (r *redfish) setPassword(ctx context.Context, user string, next Password) error {
	s, err := r.accountService(ctx)
	if err != nil {
		return err
	}
	if err := s.takes(next); err != nil {
		return err
	}
	path, err := r.account(ctx, s.Accounts.Path, user)
	if err != nil {
		return err
	}
	return withoutValue("change the password", r.patchAccount(ctx, path, map[string]any{"Password": string(next)}))
}

// withoutValue takes away what a service says of a request: some repeat the
// value that they did not like.
func withoutValue(what string, err error) error {
	e, ok := errors.AsType[*statusError](err)
	if !ok {
		return err
	}
	switch e.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w (%d)", ErrShape, e.status)
	}
	return fmt.Errorf("%w: %s (%d)", e.name(), what, e.status)
}

// account returns the path of the account with this user name, freshly read.
func (r *redfish) account(ctx context.Context, list, user string) (string, error) {
	if path := r.owing; path != "" && user == r.target.Username {
		if a, _ := r.readAccount(ctx, path); a.UserName == "" || string(a.UserName) == user { // some do not even show it
			return path, nil
		}
	}
	all, hidden, err := r.accounts(ctx, list)
	if errors.Is(err, ErrMustChange) && user == r.target.Username {
		return r.ownAccount(ctx, list, err)
	}
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(all, func(a account) bool { return string(a.UserName) == user }); i >= 0 {
		return all[i].Path, nil
	}
	missing := ErrNoUser
	if hidden {
		missing = ErrUnsupported
	}
	return "", fmt.Errorf("%w: its list of accounts has none of the name %q", missing, user)
}

// ownAccount finds our own account where its list is not shown to us. Nobody
// else's is shown either.
func (r *redfish) ownAccount(ctx context.Context, list string, refused error) (string, error) {
	if r.owing != "" {
		return r.owing, nil
	}
	for _, id := range []string{r.target.Username, "1", "2", "3", "4"} { // as services number them
		path := strings.TrimSuffix(list, "/") + "/" + url.PathEscape(id)
		if a, err := r.readAccount(ctx, path); err == nil && string(a.UserName) == r.target.Username {
			return path, nil
		}
	}
	return "", refused
}

// accounts reads those that are shown to us, empty slots too. It reports whether
// others are hidden.
func (r *redfish) accounts(ctx context.Context, list string) (all []account, hidden bool, err error) {
	paths, err := r.members(ctx, list)
	if err != nil {
		return nil, false, err
	}
	for _, path := range paths {
		a, err := r.readAccount(ctx, path)
		if errors.Is(err, ErrDenied) || errors.Is(err, ErrMustChange) {
			hidden = true // somebody else's; all but our own
			continue
		}
		if errors.Is(err, ErrUnsupported) {
			continue // a slot without anything
		}
		if err != nil {
			return nil, false, err
		}
		all = append(all, a)
	}
	return all, hidden, nil
}

func (r *redfish) readAccount(ctx context.Context, path string) (account, error) {
	a := account{}
	err := r.get(ctx, path, &a)
	a.Path = path
	if err == nil && r.etags[path] == "" && a.ETag != "" { // some say it here only
		r.etags[path] = string(a.ETag)
	}
	return a, err
}

// patchAccount changes an account that was read before. Services differ in what
// changes an ETag: when it is another one by now it is read anew, once. Where
// there is none and one is demanded, any will do.
func (r *redfish) patchAccount(ctx context.Context, path string, change map[string]any) error {
	err := r.patch(ctx, path, change)
	e, ok := errors.AsType[*statusError](err)
	if !ok || e.status != http.StatusPreconditionFailed && e.status != http.StatusPreconditionRequired {
		return err
	}
	delete(r.etags, path)
	_, _ = r.readAccount(ctx, path) // a service that does not show it is asked without
	r.etags[path] = cmp.Or(r.etags[path], "*")
	return r.patch(ctx, path, change)
}
