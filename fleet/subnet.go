package fleet

import "net/netip"

// A DHCPMode says what the DHCP server does on a subnet.
type DHCPMode string

// The DHCP modes. A subnet that says nothing observes.
const (
	Observe  DHCPMode = "observe"  // listens, answers nobody
	Proxy    DHCPMode = "proxy"    // boot information only, beside another server
	Reserved DHCPMode = "reserved" // full service for known nodes only
	Full     DHCPMode = "full"     // addresses and boot information for everybody
)

// GivesAddresses reports whether we give out addresses; otherwise another server
// does, or nobody.
func (m DHCPMode) GivesAddresses() bool { return m == Full || m == Reserved }

// A Subnet is one network that machines boot from, IPv4 or IPv6. Where the
// comments name an option, it is DHCPv4's; on IPv6 the router is in our
// advertisements, and only when it is ourselves.
type Subnet struct {
	Name    string
	CIDR    netip.Prefix
	Link    string // subnets that name the same link share one wire: a client there may get an address of any of them
	Mode    DHCPMode
	Relays  []netip.Addr // the relays (giaddr) that are answered, and believed; none: every one that has an address of the subnet is answered
	Edges   []netip.Addr // addresses on it of relays of ours that have enrolled: believed too; site.yaml does not say them
	Ranges  []AddrRange  // dynamic addresses; used in mode full
	Exclude []AddrRange  // addresses of the ranges that are given to nobody, but by reservation

	Router     netip.Addr   // option 3; invalid: not sent
	DNS        []netip.Addr // option 6
	NTP        []netip.Addr // option 42
	Domain     string       // option 15
	Search     []string     // option 119
	MTU        int          // option 26; 0: not sent
	Routes     []Route      // option 121
	MSRoutes   bool         // the routes in Microsoft's option 249 too, for clients that ask for it
	Options    []DHCPOption // further ones
	BootHTTPS  bool         // UEFI HTTP boot gets https URLs
	BootParams []string     // IPv6: parameters of the boot file (RFC 5970 §3.2)
	Server     netip.Addr   // address that boot files are fetched from; invalid: the one that the request came in on

	Lease        int  // seconds; 0: 3600
	UnknownLease int  // seconds, of clients that nobody has approved; 0: 300, or Lease where that is shorter
	UnknownShare int  // percent of the ranges that such clients have at most, together; 0: 50
	NoProbe      bool // offer addresses without asking first whether somebody answers there
	SLAAC        bool // IPv6: machines may make addresses of their own too; our router advertisements say so
	BOOTP        bool // clients that are too old for DHCP get addresses of the ranges too
	Menu         bool // its machines show the boot menu
	OOB          bool // BMCs get their addresses here: they are looked at, and given passwords of ours

	// Other DHCP servers, and IPv6 routers, that belong there. No IPv4 one: in
	// mode proxy the first that answers, otherwise nobody.
	KnownDHCP  []netip.Addr
	KnownDUIDs []string // and DHCPv6 servers by their DUID, in hex

	Classes      []DHCPClass // the first that matches a client is its class
	Reservations []Reservation
}

// An AddrRange is a range of addresses, both ends included.
type AddrRange struct{ First, Last netip.Addr }

// Contains reports whether an address is in the range.
func (r AddrRange) Contains(a netip.Addr) bool { return !a.Less(r.First) && !r.Last.Less(a) }

// A Route is a static route of the clients (RFC 3442).
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// A DHCPOption is an option as it is sent: its value is encoded.
type DHCPOption struct {
	Code uint8
	Data []byte
}

// A Reservation keeps an address for one client, which need not be a node. It
// names the client in one of three ways.
type Reservation struct {
	MAC       MAC
	ClientID  string // hex of option 61
	CircuitID string // hex of option 82.1: whoever is plugged in there
	RemoteID  string // hex of option 82.2; with a CircuitID both must fit

	Addr     netip.Addr // invalid: any address, but hostname and options as below
	Hostname string     // option 12
	Options  []DHCPOption
}

// A DHCPClass is clients of one kind, and what they get.
type DHCPClass struct {
	Name    string
	Match   ClassMatch
	Ranges  []AddrRange  // for this class alone, and nothing else for it; none: those of the subnet
	Lease   int          // seconds; 0: the subnet's
	Options []DHCPOption // over those of the subnet

	BootFile   string     // for clients that would get a loader from us, or nothing: a TFTP name or a URL
	BootServer netip.Addr // that has BootFile; invalid: us
}

// A ClassMatch says which clients are of a class. All fields that are set must
// hold.
type ClassMatch struct {
	Vendor    string // start of option 60
	User      string // one of the strings of option 77
	Arch      []int  // any of these in option 93
	MACPrefix string // "52:54:00"
	CircuitID string // hex: start of option 82.1
	RemoteID  string // hex: start of option 82.2
}

// SubnetOf returns the subnet that contains addr.
func (s Site) SubnetOf(addr netip.Addr) (Subnet, bool) {
	for i := range s.Subnets { // each is large to copy
		if s.Subnets[i].CIDR.Contains(addr) {
			return s.Subnets[i], true
		}
	}
	return Subnet{}, false
}
