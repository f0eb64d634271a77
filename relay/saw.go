package relay

import (
	"errors"
	"io/fs"
	"net/netip"
	"path"
	"slices"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/pxe/tftp"
)

// sawTransfer notes what a machine got by TFTP, or did not: the server makes
// of it what it makes of its own transfers.
func (r *Relay) sawTransfer(t tftp.Transfer) {
	script := slices.Contains([]string{".ipxe", ".cfg"}, path.Ext(t.Name)) && t.Err == nil
	if script || t.Probed() || errors.Is(t.Err, fs.ErrNotExist) || errors.Is(t.Err, fs.ErrInvalid) {
		return
	}
	out := &api.RelayTransfer{
		Port: t.Local.Port(), Size: t.Size, Sent: t.Sent, Block: t.Block, Window: t.Window,
		Packets: t.Packets, Resent: t.Resent, RTT: t.RTT, Duration: t.Duration, Proved: t.Proved,
	}
	switch {
	case t.Err == nil:
	case errors.Is(t.Err, tftp.ErrUnheard):
		out.Err = api.TransferUnheard
	case errors.Is(t.Err, tftp.ErrLastUnheard):
		out.Err = api.TransferLastUnheard
	default:
		out.Err = t.Err.Error()
	}
	r.saw(api.RelayFetched{At: r.o.Now(), Addr: t.Client.Addr(), File: t.Name, By: "TFTP", Transfer: out})
}

// quiet is nobody's alarms: the server raises them.
type quiet struct{}

func (quiet) Raise(_, _, _ string) {}
func (quiet) Clear(_, _ string)    {}

// newWatch finds other DHCP servers on the machines' side. Reports say who
// they are.
func (r *Relay) newWatch() *foreign.Watch {
	return foreign.New(foreign.Options{
		Networks: r.networks, Own: r.isFriend,
		Alarms: quiet{}, Log: r.o.Log, Now: r.o.Now,
	})
}

// isFriend reports whether an address is ours or the server's.
func (r *Relay) isFriend(a netip.Addr) bool {
	return r.isOurs(a) || r.isOurs6(a) || a == r.rules.server().Addr() || a == r.rules6.server().Addr()
}

// networks are our interfaces, as the watch over other servers knows them.
func (r *Relay) networks() (list []foreign.Network) {
	for _, p := range r.ports() {
		if n, ok := foreign.NetworkOf(p.index); ok {
			list = append(list, n)
		}
	}
	return list
}

// foreignNow lists the other servers that answer now, and the routers of links
// on which the server serves IPv6: it knows whether they belong.
func (r *Relay) foreignNow() (list []api.RelayForeign) {
	for _, s := range r.others.Servers() {
		for _, p := range r.ports() {
			if p.name != s.Iface {
				continue
			}
			out := api.RelayForeign{Addr: s.Addr, DUID: s.DUID, MAC: string(s.MAC), Full: s.Full, Proxy: s.Proxy, Offers: s.Offers, File: s.File}
			if s.Router {
				out.At, _ = r.linkOf(p)
				out.Router = routerOf(s.Advert)
			} else if at := p.addrs(); len(at) > 0 {
				out.At = at[0]
			}
			if out.At.IsValid() {
				list = append(list, out)
			}
		}
	}
	return list
}

func routerOf(a foreign.Advert) *api.RelayRouter {
	out := &api.RelayRouter{Managed: a.Managed, Other: a.Other, Lifetime: a.Lifetime}
	for _, p := range a.Prefixes {
		out.Prefixes = append(out.Prefixes, api.RelayPrefix{Prefix: p.Prefix, Auto: p.Auto})
	}
	return out
}
