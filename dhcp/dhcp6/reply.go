package dhcp6

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A reply is a packet on its way out. With leases in it, it waits until those
// are on disk.
type reply struct {
	packet  []byte
	to      netip.AddrPort
	ifindex int
	from    netip.Addr // ours; invalid for any
	leases  []fleet.Lease6

	// For a renewal: what is on disk, and what to say when the new lease
	// cannot be put there.
	before    []fleet.Lease6
	meanwhile func(left time.Duration) (reply, bool)
}

// maxReply is the longest message that goes without fragments, which firmware
// does not put together: 1280 less the headers of IPv6 and UDP.
const maxReply = 1280 - 48

// build makes an answer: who we are, who the client is, the associations, and
// what the client asked to know.
func (s *Server) build(sc scene, kind dhcpv6.MessageType, ias []dhcpv6.Option, more ...dhcpv6.Option) (reply, bool) {
	msg := &dhcpv6.Message{MessageType: kind, TransactionID: sc.msg.TransactionID}
	if id := sc.msg.GetOneOption(dhcpv6.OptionClientID); id != nil {
		msg.AddOption(id)
	}
	msg.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: s.id})
	for _, o := range append(ias, more...) {
		msg.AddOption(o)
	}
	for _, id := range sc.pds {
		if o, ok := noPrefix(sc, id); ok {
			msg.AddOption(o)
		}
	}
	switch sc.msg.MessageType {
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeConfirm:
	default:
		networkOptions(msg, sc)
		bootOptions(msg, sc)
	}
	r := reply{to: sc.from, ifindex: sc.ifindex}
	if sc.relay == nil {
		r.to = netip.AddrPortFrom(sc.from.Addr(), clientPort)
		r.packet = msg.ToBytes()
		return r, len(r.packet) <= maxReply
	}
	wrapped, err := dhcpv6.NewRelayReplFromRelayForw(sc.relay, msg)
	if err != nil {
		s.o.Log.Debug("dhcpv6 answer not wrapped for its relay", "relay", sc.from, "err", err)
		return reply{}, false
	}
	// To the port that the relay sends from only when it says so (RFC 8357).
	if sc.relay.Options.RelayPort() == nil {
		r.to = netip.AddrPortFrom(sc.from.Addr(), serverPort)
	} else {
		wrapped.AddOption(dhcpv6.OptRelayPort(0))
	}
	if !sc.to.IsMulticast() {
		r.from = sc.to // a relay believes nobody else
	}
	r.packet = wrapped.ToBytes()
	return r, len(msg.ToBytes()) <= maxReply
}

// granted is an association with an address. Others that the client named are
// not its own any more: a lifetime of nothing says so.
func granted(a ia, addr netip.Addr, valid time.Duration, named ...netip.Addr) dhcpv6.Option {
	o := iaOption(a)
	if addr.IsValid() {
		o.T1, o.T2 = valid/2, valid/8*7
		o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: addr.AsSlice(), PreferredLifetime: valid, ValidLifetime: valid})
	}
	for _, n := range named {
		if n != addr {
			o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: n.AsSlice()})
		}
	}
	return o
}

func denied(a ia, code iana.StatusCode, text string) dhcpv6.Option {
	o := iaOption(a)
	o.Options.Add(status(code, text))
	return o
}

// noPrefix says that we have no prefix to give, and that we know of none that
// we gave (RFC 8415 §18.3). A client that asks for one beside its address would
// ask on for as long as nobody says so.
func noPrefix(sc scene, id uint32) (dhcpv6.Option, bool) {
	o := &dhcpv6.OptIAPD{}
	binary.BigEndian.PutUint32(o.IaId[:], id)
	switch sc.msg.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest:
		o.Options.Add(status(iana.StatusNoPrefixAvail, "no prefix is given here"))
	case dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease:
		o.Options.Add(status(iana.StatusNoBinding, "no such prefix"))
	default:
		return nil, false // to the others one says nothing about what one has not
	}
	return o, true
}

func iaOption(a ia) *dhcpv6.OptIANA {
	o := &dhcpv6.OptIANA{}
	binary.BigEndian.PutUint32(o.IaId[:], a.id)
	return o
}

func status(code iana.StatusCode, text string) dhcpv6.Option {
	return &dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: text}
}

// networkOptions tells what the client asked to know of its network; one that
// asks for nothing in particular is told all.
func networkOptions(msg *dhcpv6.Message, sc scene) {
	n := sc.subnet
	wants := func(code dhcpv6.OptionCode) bool {
		return len(sc.wants) == 0 || sc.wants.Contains(code)
	}
	if len(n.DNS) > 0 && wants(dhcpv6.OptionDNSRecursiveNameServer) {
		msg.AddOption(dhcpv6.OptDNS(ipsOf(n.DNS)...))
	}
	domains := n.Search
	if len(domains) == 0 && n.Domain != "" {
		domains = []string{n.Domain}
	}
	if len(domains) > 0 && wants(dhcpv6.OptionDomainSearchList) {
		msg.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: domains}))
	}
	if len(n.NTP) > 0 && wants(dhcpv6.OptionNTPServer) {
		o := &dhcpv6.OptNTPServer{}
		for _, ip := range ipsOf(n.NTP) {
			server := dhcpv6.NTPSuboptionSrvAddr(ip)
			o.Suboptions = append(o.Suboptions, &server)
		}
		msg.AddOption(o)
	}
}

func ipsOf(addrs []netip.Addr) []net.IP {
	ips := make([]net.IP, 0, len(addrs))
	for _, a := range addrs[:min(len(addrs), 8)] {
		ips = append(ips, a.AsSlice())
	}
	return ips
}

// classHTTP is what UEFI's HTTP boot wants to see again before it takes a URL
// (UEFI 2.10 §24.7.3.1).
const classHTTP = "HTTPClient"

// bootOptions tells the client what to load, where it asks for that: firmware
// asks a second time, for its IP stack, and a URL there would be in the way.
func bootOptions(msg *dhcpv6.Message, sc scene) {
	if sc.boot.Firmware == pxe.NoBoot || !sc.wants.Contains(dhcpv6.OptionBootfileURL) {
		return
	}
	url := sc.plan.BootFile(sc.boot)
	if url == "" {
		return
	}
	msg.AddOption(dhcpv6.OptBootFileURL(url))
	if len(sc.subnet.BootParams) > 0 && sc.wants.Contains(dhcpv6.OptionBootfileParam) {
		msg.AddOption(dhcpv6.OptBootFileParam(sc.subnet.BootParams...))
	}
	if sc.boot.Firmware == pxe.HTTP {
		msg.AddOption(&dhcpv6.OptVendorClass{EnterpriseNumber: intelEnterprise, Data: [][]byte{[]byte(classHTTP)}})
	}
}
