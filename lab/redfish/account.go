package redfish

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// An Account is one that was made by another protocol.
type Account struct {
	Username, Password string
	Operator           bool // not an administrator
}

// An account is one, or an empty slot for one.
type account struct {
	id, user, password, role string
	enabled                  bool
	expired                  bool // the password has to be changed before anything else
}

// A Policy is which passwords are taken.
type Policy struct {
	Min, Max int  // bytes: 8 to 20
	Special  bool // one character at least is neither letter nor digit
}

func (p Policy) takes(password string) bool {
	plain := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	return len(password) >= p.Min && len(password) <= p.Max && (!p.Special || strings.ContainsFunc(password, plain))
}

const (
	accounts = "/redfish/v1/AccountService/Accounts"
	roles    = "/redfish/v1/AccountService/Roles"
	slots    = 16

	shortestPassword = 8
	longestPassword  = 20
)

// prepareAccounts makes the account that everybody has at first. As with
// iDRAC, the first slot is nobody's.
func (s *Service) prepareAccounts() {
	first := &account{id: "2", user: s.o.Username, password: s.o.Password, role: "Administrator", enabled: true, expired: s.o.Expired}
	s.serial = 2
	if !s.o.Slots {
		s.accounts = []*account{first}
		return
	}
	for i := range slots {
		s.accounts = append(s.accounts, &account{id: strconv.Itoa(i + 1), role: "None"})
	}
	s.accounts[1] = first
	s.serial = slots
}

// verify checks name and password.
func (s *Service) verify(user, password string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learn()
	for _, a := range s.accounts {
		if user != "" && a.enabled && a.user == user && subtle.ConstantTimeCompare([]byte(a.password), []byte(password)) == 1 {
			return nil
		}
	}
	return refuse(http.StatusUnauthorized, "ResourceAtUriUnauthorized", "While accessing the resource, the service received an authorization error: wrong user name or password.")
}

// learn takes over what has changed elsewhere: with the lock held.
func (s *Service) learn() {
	if s.o.Elsewhere == nil {
		return
	}
	for _, other := range s.o.Elsewhere() {
		if s.foreign[other.Username] == other {
			continue
		}
		s.foreign[other.Username] = other
		i := slices.IndexFunc(s.accounts, func(a *account) bool { return a.user == other.Username })
		if i < 0 {
			i = slices.IndexFunc(s.accounts, func(a *account) bool { return a.user == "" && a.id != "1" })
		}
		if i < 0 {
			s.serial++
			s.accounts = append(s.accounts, &account{id: strconv.Itoa(s.serial)})
			i = len(s.accounts) - 1
		}
		a := s.accounts[i]
		a.user, a.password, a.enabled, a.role = other.Username, other.Password, true, "Administrator"
		if other.Operator {
			a.role = "Operator"
		}
	}
}

func (s *Service) accountResources() map[string]resource {
	collection := resource{get: s.listAccounts}
	one := resource{get: s.showAccount, patch: s.changeAccount}
	if !s.o.Slots {
		collection.post = s.makeAccount
		one.remove = s.removeAccount
	}
	return map[string]resource{
		"/redfish/v1/AccountService": {get: func(r *http.Request) (object, error) {
			return item("/redfish/v1/AccountService", "AccountService.v1_15_0.AccountService", "AccountService", "Account Service", object{
				"ServiceEnabled": true, "MinPasswordLength": s.o.Policy.Min, "MaxPasswordLength": s.o.Policy.Max,
				"Accounts": link(accounts), "Roles": link(roles), "Status": fine(),
			}), s.hasAccounts(r)
		}},
		accounts:                collection,
		accounts + "/{account}": one,
		roles: {get: func(*http.Request) (object, error) {
			return list(roles, "RoleCollection", "Roles", []string{roles + "/Administrator", roles + "/Operator", roles + "/ReadOnly"}), nil
		}},
		roles + "/{role}": {get: showRole},
	}
}

func showRole(r *http.Request) (object, error) {
	rights := map[string][]string{
		"Administrator": {"Login", "ConfigureManager", "ConfigureUsers", "ConfigureSelf", "ConfigureComponents"},
		"Operator":      {"Login", "ConfigureComponents", "ConfigureSelf"},
		"ReadOnly":      {"Login", "ConfigureSelf"},
	}
	id := r.PathValue("role")
	if rights[id] == nil {
		return nil, notFound(r.URL.Path)
	}
	return item(roles+"/"+id, "Role.v1_3_1.Role", id, id, object{"RoleId": id, "IsPredefined": true, "AssignedPrivileges": rights[id]}), nil
}

func (s *Service) hasAccounts(r *http.Request) error {
	if s.Faults().NoAccounts {
		return notFound(r.URL.Path)
	}
	return nil
}

