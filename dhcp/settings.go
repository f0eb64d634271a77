package dhcp

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// Codes of options that site.yaml has words for.
const (
	codeRouter      = 3
	codeDNS         = 6
	codeHostname    = 12
	codeDomain      = 15
	codeMTU         = 26
	codeNTP         = 42
	codeVendorInfo  = 43
	codeMessage     = 56 // to people, of a NAK
	codeVendorClass = 60
	codeClientID    = 61
	codeSearch      = 119
	codeRoutes      = 121
	codeMSRoutes    = 249
)

const (
	maxAddrs       = 8 // servers of one sort that a client is told of
	namePointer    = 0xc000
	maxNamePointer = 0x3fff
)

// subnetOptions are the options that a subnet says, encoded once. Those that
// are always sent are the first.
func subnetOptions(n fleet.Subnet) (list []fleet.DHCPOption) {
	add := func(code uint8, data []byte) {
		if len(data) > 0 {
			list = append(list, fleet.DHCPOption{Code: code, Data: data})
		}
	}
	if n.Router.Is4() {
		add(codeRouter, n.Router.AsSlice())
	}
	add(codeDNS, addrBytes(n.DNS))
	add(codeNTP, addrBytes(n.NTP))
	add(codeDomain, []byte(n.Domain))
	if n.MTU > 0 && n.MTU <= 65535 {
		add(codeMTU, binary.BigEndian.AppendUint16(nil, uint16(n.MTU))) //nolint:gosec // checked
	}
	add(codeSearch, searchList(n.Search))
	if routes := routeBytes(n); len(routes) > 0 {
		add(codeRoutes, routes)
		if n.MSRoutes {
			add(codeMSRoutes, routes)
		}
	}
	return append(list, n.Options...)
}

func addrBytes(list []netip.Addr) (b []byte) {
	for _, a := range list[:min(len(list), maxAddrs)] {
		if a.Is4() {
			b = append(b, a.AsSlice()...)
		}
	}
	return b
}

// routeBytes encodes static routes (RFC 3442): the length of the prefix, as
// many bytes of it as matter, the gateway. A client that gets them ignores
// option 3, so the way to everywhere is among them.
func routeBytes(n fleet.Subnet) (b []byte) {
	routes := n.Routes
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if len(routes) > 0 && n.Router.Is4() {
		routes = append(slices.Clip(routes), fleet.Route{To: everywhere, Via: n.Router})
	}
	seen := make(map[netip.Prefix]bool, len(routes))
	for _, r := range routes {
		if !r.To.IsValid() || !r.To.Addr().Is4() || !r.Via.Is4() || seen[r.To] {
			continue // what somebody wrote for everywhere comes before the router
		}
		seen[r.To] = true
		to := r.To.Addr().As4()
		b = append(b, byte(r.To.Bits())) //nolint:gosec // at most 32
		b = append(b, to[:(r.To.Bits()+7)/8]...)
		b = append(b, r.Via.AsSlice()...)
	}
	return b
}

// searchList encodes domains as DNS does (RFC 3397): what ends like an earlier
// one points there (RFC 1035 §4.1.4). Nothing points to what points further:
// not every client follows twice.
func searchList(domains []string) (b []byte) {
	at := make(map[string]int)
	for _, domain := range domains {
		name := strings.ToLower(strings.TrimSuffix(domain, "."))
		whole := make(map[string]int)
		for name != "" {
			if old, ok := at[name]; ok {
				b, whole = binary.BigEndian.AppendUint16(b, namePointer|uint16(old)), nil //nolint:gosec // checked
				break
			}
			if whole[name] = len(b); len(b) > maxNamePointer {
				delete(whole, name)
			}
			label, rest, _ := strings.Cut(name, ".")
			label = label[:min(len(label), 63)]
			b = append(b, byte(len(label))) //nolint:gosec // at most 63
			b = append(b, label...)
			name = rest
		}
		if len(whole) > 0 {
			b = append(b, 0)
			maps.Copy(at, whole)
		}
	}
	return b
}

// asked reports whether a client wants an option: it is in its list (option
// 55), or it has none.
func (q *query) asked(code byte) bool {
	list := q.msg.option(55)
	return list == nil || slices.Contains(list, code)
}

// uninvited reports whether a subnet's option goes to clients that did not ask
// for it. Routers and names are what every client takes; a route or a name
// list that nobody reads only takes room.
func uninvited(code byte) bool {
	switch code {
	case codeRouter, codeDNS, codeNTP, codeDomain:
		return true
	default:
		return false
	}
}

// networkOptions are what a client is told of its network: by its subnet, over
// that by its class, its node's pool, and what is reserved for it.
func networkOptions(d *draft, sc *scene) {
	n := sc.subnet
	d.setNumber(1, ^uint32(0)<<(32-n.CIDR.Bits()))
	d.setAddrs(28, broadcastOf(n.CIDR))
	for i := range n.options {
		o := &n.options[i]
		if (uninvited(o.Code) || sc.asked(o.Code)) && !sc.hidden(o.Code) {
			d.set(o.Code, o.Data)
		}
	}
	if sc.class != nil {
		setAll(d, sc.class.Options)
	}
	setAll(d, sc.poolOptions)
	name := sc.node.Name
	if sc.reserved != nil {
		setAll(d, sc.reserved.Options)
		if sc.reserved.Hostname != "" {
			name = sc.reserved.Hostname
		}
	}
	if fleet.ValidName(name) {
		d.setText(codeHostname, name)
	}
}

func setAll(d *draft, options []fleet.DHCPOption) {
	for _, o := range options {
		d.set(o.Code, o.Data)
	}
}

// hidden reports whether an option that a subnet says to everybody is kept
// from this client: in the vendor's options 43 and 60 firmware that boots
// reads something else (RFC 2132 §8.4, PXE 2.1 §2.2). Whoever means such a
// client names it by a class.
func (sc *scene) hidden(code byte) bool {
	return (code == codeVendorInfo || code == codeVendorClass) && sc.boots()
}
