package fleet

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Relay is a `provision relay`: an edge of ours that speaks for the machines
// of some subnets.
type Relay struct {
	Name         string
	Subnets      []string // names
	Created      time.Time
	By           string   // who added it
	Token        [32]byte // SHA-256 of the one-use token that it enrols with; zero once used
	TokenExpires time.Time
	Enrolled     time.Time // zero: not yet
	Key          [32]byte  // SHA-256 of the public key that it enrolled with
	Places       []RelayAt // as it said last
}

// A RelayAt is the address by which the machines of a subnet reach a relay.
type RelayAt struct {
	Subnet string
	Addr   netip.Addr
}

// Serves reports whether a relay speaks for a subnet.
func (r Relay) Serves(subnet string) bool { return slices.Contains(r.Subnets, subnet) }

// AddrOn returns the relay's address on a subnet; invalid when it has none.
func (r Relay) AddrOn(subnet string) netip.Addr {
	for _, p := range r.Places {
		if p.Subnet == subnet {
			return p.Addr
		}
	}
	return netip.Addr{}
}

// RelayTrouble is what is wrong with a relay, or at it: the code of a diagnosis, and
// what it says of it.
type RelayTrouble struct{ Code, Detail string }

// RelayTroubles are the codes of what a relay may say is wrong.
func RelayTroubles() []string { return []string{CodeRelayNoIPv6, CodeRelayDisk, CodeTFTPStranger} }

// RelaySilence is how long a relay, which says a word every two seconds, is not
// heard before something is wrong.
const RelaySilence = time.Minute

// On is how people read which relay it is, and where: "relay west (west-boot)".
func (r Relay) On() string { return "relay " + r.Name + " (" + strings.Join(r.Subnets, ", ") + ")" }

// A RelayStatus is what a relay said about itself last. It is not kept: a
// relay reports every few seconds.
type RelayStatus struct {
	Seen    time.Time
	From    netip.Addr
	Version string
	Places  []RelayAt

	Trouble []RelayTrouble // what is wrong with it

	CacheBytes, CacheLimit int64 // of its disk
	Served, Fetched        int64 // bytes given to machines, and taken from us
	Requests, Relayed      int64 // DHCP packets of machines: all, and passed on
	BOOTP                  int64 // of them from ROMs that are older than DHCP
	Refused                int64 // DHCP packets of machines that it refused
	Strangers              int64 // packets that claimed to be its server's, and were not
	Unsent                 int64 // packets that its kernel would not send
	Panics                 int64 // packets that made it fail; each is a bug
	Away                   int64 // answers that it gave itself while we were away
}
