package api

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Paths of the relays' part, on the TLS listener.
const (
	PathRelayEnrol    = "/relay/v1/enrol"    // POST [RelayEnrolRequest], without a certificate
	PathRelayRenew    = "/relay/v1/renew"    // POST [RelayRenewRequest]
	PathRelayReport   = "/relay/v1/report"   // POST [RelayReport]
	PathRelaySnapshot = "/relay/v1/snapshot" // GET [RelaySnapshot]; has an ETag
	PathRelayFiles    = "/relay/v1/files/"   // GET a file of [RelaySnapshot.Files], by name
	PathRelayChunks   = "/relay/v1/chunks/"  // GET a piece of an image, as behind [PathChunks]
	PathRelayBoot     = "/relay/v1/boot/"    // GET or HEAD for a machine; what follows is a path of the boot listener
	PathRelayTFTP     = "/relay/v1/tftp/"    // GET for a machine; what follows is a name of the TFTP server
	PathRelayQuirk    = "/relay/v1/quirk"    // GET [RelayQuirk] of a machine
	PathRelayTunnel   = "/relay/v1/tunnel"   // POST with HTTP/2: a machine's TCP connection to the TLS listener
)

// Headers with which a relay says for whom it speaks. They are believed from
// a relay of that machine's subnet only, and from nobody else.
const (
	HeaderMachine = "Provision-Machine" // ADDRESS:PORT that the machine's packets came from
	HeaderLocal   = "Provision-Local"   // address of the relay that they went to
)

// RelayEnrolRequest redeems the token of `provision relays add`.
type RelayEnrolRequest struct {
	Token string `json:"token"`
	CSR   string `json:"csr"` // PEM
}

// RelayEnrolReply is what a relay is from then on.
type RelayEnrolReply struct {
	Name        string `json:"name"`
	Certificate string `json:"certificate"` // PEM
}

// RelayRenewRequest asks for a fresh certificate of the same key.
type RelayRenewRequest struct {
	CSR string `json:"csr"` // PEM
}

// RelayRenewReply has the fresh certificate.
type RelayRenewReply struct {
	Certificate string `json:"certificate"` // PEM
}

// RelayReport is what a relay says about itself, every few seconds.
type RelayReport struct {
	Version string         `json:"version"`
	Places  []RelayPlace   `json:"places"`
	Usage   RelayUsage     `json:"usage"`
	Seen    []RelayFetched `json:"seen,omitempty"` // since the last report
	Foreign []RelayForeign `json:"foreign,omitempty"`
	Trouble []RelayTrouble `json:"trouble,omitempty"`
}

// RelayTrouble is what is wrong with a relay, or at it, as it says, for as long as
// it is.
type RelayTrouble struct {
	Code   string `json:"code"` // of its diagnosis: E-RELAY-NO-IPV6, E-RELAY-DISK, E-TFTP-STRANGER
	Detail string `json:"detail"`
}

// RelayPlace is the address by which machines of a subnet reach a relay.
type RelayPlace struct {
	Subnet string     `json:"subnet"`
	Addr   netip.Addr `json:"addr"`
}

// RelayUsage is a relay's counters since its start.
type RelayUsage struct {
	CacheBytes int64 `json:"cache_bytes"`
	CacheLimit int64 `json:"cache_limit"`
	Served     int64 `json:"served"`    // bytes given to machines
	Fetched    int64 `json:"fetched"`   // bytes taken from the server
	Requests   int64 `json:"requests"`  // DHCP packets of machines
	Relayed    int64 `json:"relayed"`   // of them passed on
	BOOTP      int64 `json:"bootp"`     // of them from ROMs that are older than DHCP
	Refused    int64 `json:"refused"`   // of them refused
	Away       int64 `json:"away"`      // DHCP answers given while the server was away
	Strangers  int64 `json:"strangers"` // DHCP packets that claimed to be the server's, and were not
	Unsent     int64 `json:"unsent"`    // DHCP packets that the relay's kernel would not send
	Panics     int64 `json:"panics"`    // DHCP packets that made the relay fail; each is a bug

	TFTP RelayTFTP `json:"tftp"`
	HTTP RelayHTTP `json:"http"`
}