func (s *Service) listAccounts(r *http.Request) (object, error) {
	if err := s.hasAccounts(r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learn()
	var paths []string
	for _, a := range s.accounts {
		paths = append(paths, accounts+"/"+a.id)
	}
	return list(accounts, "ManagerAccountCollection", "Accounts", paths), nil
}

func (s *Service) showAccount(r *http.Request) (object, error) {
	if err := s.hasAccounts(r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, _, err := s.account(r)
	if err != nil {
		return nil, err
	}
	return a.show(), nil
}

func (a *account) show() object {
	return item(accounts+"/"+a.id, "ManagerAccount.v1_12_0.ManagerAccount", a.id, "User Account", object{
		"UserName": a.user, "RoleId": a.role, "Enabled": a.enabled, "Locked": false, "Password": nil, "PasswordChangeRequired": a.expired,
		"AccountTypes": []string{"Redfish", "IPMI"}, "Links": object{"Role": link(roles + "/" + a.role)},
	})
}

// account finds the one that a request is about: with the lock held.
func (s *Service) account(r *http.Request) (*account, int, error) {
	i := slices.IndexFunc(s.accounts, func(a *account) bool { return a.id == r.PathValue("account") })
	if i < 0 {
		return nil, 0, notFound(r.URL.Path)
	}
	return s.accounts[i], i, nil
}

func (s *Service) makeAccount(w http.ResponseWriter, r *http.Request, in object) error {
	if err := s.hasAccounts(r); err != nil {
		return err
	}
	for _, name := range []string{"UserName", "Password", "RoleId"} {
		if text(in, name) == "" {
			return refuse(http.StatusBadRequest, "CreateFailedMissingReqProperties",
				"The create operation failed because the required property "+name+" was missing from the request.")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.accounts) >= slots || s.faults.NoNewAccounts {
		return refuse(http.StatusBadRequest, "CreateLimitReachedForResource", "The create operation failed because the resource has reached the limit of possible resources.")
	}
	s.serial++
	a := &account{id: strconv.Itoa(s.serial), enabled: true}
	if err := s.fill(a, in); err != nil {
		return err
	}
	s.accounts = append(s.accounts, a)
	w.Header().Set("Location", accounts+"/"+a.id)
	write(w, http.StatusCreated, a.show())
	return nil
}

func (s *Service) changeAccount(r *http.Request, in object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, _, err := s.account(r)
	if err != nil {
		return err
	}
	if s.o.Slots && a.user == "" && (a.id == "1" || s.faults.NoNewAccounts) {
		return refuse(http.StatusBadRequest, "PropertyNotWritable", "The property UserName is a read only property and cannot be assigned a value.", "UserName")
	}
	return s.fill(a, in)
}

// Expire has a user change the password before anything else, as BMCs do when it
// gets too old.
func (s *Service) Expire(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.named(user); a != nil {
		a.expired = true
	}
}

// owes refuses all but the change of the own password to who has to change it.
func (s *Service) owes(r *http.Request, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.named(user)
	if a == nil || !a.expired {
		return nil
	}
	own := r.URL.Path == accounts+"/"+a.id
	if own && (r.Method == http.MethodGet || r.Method == http.MethodPatch) || r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, sessions+"/") {
		return nil
	}
	return s.mustChange(a)
}

// mustChange says that an account's password has to be changed: with the lock
// held.
func (s *Service) mustChange(a *account) *refusal {
	e := &refusal{
		http.StatusForbidden, "PasswordChangeRequired",
		"The password provided for this account must be changed before access is granted.  PATCH the Password property for this account located at the target URI '" + accounts + "/" + a.id + "' to complete this process.",
		[]string{accounts + "/" + a.id},
	}
	if s.faults.QuietChange {
		e.message, e.args = "The password must be changed.", nil
	}
	return e
}

// named returns the account of that name, or nil: with the lock held.
func (s *Service) named(user string) *account {
	i := slices.IndexFunc(s.accounts, func(a *account) bool { return user != "" && a.user == user })
	if i < 0 {
		return nil
	}
	return s.accounts[i]
}

// fill sets what a client has given, all or nothing: with the lock held.
func (s *Service) fill(a *account, in object) error {
	next := *a
	for name, value := range in {
		var ok bool
		switch name {
		case "UserName":
			next.user, ok = value.(string)
		case "Password":
			var password string
			password, ok = value.(string)
			ok = ok && s.o.Policy.takes(password)
			if !s.faults.LyingPassword {
				next.password, next.expired = password, a.user == "" && s.faults.BornExpired
			}
		case "RoleId":
			next.role, ok = value.(string)
		case "Enabled":
			next.enabled, ok = value.(bool)
		case "PasswordChangeRequired":
			next.expired, ok = value.(bool)
		default:
			ok = true // more than we have, such as Locked
		}
		if !ok {
			return refuse(http.StatusBadRequest, "PropertyValueFormatError", "The value for the property "+name+" is not acceptable to the implementation.")
		}
	}
	taken := func(b *account) bool { return b != a && b.user != "" && b.user == next.user }
	if slices.ContainsFunc(s.accounts, taken) {
		return refuse(http.StatusBadRequest, "ResourceAlreadyExists", "The requested account already exists.")
	}
	*a = next
	return nil
}

func (s *Service) removeAccount(r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, i, err := s.account(r)
	if err != nil {
		return err
	}
	for id, it := range s.sessions {
		if it.user == a.user {
			delete(s.sessions, id)
		}
	}
	s.accounts = slices.Delete(s.accounts, i, i+1)
	return nil
}
