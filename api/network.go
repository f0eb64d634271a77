package api

import "time"

// Alarm is trouble that there is now.
type Alarm struct {
	Code   string    `json:"code"`  // stable: "E-DHCP-ROGUE"
	Title  string    `json:"title"` // what is the matter
	On     string    `json:"on"`    // what it is about
	Detail string    `json:"detail,omitempty"`
	Fix    string    `json:"fix,omitempty"` // what to do
	Since  time.Time `json:"since"`
	Seen   time.Time `json:"seen"`  // last
	Count  int64     `json:"count"` // how often
}

// AlarmList is the trouble that there is now, newest first.
type AlarmList struct {
	Alarms []Alarm `json:"alarms"`
}

// Subnet is one declared network and how it does.
type Subnet struct {
	Name      string          `json:"name"`
	CIDR      string          `json:"cidr"`
	Mode      string          `json:"mode"`                // observe proxy reserved full
	Interface string          `json:"interface,omitempty"` // of the server, on that network; "": reached by relays only
	Ranges    []RangeUse      `json:"ranges"`
	Foreign   []ForeignServer `json:"foreign"`
	Alarms    int             `json:"alarms"`
}

// RangeUse says how full the ranges of a subnet, or of one of its classes, are.
type RangeUse struct {
	Class    string `json:"class,omitempty"` // "": the subnet's own
	Size     int    `json:"size"`
	Used     int    `json:"used"`
	Declined int    `json:"declined"` // in quarantine: somebody else uses them
	Percent  int    `json:"percent"`
	FullIn   int    `json:"full_in_seconds,omitempty"` // at the rate of the last hour; 0: nobody can tell
}

// ForeignServer is another DHCP server, or another IPv6 router.
type ForeignServer struct {
	Addr      string    `json:"addr"`           // or "DUID 0003...": all that is known of a DHCPv6 server behind a relay
	DUID      string    `json:"duid,omitempty"` // of a DHCPv6 server, in hex
	MAC       string    `json:"mac,omitempty"`  // of it, or of the relay that its answers come through
	Interface string    `json:"interface,omitempty"`
	Subnet    string    `json:"subnet,omitempty"`
	Relay     string    `json:"relay,omitempty"`
	Router    bool      `json:"router,omitempty"`    // a router, by its advertisements
	Full      bool      `json:"full"`                // gives addresses
	Proxy     bool      `json:"proxy"`               // gives boot information only
	Offers    string    `json:"offers,omitempty"`    // an address that it offers, and its network
	BootFile  string    `json:"boot_file,omitempty"` // that it tells machines to boot
	Expected  bool      `json:"expected"`            // it belongs there
	Against   string    `json:"against,omitempty"`   // what of a router's advertisements does not
	Words     string    `json:"words"`               // all of this in one line
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

// SubnetList is the declared networks, and the servers on networks that are
// not declared.
type SubnetList struct {
	Subnets []Subnet        `json:"subnets"`
	Foreign []ForeignServer `json:"foreign"`
}

// Lease binds an address to a machine.
type Lease struct {
	Addr     string    `json:"addr"`
	Subnet   string    `json:"subnet"`
	MAC      string    `json:"mac"`
	ClientID string    `json:"client_id,omitempty"` // hex; of an IPv6 lease the DUID
	IAID     uint32    `json:"iaid,omitempty"`      // of an IPv6 lease
	Hostname string    `json:"hostname,omitempty"`
	Node     string    `json:"node,omitempty"` // name or MAC of the node that has it
	State    string    `json:"state"`          // bound, declined
	Expires  time.Time `json:"expires"`
}

// LeaseList is a page of leases.
type LeaseList struct {
	Leases []Lease `json:"leases"`
	Next   string  `json:"next,omitempty"` // address that the next page begins after
}

// ImportLeases are leases of another server.
type ImportLeases struct {
	Leases []Lease `json:"leases" maxItems:"4096"`
	Subnet string  `json:"subnet,omitempty"` // only those on it
	DryRun bool    `json:"dry_run"`
}

// ImportedLeases says what became of them.
type ImportedLeases struct {
	Taken   int            `json:"taken"` // are on the server's disk
	Known   int            `json:"known"` // were there already
	Refused []RefusedLease `json:"refused"`
}

// RefusedLease is one that was not taken over.
type RefusedLease struct {
	Addr   string `json:"addr"`
	Reason string `json:"reason"`
}

// Check is one thing that the server looked at about itself.
type Check struct {
	Area  string `json:"area"`           // server, net, boot
	State string `json:"state"`          // ok, warning, failed
	Code  string `json:"code,omitempty"` // of a diagnosis
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// CheckList is all of them.
type CheckList struct {
	Checks []Check `json:"checks"`
}