// RelayTFTP is what a relay counted of TFTP.
type RelayTFTP struct {
	Done      int64 `json:"done"`      // transfers whose machine has all
	Failed    int64 `json:"failed"`    // transfers that broke off
	Unheard   int64 `json:"unheard"`   // of those, without a single ACK
	NotFound  int64 `json:"not_found"` // requests for what is not there
	Refused   int64 `json:"refused"`   // requests for what TFTP is not for
	Malformed int64 `json:"malformed"` // packets that are no request
	Writes    int64 `json:"writes"`    // write requests
	Strangers int64 `json:"strangers"` // requests of addresses that are not served
	Capped    int64 `json:"capped"`    // requests over a limit of transfers at once
	Limited   int64 `json:"limited"`   // requests of a source that asks too often
	Unread    int64 `json:"unread"`    // requests that came faster than they could be looked at
	Shared    int64 `json:"shared"`    // transfers that got no port of their own
	Stray     int64 `json:"stray"`     // packets of no transfer
	Unsent    int64 `json:"unsent"`    // packets that the relay's kernel would not send
	Panics    int64 `json:"panics"`    // packets and files that made it fail; each is a bug
}

// AllRefused is how many requests got no file because of what they are, or of how
// many there were. One for what is not there is none of them: firmware asks for
// much.
func (t RelayTFTP) AllRefused() int64 {
	return t.Refused + t.Malformed + t.Writes + t.Strangers + t.Capped + t.Limited + t.Unread
}

// RelayHTTP is what a relay counted at its doors of HTTP.
type RelayHTTP struct {
	NotFound        int64 `json:"not_found"`
	BadMethods      int64 `json:"bad_methods"`  // neither GET nor HEAD
	BadRequests     int64 `json:"bad_requests"` // that are not HTTP
	HeadersTooLarge int64 `json:"headers_too_large"`
	SlowHeaders     int64 `json:"slow_headers"`     // connections closed because a request did not end
	IdleClosed      int64 `json:"idle_closed"`      // connections closed because no request came
	StalledReaders  int64 `json:"stalled_readers"`  // connections closed because nobody read the answer
	ConnsOfAddress  int64 `json:"conns_of_address"` // connections refused: too many of one address
	ConnsInAll      int64 `json:"conns_in_all"`     // connections refused: too many
	ConnsGaveWay    int64 `json:"conns_gave_way"`   // idle connections closed for new ones
	ConnsPushedOut  int64 `json:"conns_pushed_out"` // busy ones, too
	AgentConns      int64 `json:"agent_conns"`      // connections of agents to the server refused, or closed for new ones: too many
	Panics          int64 `json:"panics"`           // requests that made the relay fail; each is a bug
}

// AllRefused is how many requests and connections were refused, or given up,
// because of what they are, or of how many there were.
func (h RelayHTTP) AllRefused() int64 {
	return h.BadMethods + h.BadRequests + h.HeadersTooLarge + h.SlowHeaders + h.StalledReaders +
		h.ConnsOfAddress + h.ConnsInAll + h.ConnsPushedOut + h.AgentConns
}

// RelayFetched says that a machine fetched a boot file, or tried to.
type RelayFetched struct {
	At       time.Time      `json:"at"`
	Addr     netip.Addr     `json:"addr"`
	File     string         `json:"file"`
	By       string         `json:"by"`                 // "HTTP" or "TFTP"
	Transfer *RelayTransfer `json:"transfer,omitempty"` // by TFTP: how it went
}

// RelayTransfer is how one file went to a machine by TFTP.
type RelayTransfer struct {
	Port     uint16        `json:"port"` // of the relay, that its packets came from
	Size     int64         `json:"size"`
	Sent     int64         `json:"sent"`
	Block    int           `json:"block"`
	Window   int           `json:"window"`
	Packets  int64         `json:"packets"`
	Resent   int64         `json:"resent"`
	RTT      time.Duration `json:"rtt_ns"`
	Duration time.Duration `json:"duration_ns"`
	Proved   bool          `json:"proved,omitempty"` // nobody else can have asked in the machine's name
	Err      string        `json:"err,omitempty"`    // "": the machine has all of it; else [TransferUnheard], or a text
}

// Ends of a transfer that mean something.
const (
	TransferUnheard     = "unheard"      // no packet was ever acknowledged
	TransferLastUnheard = "last-unheard" // all but the last one were
)

// RelayForeign is another DHCP server among the machines behind a relay, which
// answers now, or a router there.
type RelayForeign struct {
	At     netip.Addr   `json:"at"` // the relay's address on that network
	Addr   netip.Addr   `json:"addr"`
	DUID   string       `json:"duid,omitempty"` // of a DHCPv6 server, in hex
	MAC    string       `json:"mac"`
	Full   bool         `json:"full"`  // it gives addresses
	Proxy  bool         `json:"proxy"` // it gives boot information
	Offers netip.Prefix `json:"offers"`
	File   string       `json:"file,omitempty"`
	Router *RelayRouter `json:"router,omitempty"` // it is an IPv6 router, and says this
}

