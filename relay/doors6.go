package relay

import (
	"context"
	"errors"
	"net"
)

// hear6 opens what machines of IPv6 are heard by, and hears those on all ports.
// What fails is tried again with the next look at the addresses: machines of
// IPv4 need nothing of it.
func (r *Relay) hear6(ctx context.Context, d *doors) {
	reached := r.rules6.server().IsValid()
	if d.dhcp6 != nil && (d.dhcp6.ended.Load() || !reached) {
		_ = d.dhcp6.conn.Close()
		d.dhcp6 = nil
	}
	if !reached { // the server has no IPv6 address, or no more
		d.deaf = ""
		return
	}
	var err error
	if d.dhcp6 == nil {
		d.dhcp6, err = listenDHCP6(ctx)
	}
	if err == nil {
		err = d.dhcp6.hear(r.ports())
	}
	switch {
	case err == nil:
		d.deaf = ""
	case d.deaf != err.Error():
		d.deaf = err.Error()
		r.o.Log.WarnContext(ctx, "dhcpv6 not heard, tried again every two seconds; ipv4 is served", "err", err)
	}
}

// serve6 begins to relay DHCPv6 if that is new.
func (r *Relay) serve6(ctx context.Context, d *doors) {
	s := d.dhcp6
	r.mu.Lock()
	same := r.socket6 == s
	r.socket6 = s
	r.mu.Unlock()
	if same || s == nil {
		return
	}
	d.served.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = s.conn.Close() })()
		defer s.ended.Store(true)
		if err := r.relayDHCP6(ctx, s); err != nil && !errors.Is(err, net.ErrClosed) {
			r.o.Log.ErrorContext(ctx, "dhcpv6 relayed no more, for now", "err", err)
		}
	})
}
