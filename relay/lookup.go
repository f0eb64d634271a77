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

// lookTime is for names, at a start. Machines wait meanwhile.
const lookTime = 10 * time.Second

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

// find looks a server up, and keeps what it has found for the next start.
func (r *Relay) find(ctx context.Context, host string) (at whereabouts, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	last := r.id.At
	if last.Host != host {
		last = whereabouts{}
	}
	at.Host = host
	var err4, err6 error
	at.Four, err4 = r.lookUp(ctx, "ip4", host, last.Four)
	at.Six, err6 = r.lookUp(ctx, "ip6", host, last.Six) // most have none
	if at != r.id.At && (at.Four.IsValid() || at.Six.IsValid()) {
		r.id.At = at
		if err := r.id.save(); err != nil {
			r.o.Log.WarnContext(ctx, "address of the server not kept: a start without DNS would not find it", "err", err)
		}
	}
	return at, cmp.Or(err4, err6)
}

// lookUp returns the first address of a name, or the last one that it had as
// long as nobody can tell.
func (r *Relay) lookUp(ctx context.Context, family, host string, last netip.Addr) (netip.Addr, error) {
	addrs, err := r.names.LookupNetIP(ctx, family, host)
	if len(addrs) > 0 {
		return addrs[0].Unmap(), nil
	}
	if failed, ok := errors.AsType[*net.DNSError](err); ok && !failed.IsNotFound && last.IsValid() {
		r.o.Log.WarnContext(ctx, "name of the server not looked up: it is taken for where it was", "server", host, "addr", last, "err", err)
		return last, nil
	}
	return netip.Addr{}, err
}
