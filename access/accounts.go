package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Users keeps accounts.
type Users interface {
	User(ctx context.Context, name string) (fleet.User, error) // NotFound when there is none
	SaveUser(ctx context.Context, u fleet.User) error          // ends the user's logins
}

// Logins keeps who is signed in.
type Logins interface {
	Login(ctx context.Context, hash [32]byte) (fleet.Login, error) // NotFound when there is none
	SaveLogin(ctx context.Context, l fleet.Login) error
	DeleteLogin(ctx context.Context, hash [32]byte) error
}

// Store keeps accounts and logins.
type Store interface {
	Users
	Logins
}

// Options say how people sign in.
type Options struct {
	DemoLogin bool // demo/demo may look
}

// The demonstration account. It is in no database: without Options.DemoLogin
// it does not exist.
const (
	demoName     = "demo"
	demoPassword = "demo"
)

// LoginLife is how long a login lasts. It does not grow by being used: a
// stolen token is worth a working day at most.
const LoginLife = 12 * time.Hour

const (
	failuresPerMinute = 10
	limitedKeys       = 10_000          // accounts and addresses that failures are counted for
	hashesAtOnce      = 2               // 64 MiB each
	hashPatience      = 5 * time.Second // in the queue for one of them
	maxPassword       = 1024
)

// Accounts are the people that may sign in.
type Accounts struct {
	store  Store
	opt    Options
	hasher *hasher
	limit  *limiter
}

// NewAccounts returns the accounts that are in a store.
func NewAccounts(store Store, opt Options) *Accounts {
	return &Accounts{
		store: store, opt: opt,
		hasher: newHasher(hashesAtOnce, defaultCost),
		limit:  newLimiter(failuresPerMinute, limitedKeys),
	}
}

// SetPassword creates an account, or gives an existing one another password
// and role. It ends that account's logins.
func (a *Accounts) SetPassword(ctx context.Context, user, password string, role Role) error {
	const op = "set password"
	switch {
	case !fleet.ValidName(user):
		return &fleet.Error{Kind: fleet.Invalid, Op: op, Hint: "use lower-case letters, digits and dashes", Err: fmt.Errorf("%.80q is not a user name", user)}
	case user == demoName:
		return &fleet.Error{Kind: fleet.Invalid, Op: op, Hint: "choose another name", Err: errors.New("demo is the demonstration account")}
	case rank(role) == 0:
		return &fleet.Error{Kind: fleet.Invalid, Op: op, Hint: "use viewer, operator or admin", Err: fmt.Errorf("%.80q is not a role", role)}
	case len(password) < 8 || len(password) > maxPassword:
		return &fleet.Error{Kind: fleet.Invalid, Op: op, Hint: "use 8 characters at least", Err: fmt.Errorf("a password of %d bytes", len(password))}
	}
	phc, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	created := time.Now()
	if old, err := a.store.User(ctx, user); err == nil {
		created = old.Created
	}
	return a.store.SaveUser(ctx, fleet.User{Name: user, Role: role, Password: phc, Created: created})
}

// SignIn returns a new token for whoever knows the password, and when it
// expires. Whether it was the name or the password that was wrong is not
// said, and cannot be told from the time it took.
func (a *Accounts) SignIn(ctx context.Context, user, password string, from netip.Addr) (token string, expires time.Time, err error) {
	now := time.Now()
	undo, wait := a.limit.begin(now, "user "+accountKey(user), addrKey(from))
	if wait > 0 {
		return "", time.Time{}, &fleet.Error{
			Kind: fleet.Denied, Code: "E-LOGIN-LIMIT", Op: "sign in",
			Hint: fmt.Sprintf("wait %d seconds", int(wait.Seconds())+1), Err: errors.New("too many failed attempts"),
		}
	}
	err = a.checkPassword(ctx, user, password)
	if err == nil && user == demoName && !from.Unmap().IsLoopback() {
		// Everybody knows the demonstration password: it is for people at
		// this machine.
		err = &fleet.Error{
			Kind: fleet.Denied, Code: "E-LOGIN-DEMO", Op: "sign in", Err: errors.New("demo signs in on this machine only"),
			Hint: "open the console on 127.0.0.1, or make an account: provision users add NAME",
		}
	}
	if err != nil {
		if fleet.KindOf(err) != fleet.Denied {
			undo() // our own trouble is not their failure
		}
		return "", time.Time{}, err
	}
	undo()
	token, hash := fleet.NewSecret()
	login := fleet.Login{Hash: hash, User: user, Kind: fleet.LoginConsole, Created: now, Expires: now.Add(LoginLife)}
	if err := a.store.SaveLogin(ctx, login); err != nil {
		return "", time.Time{}, err
	}
	return token, login.Expires, nil
}

// accountKey bounds what a name costs to be counted.
func accountKey(user string) string {
	if !fleet.ValidName(user) {
		return "?" // no such account can exist: count them together
	}
	return user
}

func (a *Accounts) checkPassword(ctx context.Context, user, password string) error {
	ctx, cancel := context.WithTimeout(ctx, hashPatience)
	defer cancel()
	if user == demoName && a.opt.DemoLogin && password == demoPassword {
		return nil // it is no secret: nothing to hash, nothing to time
	}
	known, err := a.account(ctx, user)
	phc := known.Password
	switch {
	case fleet.KindOf(err) == fleet.NotFound || user == demoName || len(password) > maxPassword:
		known, phc = fleet.User{}, a.hasher.nobody() // takes as long as a wrong password
	case err != nil:
		return err
	}
	ok, err := a.hasher.verify(ctx, phc, password[:min(len(password), maxPassword)])
	if err != nil {
		return err
	}
	if !ok || known.Name == "" {
		return &fleet.Error{Kind: fleet.Denied, Code: "E-LOGIN", Op: "sign in", Err: errors.New("wrong user name or password")}
	}
	return nil
}

func (a *Accounts) account(ctx context.Context, user string) (fleet.User, error) {
	if user == demoName && a.opt.DemoLogin {
		return fleet.User{Name: demoName, Role: Viewer}, nil
	}
	if user == demoName || !fleet.ValidName(user) {
		return fleet.User{}, &fleet.Error{Kind: fleet.NotFound, Op: "find account", Err: errors.New("there is none")}
	}
	return a.store.User(ctx, user)
}

// Identify returns who holds a token. The error is Denied when nobody does,
// or does no longer.
func (a *Accounts) Identify(ctx context.Context, token string) (Identity, error) {
	denied := &fleet.Error{Kind: fleet.Denied, Code: "E-LOGIN", Op: "identify", Hint: "sign in again", Err: errors.New("not signed in")}
	if token == "" || len(token) > maxPassword || strings.ContainsAny(token, "\r\n\x00") {
		return Identity{}, denied
	}
	login, err := a.store.Login(ctx, fleet.HashSecret(token))
	if fleet.KindOf(err) == fleet.NotFound {
		return Identity{}, denied
	}
	if err != nil {
		return Identity{}, err
	}
	if !time.Now().Before(login.Expires) {
		return Identity{}, denied
	}
	user, err := a.account(ctx, login.User) // anew each time: its role may have changed
	if fleet.KindOf(err) == fleet.NotFound {
		return Identity{}, denied
	}
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: user.Name, Role: user.Role, Demo: user.Name == demoName}, nil
}

// SignOut ends the login of a token. There need not be one.
func (a *Accounts) SignOut(ctx context.Context, token string) error {
	return a.store.DeleteLogin(ctx, fleet.HashSecret(token))
}
