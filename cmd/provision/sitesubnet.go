package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
)

type subnetFile struct {
	Name    string   `yaml:"name"`
	CIDR    string   `yaml:"cidr"`
	Link    string   `yaml:"link"`       // subnets with the same link share a wire
	Mode    string   `yaml:"mode"`       // observe, proxy, reserved, full
	Relays  []string `yaml:"relays"`     // none: any inside of a declared subnet
	Ranges  []string `yaml:"ranges"`     // first-last
	Exclude []string `yaml:"exclude"`    // address, or first-last
	Known   []string `yaml:"known_dhcp"` // other DHCP servers and routers that belong there

	Router   string       `yaml:"router"`
	DNS      []string     `yaml:"dns"`
	NTP      []string     `yaml:"ntp"`
	Domain   string       `yaml:"domain"`
	Search   []string     `yaml:"search"`
	MTU      int          `yaml:"mtu"`
	Routes   []string     `yaml:"routes"`    // network via gateway
	MSRoutes bool         `yaml:"ms_routes"` // the routes as option 249 too
	Options  []optionFile `yaml:"options"`
	Server   string       `yaml:"server"`
	BootURL  string       `yaml:"boot_url"`    // http, https: what UEFI HTTP boot gets
	Params   []string     `yaml:"boot_params"` // IPv6: what the boot file is started with

	Lease        string `yaml:"lease"`         // 1h, 30m
	UnknownLease string `yaml:"unknown_lease"` // of machines that nobody has approved
	UnknownShare int    `yaml:"unknown_share"` // percent of the ranges that they have at most
	Probe        *bool  `yaml:"probe"`         // false: offer addresses without asking who is there
	BOOTP        bool   `yaml:"bootp"`
	Menu         bool   `yaml:"menu"`  // its machines show the boot menu
	OOB          bool   `yaml:"oob"`   // BMCs get their addresses here
	SLAAC        bool   `yaml:"slaac"` // IPv6: addresses of their own making too

	Classes      []classFile       `yaml:"classes"`
	Reservations []reservationFile `yaml:"reservations"`
}

type classFile struct {
	Name       string         `yaml:"name"`
	Match      classMatchFile `yaml:"match"`
	Ranges     []string       `yaml:"ranges"`
	Lease      string         `yaml:"lease"`
	Options    []optionFile   `yaml:"options"`
	BootFile   string         `yaml:"boot_file"`   // TFTP name, or URL
	BootServer string         `yaml:"boot_server"` // that has it
}

type classMatchFile struct {
	Vendor    string `yaml:"vendor"`     // start of option 60
	User      string `yaml:"user"`       // one of option 77
	Arch      []int  `yaml:"arch"`       // any of option 93
	MAC       string `yaml:"mac"`        // first bytes: 52:54:00
	CircuitID string `yaml:"circuit_id"` // start of option 82.1
	RemoteID  string `yaml:"remote_id"`  // start of option 82.2
}

type reservationFile struct {
	MAC       string       `yaml:"mac"`
	ClientID  string       `yaml:"client_id"`
	CircuitID string       `yaml:"circuit_id"`
	RemoteID  string       `yaml:"remote_id"`
	Address   string       `yaml:"address"`
	Hostname  string       `yaml:"hostname"`
	Options   []optionFile `yaml:"options"`
}

func (r *reader) subnet(on string, n subnetFile) fleet.Subnet {
	s := fleet.Subnet{
		Name: n.Name, Link: n.Link, Mode: fleet.DHCPMode(n.Mode), Relays: r.addrs(on+".relays", n.Relays),
		Ranges: r.ranges(on+".ranges", n.Ranges), Exclude: r.ranges(on+".exclude", n.Exclude),
		Router: r.addr(on+".router", n.Router), Server: r.addr(on+".server", n.Server),
		DNS: r.addrs(on+".dns", n.DNS), NTP: r.addrs(on+".ntp", n.NTP), Domain: n.Domain, Search: n.Search, BootParams: n.Params,
		MTU: n.MTU, Routes: r.routes(on+".routes", n.Routes), MSRoutes: n.MSRoutes, Options: r.options(on, n.Options),
		Lease: r.lease(on+".lease", n.Lease), UnknownLease: r.lease(on+".unknown_lease", n.UnknownLease), UnknownShare: n.UnknownShare,
		NoProbe: n.Probe != nil && !*n.Probe, BOOTP: n.BOOTP, Menu: n.Menu, OOB: n.OOB, SLAAC: n.SLAAC,
	}
	s.KnownDHCP, s.KnownDUIDs = r.servers(on+".known_dhcp", n.Known)
	switch n.BootURL {
	case "", "http":
	case "https":
		s.BootHTTPS = true
	default:
		r.bad(on+".boot_url", "use http or https", "unknown scheme %q", n.BootURL)
	}
	if s.Mode == "" {
		s.Mode = fleet.Observe
	}
	if s.OOB { // nobody approves BMCs
		s.UnknownShare, s.UnknownLease = cmp.Or(s.UnknownShare, 100), cmp.Or(s.UnknownLease, s.Lease, 3600)
	}
	s.CIDR, _ = netip.ParsePrefix(n.CIDR) // what is not valid, Validate refuses
	if s.CIDR.IsValid() && s.CIDR != s.CIDR.Masked() {
		r.bad(on+".cidr", fmt.Sprintf("write %s", s.CIDR.Masked()), "%s has bits set beyond its prefix", n.CIDR)
	}
	for i, c := range n.Classes {
		s.Classes = append(s.Classes, r.class(fmt.Sprintf("%s.classes[%d]", on, i), c))
	}
	for i, res := range n.Reservations {
		s.Reservations = append(s.Reservations, r.reservation(fmt.Sprintf("%s.reservations[%d]", on, i), res))
	}
	return s
}

