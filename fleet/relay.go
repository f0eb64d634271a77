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

	TFTP RelayTFTP
	HTTP RelayHTTP
}

// RelayTFTP is what a relay counted of TFTP, as the server counts its own.
type RelayTFTP struct {
	Done      int64
	Failed    int64
	Unheard   int64
	NotFound  int64
	Refused   int64
	Malformed int64
	Writes    int64
	Strangers int64
	Capped    int64
	Limited   int64
	Unread    int64
	Shared    int64
	Stray     int64
	Unsent    int64
	Panics    int64
}

// Plus adds up.
func (a RelayTFTP) Plus(b RelayTFTP) RelayTFTP {
	return RelayTFTP{
		Done: a.Done + b.Done, Failed: a.Failed + b.Failed, Unheard: a.Unheard + b.Unheard, NotFound: a.NotFound + b.NotFound,
		Refused: a.Refused + b.Refused, Malformed: a.Malformed + b.Malformed, Writes: a.Writes + b.Writes,
		Strangers: a.Strangers + b.Strangers, Capped: a.Capped + b.Capped, Limited: a.Limited + b.Limited,
		Unread: a.Unread + b.Unread, Shared: a.Shared + b.Shared, Stray: a.Stray + b.Stray, Unsent: a.Unsent + b.Unsent,
		Panics: a.Panics + b.Panics,
	}
}

// RelayHTTP is what a relay counted at its doors of HTTP, as the server counts
// at its own.
type RelayHTTP struct {
	NotFound        int64
	BadMethods      int64
	BadRequests     int64
	HeadersTooLarge int64
	SlowHeaders     int64
	IdleClosed      int64
	StalledReaders  int64
	ConnsOfAddress  int64
	ConnsInAll      int64
	ConnsGaveWay    int64
	ConnsPushedOut  int64
	AgentConns      int64
	Panics          int64
}

// Plus adds up.
func (a RelayHTTP) Plus(b RelayHTTP) RelayHTTP {
	return RelayHTTP{
		NotFound: a.NotFound + b.NotFound, BadMethods: a.BadMethods + b.BadMethods, BadRequests: a.BadRequests + b.BadRequests,
		HeadersTooLarge: a.HeadersTooLarge + b.HeadersTooLarge, SlowHeaders: a.SlowHeaders + b.SlowHeaders,
		IdleClosed: a.IdleClosed + b.IdleClosed, StalledReaders: a.StalledReaders + b.StalledReaders,
		ConnsOfAddress: a.ConnsOfAddress + b.ConnsOfAddress, ConnsInAll: a.ConnsInAll + b.ConnsInAll,
		ConnsGaveWay: a.ConnsGaveWay + b.ConnsGaveWay, ConnsPushedOut: a.ConnsPushedOut + b.ConnsPushedOut,
		AgentConns: a.AgentConns + b.AgentConns, Panics: a.Panics + b.Panics,
	}
}
