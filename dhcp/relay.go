package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
	"unicode"

	"github.com/rackstage/provision/fleet"
)

// Suboptions of option 82, the relay's information (RFC 3046, 3527, 5107).
const (
	codeRelayInfo       = 82
	subCircuitID        = 1
	subRemoteID         = 2
	subLinkSelection    = 5
	subServerIDOverride = 11
)

// behindRelay finds the network of a relayed client. A relay is answered, and
// what it says of the client's place is believed, when the subnet names it, or
// it is one of ours. Where the subnet names none, a relay with an address on it
// is answered, and not believed: anybody can write a giaddr. Everybody else's
// packets are not ours to answer: whoever can forge them would get answers sent
// to any address.
func (s *Server) behindRelay(sc *scene, nets *networks) (*network, refusal) {
	at := nets.of(sc.relay)
	n := at
	if link := sc.linkSelection(); link.IsValid() {
		n = nets.of(link)
	}
	if n == nil { // a relay may have no address on the subnet, and say nothing of it
		n = nets.named(sc.relay)
	}
	switch {
	case n == nil:
		s.unknownRelay(sc.relay, fmt.Sprintf("declare a subnet that contains %s", sc.relay))
	case n.believes(&sc.query):
		sc.believed = true
		return n, served
	case len(n.Relays) > 0:
		s.unknownRelay(sc.relay, fmt.Sprintf("add it to relays: of subnet %s, if it is yours", n.Name))
	case at != n:
		s.unknownRelay(sc.relay, fmt.Sprintf("it asks for clients of subnet %s and has no address on it: add it to relays: there, if it is yours", n.Name))
	default:
		return n, served
	}
	return nil, refusedRelay
}

// believes reports whether a relay may say where the clients of a network are.
// Ours send from the very address that they name, whereas a router may send
// from any of its own.
func (n *network) believes(q *query) bool {
	return slices.Contains(n.Relays, q.relay) || q.from.Addr() == q.relay && slices.Contains(n.Edges, q.relay)
}

// named returns the first network that names a relay.
func (all *networks) named(relay netip.Addr) *network {
	if !all.relays[relay] {
		return nil
	}
	i := slices.IndexFunc(all.sorted, func(n *network) bool { return slices.Contains(n.Relays, relay) })
	return all.sorted[i]
}

func (s *Server) unknownRelay(relay netip.Addr, advice string) {
	s.alarms.Raise(fleet.CodeUnknownRelay, "relay "+relay.String(), advice)
}

// linkSelection is the network that the client is on, where giaddr is only the
// way back to the relay (RFC 3527).
func (q *query) linkSelection() netip.Addr {
	return addrOf(suboption(q.msg.option(codeRelayInfo), subLinkSelection))
}

// serverOverride is the address that the client shall know us by (RFC 5107):
// the relay's own, so that renewals too come through it.
func (q *query) serverOverride() netip.Addr {
	if !q.believed {
		return netip.Addr{}
	}
	return addrOf(suboption(q.msg.option(codeRelayInfo), subServerIDOverride))
}

// place is where the client is plugged in.
func (sc *scene) place() fleet.Place {
	p := fleet.Place{Subnet: sc.subnet.Name, Relay: sc.relay}
	if info := sc.msg.option(codeRelayInfo); sc.believed && len(info) > 0 {
		p.CircuitID, p.RemoteID = idText(suboption(info, subCircuitID)), idText(suboption(info, subRemoteID))
	}
	return p
}

// maxID is more than any switch sends.
const maxID = 64

// idText writes an identifier for people: as text, if it is one.
func idText(id []byte) string {
	id = id[:min(len(id), maxID)]
	for _, r := range string(id) {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return fmt.Sprintf("0x%x", id)
		}
	}
	return fleet.CleanText(string(id))
}

// suboption returns a value from an option that is made of codes, lengths and
// values itself, as options 43 and 82 are; nil when it is not there, or the
// option is broken before.
func suboption(b []byte, code byte) []byte {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == code {
			return b[2 : 2+int(b[1])]
		}
		b = b[2+int(b[1]):]
	}
	return nil
}
