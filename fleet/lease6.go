package fleet

import (
	"net/netip"
	"time"
)

// A Lease6 binds an IPv6 address to a client's association (RFC 8415 §12). An
// address has one lease at most; so has a pair of DUID and IAID on one subnet.
type Lease6 struct {
	Addr    netip.Addr
	Subnet  string // name of the subnet
	DUID    string // hex, as the client sends it: one machine has several
	IAID    uint32
	MAC     MAC  // "" when nothing told it
	Side    bool // of a firmware's own IP stack, beside its boot client's
	State   LeaseState
	Expires time.Time
}
