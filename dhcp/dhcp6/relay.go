package dhcp6

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/fleet"
)

// A hop is what one relay says of whoever sent to it.
type hop struct {
	link    netip.Addr // network of the client; invalid when it does not say
	peer    netip.Addr // who sent to it
	circuit string
	remote  string
	mac     fleet.MAC
}

func readHop(r *dhcpv6.RelayMessage) hop {
	h := hop{peer: addrOf(r.PeerAddr)}
	if link := addrOf(r.LinkAddr); link.IsValid() && !link.IsLinkLocalUnicast() {
		h.link = link
	}
	if id := r.Options.InterfaceID(); id != nil {
		h.circuit = legible(id)
	}
	if id := r.Options.RemoteID(); id != nil {
		h.remote = legible(id.RemoteID)
	}
	if kind, hw := r.Options.ClientLinkLayerAddress(); kind == ethernet {
		h.mac = macOf(hw)
	}
	return h
}

// legible is an identifier as people read it: text, or 0x and hex.
func legible(b []byte) string {
	if len(b) > 128 {
		b = b[:128]
	}
	if !utf8.Valid(b) || len(b) == 0 {
		return "0x" + hex.EncodeToString(b)
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) {
			return "0x" + hex.EncodeToString(b)
		}
	}
	return string(b)
}

// speaker is who sent the packet to us.
func (q *query) speaker() netip.Addr { return q.from.Addr().WithZone("") }

// names reports whether a subnet names a relay, or it is one of ours.
func names(n fleet.Subnet, relay netip.Addr) bool {
	return slices.Contains(n.Relays, relay) || slices.Contains(n.Edges, relay)
}

// believed returns the hops whose word counts on a subnet, the outermost
// first: that of a relay which the subnet names, and of another one behind it
// as long as it is named too. A client can write the rest itself.
func (q *query) believed(n fleet.Subnet) []hop {
	speaker := q.speaker()
	for i, h := range q.hops {
		if !names(n, speaker) {
			return q.hops[:i]
		}
		speaker = h.peer
	}
	return q.hops
}

// behindRelay finds the network of a relayed client. One that is not on our
// own wire is served through the relays that its subnet names only. Whoever is
// on our wire may wrap what it sends (as RFC 6221 has switches do), and is
// answered as if it had not.
func (s *Server) behindRelay(q *query, l links.Link) (fleet.Subnet, bool) {
	local, isLocal := s.subnetOn(l)
	at := slices.IndexFunc(q.hops, func(h hop) bool { return h.link.IsValid() })
	n, ok := local, isLocal
	if at >= 0 {
		n, ok = s.book.subnetOf(q.hops[at].link)
	} else if named, is := s.book.subnetNaming(q.speaker()); is {
		n, ok = named, true
	}
	heard := q.believed(n)
	ours := isLocal && n.Name == local.Name && (q.speaker().IsLinkLocalUnicast() || n.CIDR.Contains(q.speaker()))
	switch {
	case !ok:
		s.unknownRelay(q, q.speaker(), fmt.Sprintf("it asks for clients at %s, which no subnet has", linkText(q, at)))
	case len(heard) > max(at, 0), len(heard) == 0 && ours:
		q.hear(heard)
		return n, true
	case len(heard) > 0:
		s.unknownRelay(q, heard[len(heard)-1].peer, fmt.Sprintf("it is behind relay %s: add it to relays: of subnet %s, if it is yours", q.speaker(), n.Name))
	default:
		s.unknownRelay(q, q.speaker(), fmt.Sprintf("add it to relays: of subnet %s, if it is yours", n.Name))
	}
	return fleet.Subnet{}, false
}

func linkText(q *query, at int) string {
	if at < 0 {
		return "its own link"
	}
	return q.hops[at].link.String()
}

// hear takes what relays that are believed say about the client. Of several,
// the one nearest to the client knows best.
func (q *query) hear(hops []hop) {
	peer := q.speaker()
	for _, h := range hops {
		if h.circuit != "" {
			q.place.CircuitID = h.circuit
		}
		if h.remote != "" {
			q.place.RemoteID = h.remote
		}
		if h.mac != "" {
			q.mac = h.mac
		}
		peer = h.peer
	}
	if len(hops) > 0 {
		q.place.Relay = q.speaker()
		q.boot.Relay = q.place.Relay
	}
	q.nameMAC(peer)
}

// relayPrefix begins what an alarm about a relay is on.
const relayPrefix = "relay "

// unknownRelay tells of a relay that nobody named, and counts what it sends.
func (s *Server) unknownRelay(q *query, relay netip.Addr, advice string) {
	s.stats.unknownRelays.Add(1)
	s.alarms.Raise(fleet.CodeUnknownRelay, relayPrefix+relay.String(), fmt.Sprintf("from %s: %s", q.speaker(), advice))
}

// forgetRelays ends the alarms about relays that are named now.
func (s *Server) forgetRelays() {
	s.alarms.ClearIf(fleet.CodeUnknownRelay, func(on string) bool {
		a, err := netip.ParseAddr(strings.TrimPrefix(on, relayPrefix))
		_, named := s.book.subnetNaming(a)
		return err == nil && named
	})
}
