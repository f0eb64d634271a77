package relay

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	lookTime    = 10 * time.Second // for names, at a start; machines wait meanwhile
	nameTime    = time.Second      // for names, when the server is dialled
	followEvery = 30 * time.Second // the server is looked up again
)

// whereabouts are the addresses that a server's name led to last. When a site
// gets its power back before its way to the server, nobody knows names: the relay
// starts all the same, and boots the nodes that it knows.
type whereabouts struct {
	Host string     `json:"host"`
	Four netip.Addr `json:"four"`
	Six  netip.Addr `json:"six"`
}

// dhcpServers are where DHCP packets of either family go: the host that
// everything else goes to, unless we are told otherwise. A server that has one
// family only is relayed to in that one.
func (r *Relay) dhcpServers(ctx context.Context) (four, six netip.AddrPort, err error) {
	if four, six = r.o.DHCPServer, r.o.DHCP6Server; four.IsValid() && six.IsValid() {
		return four, six, nil
	}
	u, err := url.Parse(r.id.Server)
	if err != nil {
		return four, six, err
	}
	at, err := r.find(ctx, u.Hostname())
	if !four.IsValid() && at.Four.IsValid() {
		four = netip.AddrPortFrom(at.Four, dhcpPort)
	}
	if !six.IsValid() && at.Six.IsValid() {
		six = netip.AddrPortFrom(at.Six, serverPort6)
	}
	if !four.IsValid() && !six.IsValid() {
		return four, six, &fleet.Error{Kind: fleet.Unreachable, Op: "look up server", On: u.Hostname(), Err: err, Hint: "use its address, or give --dhcp-server"}
	}
	return four, six, nil
}

// find looks a server up, and keeps what it has found for the next start. As
// long as its name leads nowhere, it is where it was.
func (r *Relay) find(ctx context.Context, host string) (at whereabouts, err error) {
	last := r.id.At
	if last.Host != host {
		last = whereabouts{}
	}
	at.Host = host
	var err4, err6 error
	at.Four, err4 = r.lookUp(ctx, "ip4", host, last.Four)
	at.Six, err6 = r.lookUp(ctx, "ip6", host, last.Six) // most have none
	if !at.Four.IsValid() && !at.Six.IsValid() && last.Host != "" {
		at = last
	}
	err = cmp.Or(err4, err6)
	r.tellLost(ctx, host, at, err4, err6)
	if at != r.id.At && (at.Four.IsValid() || at.Six.IsValid()) {
		if failed := r.id.change(func(id *identity) { id.At = at }); failed != nil {
			r.o.Log.WarnContext(ctx, "address of the server not kept: a start without DNS would not find it", "err", failed)
		}
	}
	return at, err
}

// tellLost says once that the name leads nowhere. A family that the server does
// not have is no trouble.
func (r *Relay) tellLost(ctx context.Context, host string, at whereabouts, err4, err6 error) {
	lost := err4 != nil && err6 != nil
	for _, err := range []error{err4, err6} {
		lost = lost || err != nil && !isNotFound(err)
	}
	if lost && !r.lost && (at.Four.IsValid() || at.Six.IsValid()) {
		r.o.Log.WarnContext(ctx, "name of the server not looked up: it is taken for where it was", "server", host, "addr", at.Four, "addr6", at.Six, "err", cmp.Or(err4, err6))
	}
	r.lost = lost
}

// lookUp returns an address of a name: the one that it had, as long as it has
// that or nobody can tell, and else the first.
func (r *Relay) lookUp(ctx context.Context, family, host string, last netip.Addr) (netip.Addr, error) {
	addrs, err := r.names.LookupNetIP(ctx, family, host)
	for i, a := range addrs {
		if addrs[i] = a.Unmap(); addrs[i] == last {
			return last, nil // of several, which come in any order
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs[0], nil
	case isNotFound(err):
		return netip.Addr{}, err
	default:
		return last, err
	}
}

func isNotFound(err error) bool {
	failed, ok := errors.AsType[*net.DNSError](err)
	return !ok || failed.IsNotFound // an address of the other family
}

// follow looks the server up again, and uses what it finds from then on: a
// server that has moved is followed.
func (r *Relay) follow(ctx context.Context) {
	looking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r.finding.Lock()
	defer r.finding.Unlock()
	four, six, err := r.dhcpServers(looking)
	if err != nil || ctx.Err() != nil {
		return
	}
	moved := r.rules.moved(four)
	if r.rules6.moved(six) || moved {
		r.o.Log.InfoContext(ctx, "server has moved", "server", r.id.Server, "dhcp", four, "dhcp6", six)
		r.link.close() // the connections that nobody uses lead to where it was
	}
}

// dial connects to the server by its name, and as long as that leads nowhere to
// the addresses that it had.
func (id *identity) dial(d *net.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		last := id.whereIs(host)
		if err != nil || len(last) == 0 {
			return d.DialContext(ctx, network, addr)
		}
		looking, cancel := context.WithTimeout(ctx, nameTime)
		_, err = d.Resolver.LookupNetIP(looking, "ip", host)
		cancel()
		if err == nil {
			return d.DialContext(ctx, network, addr)
		}
		for _, at := range last {
			conn, failed := d.DialContext(ctx, network, net.JoinHostPort(at.String(), port))
			if failed == nil {
				return conn, nil
			}
			err = errors.Join(err, failed)
		}
		return nil, err
	}
}

// whereIs are the addresses that a host had last.
func (id *identity) whereIs(host string) (list []netip.Addr) {
	id.mu.Lock()
	defer id.mu.Unlock()
	for _, a := range []netip.Addr{id.At.Four, id.At.Six} {
		if id.At.Host == host && a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}