func (r *reader) class(on string, c classFile) fleet.DHCPClass {
	return fleet.DHCPClass{
		Name: c.Name, Ranges: r.ranges(on+".ranges", c.Ranges), Lease: r.lease(on+".lease", c.Lease), Options: r.options(on, c.Options),
		BootFile: c.BootFile, BootServer: r.addr(on+".boot_server", c.BootServer),
		Match: fleet.ClassMatch{
			Vendor: c.Match.Vendor, User: c.Match.User, Arch: c.Match.Arch, MACPrefix: strings.ToLower(c.Match.MAC),
			CircuitID: r.bytes(on+".match.circuit_id", c.Match.CircuitID), RemoteID: r.bytes(on+".match.remote_id", c.Match.RemoteID),
		},
	}
}

func (r *reader) reservation(on string, f reservationFile) fleet.Reservation {
	res := fleet.Reservation{
		ClientID: r.bytes(on+".client_id", f.ClientID), CircuitID: r.bytes(on+".circuit_id", f.CircuitID),
		RemoteID: r.bytes(on+".remote_id", f.RemoteID),
		Addr:     r.addr(on+".address", f.Address), Hostname: f.Hostname, Options: r.options(on, f.Options),
	}
	if f.MAC != "" {
		mac, err := fleet.ParseMAC(f.MAC)
		if err != nil {
			r.bad(on+".mac", "write six bytes with colons: 52:54:00:12:34:56", "%q is not a MAC address", f.MAC)
		}
		res.MAC = mac
	}
	return res
}

// bytes reads an identifier: text as it stands, or bytes in hex after 0x. It
// is kept in hex.
func (r *reader) bytes(on, text string) string {
	raw := []byte(text)
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		var err error
		if raw, err = unhex(digits); err != nil {
			r.bad(on, "write bytes as 0x0106ab or 0x01:06:ab, or text as the switch sends it", "%q is not a row of bytes", text)
		}
	}
	if len(raw) > 255 {
		r.bad(on, "", "an identifier of %d bytes; it can have 255", len(raw))
	}
	return hex.EncodeToString(raw)
}

func unhex(digits string) ([]byte, error) {
	return hex.DecodeString(strings.NewReplacer(" ", "", ":", "", "-", "").Replace(digits))
}

func (r *reader) addr(on, text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Is4In6() || addr.Zone() != "" {
		r.bad(on, "write an address such as 10.77.0.1 or fd77::1", "%q is not an IP address", text)
	}
	return addr
}

func (r *reader) addrs(on string, texts []string) (addrs []netip.Addr) {
	for i, text := range texts {
		addrs = append(addrs, r.addr(fmt.Sprintf("%s[%d]", on, i), text))
	}
	return addrs
}

// servers reads what other servers are named by: an address, or the DUID of one
// of IPv6 that is behind relays.
func (r *reader) servers(on string, texts []string) (addrs []netip.Addr, duids []string) {
	for i, text := range texts {
		duid, is := strings.CutPrefix(text, "duid:")
		if !is {
			addrs = append(addrs, r.addr(fmt.Sprintf("%s[%d]", on, i), text))
			continue
		}
		raw, err := unhex(duid)
		if err != nil {
			r.bad(fmt.Sprintf("%s[%d]", on, i), "write the DUID that the alarm names: duid:0003000152540012abcd", "%q is not a DUID", text)
		}
		duids = append(duids, hex.EncodeToString(raw))
	}
	return addrs, duids
}

func (r *reader) ranges(on string, texts []string) (ranges []fleet.AddrRange) {
	for i, text := range texts {
		ranges = append(ranges, r.addrRange(fmt.Sprintf("%s[%d]", on, i), text))
	}
	return ranges
}

func (r *reader) addrRange(on, text string) fleet.AddrRange {
	first, last, two := strings.Cut(text, "-")
	if !two {
		last = first
	}
	a, err1 := netip.ParseAddr(strings.TrimSpace(first))
	b, err2 := netip.ParseAddr(strings.TrimSpace(last))
	if err1 != nil || err2 != nil || a.BitLen() != b.BitLen() || a.Zone()+b.Zone() != "" {
		r.bad(on, "write first and last address: 10.77.0.100-10.77.0.200", "%q is not a range of addresses", text)
	}
	return fleet.AddrRange{First: a, Last: b}
}

func (r *reader) routes(on string, texts []string) (routes []fleet.Route) {
	for i, text := range texts {
		to, via, _ := strings.Cut(text, " via ")
		p, err1 := netip.ParsePrefix(strings.TrimSpace(to))
		a, err2 := netip.ParseAddr(strings.TrimSpace(via))
		if err1 != nil || err2 != nil || !p.Addr().Is4() || !a.Is4() {
			r.bad(fmt.Sprintf("%s[%d]", on, i), "write network and gateway: 10.0.0.0/8 via 10.77.0.1", "%q is not a route", text)
		}
		routes = append(routes, fleet.Route{To: p, Via: a})
	}
	return routes
}

func (r *reader) lease(on, text string) int {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute || d > 30*24*time.Hour {
		r.bad(on, "write a time between 1m and 720h, such as 1h", "%q is not a lease time", text)
	}
	return int(d.Seconds())
}