// RelayRouter is what a router tells the machines on its link.
type RelayRouter struct {
	Managed  bool          `json:"managed"` // addresses come from DHCPv6
	Other    bool          `json:"other"`   // the rest does
	Lifetime time.Duration `json:"lifetime_ns"`
	Prefixes []RelayPrefix `json:"prefixes,omitempty"`
}

// RelayPrefix is a prefix that a router says is on its link.
type RelayPrefix struct {
	Prefix netip.Prefix `json:"prefix"`
	Auto   bool         `json:"auto"` // machines shall make addresses of it themselves
}

// RelayQuirk is how a machine fetches otherwise than usual.
type RelayQuirk struct {
	BlockSize int `json:"block_size"` // that it gets on with by TFTP, at most; 0: any
}

// RelaySnapshot is what a relay needs to know, also while the server is away.
type RelaySnapshot struct {
	Name      string        `json:"name"`
	BootPort  uint16        `json:"boot_port"`  // of the boot listener, the relay's too
	AgentPort uint16        `json:"agent_port"` // of the TLS listener, the relay's too
	OnePort   bool          `json:"tftp_single_port"`
	DUID      string        `json:"duid,omitempty"` // of the server, to DHCPv6 clients; hex
	Subnets   []RelaySubnet `json:"subnets"`
	Nodes     []RelayNode   `json:"nodes"`
	Files     []RelayFile   `json:"files"`
}

// RelaySubnet is a subnet as far as a known machine needs it.
type RelaySubnet struct {
	Name   string       `json:"name"`
	CIDR   netip.Prefix `json:"cidr"`
	Serves bool         `json:"serves"` // the server gives out addresses there
	Router netip.Addr   `json:"router"`
	DNS    []netip.Addr `json:"dns,omitempty"`
	NTP    []netip.Addr `json:"ntp,omitempty"`
	Domain string       `json:"domain,omitempty"`
	MTU    int          `json:"mtu,omitempty"`
	SLAAC  bool         `json:"slaac,omitempty"` // of IPv6: machines make addresses of their own too
}

// RelayNode is a node that was let in, and the address that it has.
type RelayNode struct {
	ID        string     `json:"id"`
	Name      string     `json:"name,omitempty"`
	MACs      []string   `json:"macs"`
	State     string     `json:"state"`
	Installed bool       `json:"installed"` // has a system, whatever its state
	Addr      netip.Addr `json:"addr"`      // on one of the subnets; zero when it has none there
	Other     netip.Addr `json:"other"`     // of the other family; zero when it has none there
}

// RelayFile is a boot file, by its content.
type RelayFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Relay is a relay as operators see it.
type Relay struct {
	Name     string       `json:"name"`
	Subnets  []string     `json:"subnets"`
	Created  time.Time    `json:"created"`
	By       string       `json:"by"`
	Enrolled *time.Time   `json:"enrolled,omitempty"`
	Seen     *time.Time   `json:"seen,omitempty"`
	Silent   bool         `json:"silent,omitempty"` // not heard for too long: E-RELAY-AWAY
	From     string       `json:"from,omitempty"`   // address that it reports from
	Version  string       `json:"version,omitempty"`
	Places   []RelayPlace `json:"places,omitempty"`
	Usage    RelayUsage   `json:"usage"`

	Trouble []RelayTrouble `json:"trouble,omitempty"` // what it says is wrong with it
}

// RelayList is all relays, by name.
type RelayList struct {
	Relays []Relay `json:"relays"`
}

// AddRelay adds a relay.
type AddRelay struct {
	Name    string   `json:"name" maxLength:"63" doc:"lower-case letters, digits and dashes"`
	Subnets []string `json:"subnets" minItems:"1" maxItems:"256" doc:"names of the subnets whose machines it speaks for"`
}

// AddedRelay has the token that a relay enrols with, once.
type AddedRelay struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// Relays returns all relays, by name.
func (c *Client) Relays(ctx context.Context) ([]Relay, error) {
	var list RelayList
	err := c.call(ctx, http.MethodGet, Root+"/relays", nil, nil, &list)
	return list.Relays, err
}

// AddRelay adds a relay and returns the token that it enrols with.
func (c *Client) AddRelay(ctx context.Context, r AddRelay) (added AddedRelay, err error) {
	return added, c.call(ctx, http.MethodPost, Root+"/relays", nil, r, &added)
}

// RemoveRelay takes a relay's rights away.
func (c *Client) RemoveRelay(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, Root+"/relays/"+url.PathEscape(name), nil, nil, nil)
}
