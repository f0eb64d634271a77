package main

import (
	"errors"
	"net/netip"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe/tftp"
)

// segments is httpd.Segments: what relays see is taken for what we would have
// seen ourselves.
type segments struct{ st *station }

// Foreign implements httpd.Segments.
func (s segments) Foreign(relay, subnet string, f api.RelayForeign) {
	mac, err := fleet.ParseMAC(f.MAC)
	if err != nil || s.st.dhcp == nil || s.st.relays.Known(f.Addr) {
		return // of two relays on a network, each hears the other one
	}
	seen := foreign.Server{Addr: f.Addr, MAC: mac, Relay: f.At, Edge: relay}
	switch {
	case f.Router != nil && f.Addr.Is6() && f.Addr.IsLinkLocalUnicast():
		seen.Router, seen.Advert = true, advertOf(*f.Router)
	case f.Router == nil && f.Addr.Is6() == (f.DUID != ""):
		seen.DUID, seen.Full, seen.Proxy, seen.Offers, seen.File = f.DUID, f.Full, f.Proxy, f.Offers, f.File
	default:
		return
	}
	s.st.dhcp.RelayedForeign(subnet, seen)
}

// advertOf reads what a router says as a relay tells it.
func advertOf(r api.RelayRouter) foreign.Advert {
	out := foreign.Advert{Managed: r.Managed, Other: r.Other, Lifetime: r.Lifetime}
	for _, p := range r.Prefixes {
		out.Prefixes = append(out.Prefixes, foreign.Prefix{Prefix: p.Prefix, Auto: p.Auto})
	}
	return out
}

// Transferred implements httpd.Segments.
func (s segments) Transferred(relay string, f api.RelayFetched) {
	s.st.transfers(relay).saw(transferOf(f))
}

// MaxBlock implements httpd.Segments.
func (s segments) MaxBlock(machine netip.Addr) int { return s.st.maxBlock(machine) }

// transferOf reads a transfer as a relay tells it.
func transferOf(f api.RelayFetched) tftp.Transfer {
	t := f.Transfer
	out := tftp.Transfer{
		Client: netip.AddrPortFrom(f.Addr, 0), Local: netip.AddrPortFrom(netip.Addr{}, t.Port), Name: f.File, Size: t.Size, Sent: t.Sent,
		Block: t.Block, Window: t.Window, Packets: t.Packets, Resent: t.Resent, RTT: t.RTT, Duration: t.Duration, Proved: t.Proved,
	}
	switch t.Err {
	case "":
	case api.TransferUnheard:
		out.Err = tftp.ErrUnheard
	case api.TransferLastUnheard:
		out.Err = tftp.ErrLastUnheard
	default:
		out.Err = errors.New(t.Err)
	}
	return out
}
