package fleet

import "time"

// An AccountRole is what a person may do. Each role may do what the ones
// before it may.
type AccountRole string

// The roles of people.
const (
	Viewer   AccountRole = "viewer"   // looks
	Operator AccountRole = "operator" // starts runs, switches power, approves
	Admin    AccountRole = "admin"    // changes the site and the accounts
)

// A User is a person's account.
type User struct {
	Name     string
	Role     AccountRole
	Password string // argon2id hash in PHC form, never the password
	Created  time.Time
}

// A LoginKind says what a login is used by.
type LoginKind string

// The kinds of logins.
const (
	LoginConsole LoginKind = "console" // a browser's cookie
	LoginToken   LoginKind = "token"   // a program's bearer token
)

// A Login is the right of whoever holds a token to act as a user, until it
// expires. Only the token's hash is kept.
type Login struct {
	Hash    [32]byte // SHA-256 of the token
	User    string
	Kind    LoginKind
	Created time.Time
	Expires time.Time
}
