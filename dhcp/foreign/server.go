package foreign

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A Server is another DHCP server, of either family, or another IPv6 router.
type Server struct {
	Addr   netip.Addr // that it answers from, as it names itself; invalid: a DHCPv6 server that clients name
	DUID   string     // of a DHCPv6 server, in hex
	MAC    fleet.MAC  // of it, or of the relay that its answers come through; "": seen by what clients say
	Iface  string     // it was seen on
	Subnet string     // "" where none is declared
	Relay  netip.Addr
	Edge   string // name of that relay, if it is one of ours

	Full   bool         // gives addresses
	Proxy  bool         // gives boot information to those who have addresses
	Offers netip.Prefix // an address that it offers, and the network that it says this is in
	File   string       // that it tells machines to boot; hostile text
	Twin   bool         // it uses our address or our DUID: a copy of this server, say
	Router bool         // it is a router, and what it says is in Advert
	Advert Advert

	Expected bool   // it belongs there
	Against  string // what of a router's advertisement is against what is declared
	Probed   bool   // it answers our probes
	Replies  int64
	First    time.Time
	Last     time.Time

	network Network
}

// Is6 reports whether it is one of IPv6.
func (s *Server) Is6() bool { return s.DUID != "" || s.Router }

// boots reports whether it tells machines what to boot.
func (s *Server) boots() bool { return s.Proxy || s.File != "" }

// Name is what an operator finds it by.
func (s Server) Name() string {
	if s.Addr.IsValid() {
		return s.Addr.String()
	}
	return "DUID " + s.DUID
}

// A proof is how well we know that a server is there. When there are too many,
// those that are known least make room: who makes up servers never drives one
// out that answers.
type proof int

const (
	hearsay   proof = iota // a client named it
	overheard              // a reply to somebody came from it
	asked                  // it answers probes, ours or those of a relay of ours
)

func (s *Server) proof() proof {
	switch {
	case s.Probed:
		return asked
	case s.MAC != "":
		return overheard
	default:
		return hearsay
	}
}

// An alarm is what makes one of a server.
type alarm struct{ code, on string }

func (s *Server) alarm() alarm {
	a := alarm{fleet.CodeRogueProxy, fmt.Sprintf("%s on subnet %s", s.Name(), s.Subnet)}
	switch {
	case s.Router:
		a.code = fleet.CodeRogueRouter
	case s.Full:
		a.code = fleet.CodeRogueDHCP
	}
	return a
}

// Words says what is known of a server, in one line.
func (s Server) Words() string {
	parts := []string{s.where()}
	if s.Twin {
		parts = append(parts, "uses this server's identity: "+s.identity())
	}
	switch {
	case s.Router:
		return strings.Join(append(parts, s.Advert.words()...), ", ")
	case s.Offers.IsValid() && s.Is6():
		parts = append(parts, "offers "+s.Offers.Addr().String())
	case s.Offers.IsValid():
		parts = append(parts, "offers "+s.Offers.String())
	case s.Full:
		parts = append(parts, "gives addresses")
	case s.Is6():
		parts = append(parts, "gives no addresses")
	default:
		parts = append(parts, "proxyDHCP")
	}
	switch {
	case s.File != "":
		parts = append(parts, "boots "+s.File)
	case s.Proxy:
		parts = append(parts, "has boot information")
	default:
		parts = append(parts, "no boot file")
	}
	return strings.Join(parts, ", ")
}

// identity is what a twin has of ours.
func (s *Server) identity() string {
	if s.DUID != "" {
		return "DUID " + s.DUID
	}
	return "address " + s.Addr.String()
}

// where says what a server is found by, beside its name.
func (s Server) where() string {
	w := string(s.MAC)
	if s.Iface != "" {
		w += " on " + s.Iface
	}
	if s.Relay.IsValid() {
		w += ", through relay " + strings.TrimSpace(s.Edge+" "+s.Relay.String())
	}
	if s.MAC == "" {
		w = "clients took its offers"
	}
	if s.DUID != "" && s.Addr.IsValid() {
		w += ", DUID " + s.DUID
	}
	return w
}

// accusation is what the alarm about a server says.
func (s *Server) accusation() string {
	if s.Against != "" {
		return s.Against + ": " + s.Words()
	}
	return s.Words()
}
