package fleet

import (
	"net/netip"
	"time"
)

// A LeaseState says whether an address is in use.
type LeaseState string

// The states of a lease.
const (
	LeaseBound    LeaseState = "bound"
	LeaseReleased LeaseState = "released"
	LeaseDeclined LeaseState = "declined" // somebody else uses it; in quarantine until Expires
)

// A Lease binds an IPv4 address to a client (RFC 2131 §2.2). An address has
// one lease at most; so has a client on one subnet.
type Lease struct {
	Addr     netip.Addr
	Subnet   string // name of the subnet
	MAC      MAC
	ClientID string // hex of option 61; "" when the client sent none
	Hostname string
	State    LeaseState
	Expires  time.Time
}
