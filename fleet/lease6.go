package fleet

import (
	"cmp"
	"fmt"
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

// Client names who has the lease: by the MAC address of its card, or by its
// DUID when nothing told that.
func (l Lease6) Client() string {
	return cmp.Or(string(l.MAC), "the DUID "+l.DUID)
}

// A HeldError says that a lease was not stored, because another client holds
// the address.
type HeldError struct{ Stands, Refused Lease6 }

// Error names both clients.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s holds it until %s, and %s was refused it", e.Stands.Client(), e.Stands.Expires.Format(time.RFC3339), e.Refused.Client())
}
