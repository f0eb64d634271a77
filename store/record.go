package store

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// Codes of lease states in the journal and in the table. They never change.
var leaseStates = map[fleet.LeaseState]byte{fleet.LeaseBound: 1, fleet.LeaseReleased: 2, fleet.LeaseDeclined: 3}

func leaseState(code byte) (fleet.LeaseState, bool) {
	for state, c := range leaseStates {
		if c == code {
			return state, true
		}
	}
	return "", false
}

var errRecord = errors.New("a lease that makes no sense")

// checkLease refuses what cannot be kept.
func checkLease(l *fleet.Lease) error {
	_, ok := macBytes(l.MAC)
	switch {
	case !l.Addr.Is4():
		return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("not an IPv4 address"))
	case !ok:
		return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("its client has no hardware address"))
	case leaseStates[l.State] == 0:
		return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("no such state"))
	case len(l.Subnet) > 255 || len(l.Hostname) > 255 || len(l.ClientID) > 1024:
		return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("a name in it is too long"))
	}
	return nil
}

// appendLease writes a lease as the journal keeps it: address, MAC, state and
// expiry, then the names with their lengths.
func appendLease(b []byte, l *fleet.Lease) []byte {
	addr := l.Addr.As4()
	mac, _ := macBytes(l.MAC)
	b = append(b, addr[:]...)
	b = append(b, mac[:]...)
	b = append(b, leaseStates[l.State])
	b = binary.LittleEndian.AppendUint64(b, uint64(toNano(l.Expires))) //nolint:gosec // read back the same way
	for _, s := range []string{l.Subnet, l.Hostname, l.ClientID} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// cutLease reads a lease off what [appendLease] wrote. names keeps the subnets'
// names: all leases of one share theirs.
func cutLease(b []byte, names map[string]string) (l fleet.Lease, rest []byte, err error) {
	const fixed = 4 + 6 + 1 + 8
	if len(b) < fixed {
		return l, nil, errRecord
	}
	l.Addr = netip.AddrFrom4([4]byte(b))
	l.MAC = fleet.MAC(net.HardwareAddr(b[4:10]).String())
	var ok bool
	if l.State, ok = leaseState(b[10]); !ok {
		return l, nil, errRecord
	}
	l.Expires = fromNano(int64(binary.LittleEndian.Uint64(b[11:]))) //nolint:gosec // written the same way
	b = b[fixed:]
	for i, into := range []*string{&l.Subnet, &l.Hostname, &l.ClientID} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return l, nil, errRecord
		}
		text := b[size : size+int(n)] //nolint:gosec // not longer than b
		if i == 0 {
			*into = shared(text, names)
		} else {
			*into = string(text)
		}
		b = b[size+int(n):] //nolint:gosec // the same
	}
	return l, b, nil
}

// shared returns the one copy of a name.
func shared(text []byte, names map[string]string) string {
	name, ok := names[string(text)]
	if !ok {
		name = string(text)
		names[name] = name
	}
	return name
}

// macBytes reads an address in the one form that [fleet.MAC] has.
func macBytes(m fleet.MAC) (b [6]byte, ok bool) {
	if len(m) != 17 {
		return b, false
	}
	for i := range b {
		high, low := nibble(m[3*i]), nibble(m[3*i+1])
		if high > 15 || low > 15 || i < 5 && m[3*i+2] != ':' {
			return b, false
		}
		b[i] = high<<4 | low
	}
	return b, true
}

// nibble reads a hex digit; what is none is more than 15.
func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return 16
	}
}
