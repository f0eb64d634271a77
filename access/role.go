package access

import "github.com/rackstage/provision/fleet"

// A Role is what a person may do.
type Role = fleet.AccountRole

// The roles, each with the rights of the one before.
const (
	Viewer   = fleet.Viewer
	Operator = fleet.Operator
	Admin    = fleet.Admin
)

// An Identity is who asks.
type Identity struct {
	User string
	Role Role
	Demo bool // the demonstration account: looks only, and never at production
}

// rank orders the roles; an unknown role is below all of them.
func rank(r Role) int {
	switch r {
	case Viewer:
		return 1
	case Operator:
		return 2
	case Admin:
		return 3
	default:
		return 0
	}
}

// May reports whether the identity has the rights of a role. The zero
// Identity has none.
func (id Identity) May(r Role) bool {
	if id.Demo && r != Viewer {
		return false
	}
	return rank(r) > 0 && rank(id.Role) >= rank(r)
}
