package dhcp6

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// An arrival is what the socket says about a packet.
type arrival struct {
	ifindex int
	from    netip.AddrPort
	to      netip.Addr // its destination: ours, or a multicast address
}

// A query is a client's message, understood.
type query struct {
	arrival
	msg    *dhcpv6.Message
	relay  *dhcpv6.RelayMessage // the outermost; nil when it came straight
	hops   []hop                // what relays on the way say, the outermost first
	duid   duid
	server []byte    // DUID of the server that it means; nil for any
	mac    fleet.MAC // "" when nothing tells it
	ias    []ia
	pds    []uint32 // associations that it wants prefixes for
	wants  dhcpv6.OptionCodes
	boot   pxe.Request
	place  fleet.Place
	taken  []fleet.Lease6 // for the answer: the book holds their places until they are stored, or not
}

// An ia is an identity association: what an address is given to.
type ia struct {
	id    uint32
	addrs []netip.Addr // that the client names
	side  bool         // of a firmware's own IP stack
}

const (
	maxHops = 8 // HOP_COUNT_LIMIT (RFC 8415 §7.6)
	maxIAs  = 8 // a client has one, firmware two in turn

	intelEnterprise = 343 // whose PXE classes UEFI speaks of (UEFI 2.10 §24.3.1)
)

var (
	errNotRequest = errors.New("not a client's request")
	errHops       = errors.New("too many relays")
	errNoMessage  = errors.New("a relay's message without a client's in it")
	errNoClient   = errors.New("no client identifier that could be one")
	errServerID   = errors.New("a server identifier where none may be, or none where one must be")
	errUnicast    = errors.New("sent to one server, but meant for all")
	errTooMany    = errors.New("too many identity associations")
)

// parseQuery reads a packet. Whatever it holds was written by a stranger.
func parseQuery(b []byte, a arrival) (query, error) {
	d, err := dhcpv6.FromBytes(b)
	if err != nil {
		return query{}, err
	}
	q := query{arrival: a}
	for d.IsRelay() {
		r, ok := d.(*dhcpv6.RelayMessage)
		if !ok || r.MessageType != dhcpv6.MessageTypeRelayForward {
			return query{}, errNotRequest
		}
		if len(q.hops) == maxHops {
			return query{}, errHops
		}
		if q.relay == nil {
			q.relay = r
		}
		q.hops = append(q.hops, readHop(r))
		if d = r.Options.RelayMessage(); d == nil {
			return query{}, errNoMessage
		}
	}
	msg, ok := d.(*dhcpv6.Message)
	if !ok {
		return query{}, errNotRequest
	}
	q.msg = msg
	if err := q.readMessage(); err != nil {
		return query{}, err
	}
	if q.relay == nil {
		q.nameMAC(a.from.Addr())
	}
	return q, nil
}

// nameMAC finds the MAC address of a client whose relay has not told it: from
// its own address, or from its DUID.
func (q *query) nameMAC(peer netip.Addr) {
	if q.mac == "" {
		q.mac = macOfLinkLocal(peer)
	}
	if q.mac == "" && len(q.duid) > 0 {
		q.mac = q.duid.mac()
	}
	q.boot.MAC = q.mac
}

func (q *query) readMessage() error {
	o := q.msg.Options
	if id := o.ClientID(); id != nil {
		q.duid = id.ToBytes()
	}
	if id := o.ServerID(); id != nil {
		q.server = id.ToBytes()
	}
	if err := q.check(); err != nil {
		return err
	}
	q.wants = o.RequestedOptions()
	class := ""
	for _, data := range o.VendorClass(intelEnterprise) {
		class = string(data)
	}
	q.boot.Firmware = pxe.FirmwareOf(class, nil)
	for _, user := range o.UserClasses() {
		if pxe.IsIPXE(user) {
			q.boot.Firmware = pxe.IPXE
		}
	}
	if archs := o.ArchTypes(); len(archs) > 0 {
		q.boot.Arch = pxe.Arch(archs[0])
	}
	if len(q.duid) > 0 {
		q.boot.UUID = q.duid.uuid(q.boot.Firmware == pxe.IPXE)
	}
	return q.readIAs()
}

// check holds a message against RFC 8415 §16: which kinds are a client's, and
// what has to be in each.
func (q *query) check() error {
	named, multicast := q.server != nil, q.to.IsMulticast() || q.relay != nil
	switch q.msg.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		if named {
			return errServerID
		}
		if !multicast {
			return errUnicast
		}
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		if !named {
			return errServerID
		}
	case dhcpv6.MessageTypeInformationRequest:
		if !multicast {
			return errUnicast
		}
		if q.duid == nil {
			return nil // the one that may be without
		}
	default:
		return errNotRequest
	}
	if len(q.duid) < minDUID || len(q.duid) > maxDUID {
		return errNoClient
	}
	return nil
}

func (q *query) readIAs() error {
	all := q.msg.Options.IANA()
	if len(all) > maxIAs {
		return errTooMany
	}
	for _, o := range all {
		a := ia{id: binary.BigEndian.Uint32(o.IaId[:])}
		for _, addr := range o.Options.Addresses() {
			if v := addrOf(addr.IPv6Addr); v.IsValid() && len(a.addrs) < maxIAs {
				a.addrs = append(a.addrs, v)
			}
		}
		q.ias = append(q.ias, a)
	}
	q.markSide(all)
	prefixes := q.msg.Options.IAPD()
	if len(prefixes) > maxIAs {
		return errTooMany
	}
	for _, o := range prefixes {
		q.pds = append(q.pds, binary.BigEndian.Uint32(o.IaId[:]))
	}
	return nil
}

// markSide recognises the IP stack of UEFI, which asks for an address of its
// own before the boot client does, and gives it back when that has one. It
// alone asks for a lease without end, by a DUID-UUID, and for no boot file.
// Were it given the machine's address, the boot would have to use another.
func (q *query) markSide(all []*dhcpv6.OptIANA) {
	const endless = 1<<32 - 1
	uefi := q.boot.Firmware == pxe.NoBoot && q.duid.kind() == duidUUID && len(q.wants) == 1 && q.wants.Contains(dhcpv6.OptionDNSRecursiveNameServer)
	for i, o := range all {
		q.ias[i].side = uefi && o.T1.Seconds() == endless && o.T2.Seconds() == endless
	}
}

func addrOf(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || !a.Is6() || a.Is4In6() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
