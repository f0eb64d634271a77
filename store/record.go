package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"

	"github.com/rackstage/provision/fleet"
)

// Codes of lease states in the journal and in the table. They never change.
const (
	codeBound    = 1
	codeReleased = 2
	codeDeclined = 3
)

// stateCode returns the code of a state; 0 when there is no such state.
func stateCode(s fleet.LeaseState) byte {
	switch s {
	case fleet.LeaseBound:
		return codeBound
	case fleet.LeaseReleased:
		return codeReleased
	case fleet.LeaseDeclined:
		return codeDeclined
	default:
		return 0
	}
}

// stateOf returns the state of a code; "" when there is no such code.
func stateOf(code byte) fleet.LeaseState {
	switch code {
	case codeBound:
		return fleet.LeaseBound
	case codeReleased:
		return fleet.LeaseReleased
	case codeDeclined:
		return fleet.LeaseDeclined
	default:
		return ""
	}
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
	case stateCode(l.State) == 0:
		return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("no such state"))
	case len(l.Subnet) > 255 || len(l.Hostname) > 255 || len(l.ClientID) > 1024:
		return fleet.Invalidf("lease "+l.Addr.String(), "", errors.New("a name in it is too long"))
	}
	return nil
}

// A record is a lease as the journal and the table keep it. The names are parts
// of what it was read from, and good for as long as that is.
type record struct {
	addr    uint32
	state   byte // 0: there is none any more
	mac     uint64
	expires int64 // Unix time in nanoseconds

	subnet, hostname, clientID []byte
}

func recordOf(l *fleet.Lease) record {
	b, _ := macBytes(l.MAC)
	return record{
		addr: number(l.Addr), state: stateCode(l.State), mac: macNumber(b), expires: toNano(l.Expires),
		subnet: []byte(l.Subnet), hostname: []byte(l.Hostname), clientID: []byte(l.ClientID),
	}
}

// lease writes it in full. names keeps the subnets' names: all leases of one
// share theirs.
func (r *record) lease(names map[string]string) fleet.Lease {
	return fleet.Lease{
		Addr: addrOf(r.addr), Subnet: shared(r.subnet, names), MAC: macOf(r.mac), State: stateOf(r.state),
		Expires: fromNano(r.expires), Hostname: string(r.hostname), ClientID: string(r.clientID),
	}
}

// sum is what the table keeps to notice that a row is not what it was; b is
// room to work in.
func (r *record) sum(b []byte) (uint32, []byte) {
	b = b[:0]
	for _, n := range [4]uint64{uint64(r.addr), r.mac, uint64(r.state), uint64(r.expires)} { //nolint:gosec // the bits
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, s := range [3][]byte{r.subnet, r.hostname, r.clientID} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return crc32.Checksum(b, castagnoli), b
}

// holdsAgainst reports whether the lease of another client may not take this
// one's place.
func (r *record) holdsAgainst(other *record, now int64) bool {
	return r.state == codeBound && r.mac != other.mac && r.expires > now
}

// appendLease writes a lease as the journal keeps it: address, MAC, state and
// expiry, then the names with their lengths.
func appendLease(b []byte, l *fleet.Lease) []byte {
	addr := l.Addr.As4()
	mac, _ := macBytes(l.MAC)
	b = append(b, addr[:]...)
	b = append(b, mac[:]...)
	b = append(b, stateCode(l.State))
	b = binary.LittleEndian.AppendUint64(b, uint64(toNano(l.Expires))) //nolint:gosec // read back the same way
	for _, s := range []string{l.Subnet, l.Hostname, l.ClientID} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// cutRecord reads a lease off what [appendLease] wrote.
func cutRecord(b []byte) (r record, rest []byte, err error) {
	const fixed = 4 + 6 + 1 + 8
	if len(b) < fixed {
		return r, nil, errRecord
	}
	r.addr, r.mac = binary.BigEndian.Uint32(b), macNumber([6]byte(b[4:]))
	if r.state = b[10]; stateOf(r.state) == "" {
		return r, nil, errRecord
	}
	r.expires = int64(binary.LittleEndian.Uint64(b[11:])) //nolint:gosec // written the same way
	b = b[fixed:]
	for _, into := range [3]*[]byte{&r.subnet, &r.hostname, &r.clientID} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return r, nil, errRecord
		}
		*into = b[size : size+int(n)] //nolint:gosec // not longer than b
		b = b[size+int(n):]           //nolint:gosec // the same
	}
	return r, b, nil
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

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addrOf(n uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

func macNumber(b [6]byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b[:]))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

// macOf writes an address in the one form that [fleet.MAC] has.
func macOf(n uint64) fleet.MAC {
	const digits = "0123456789abcdef"
	var b [17]byte
	for i := 0; ; i += 3 {
		v := byte(n >> (40 - 8*(i/3)))
		b[i], b[i+1] = digits[v>>4], digits[v&15]
		if i == 15 {
			return fleet.MAC(b[:])
		}
		b[i+2] = ':'
	}
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
