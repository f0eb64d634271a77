package relay

import (
	"context"
	"errors"
	"net"

	"github.com/rackstage/provision/fleet"
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
	err := errNoServer6
	if reached {
		err = d.listen6(ctx, r.ports())
	}
	r.troubleOf(fleet.CodeRelayNoIPv6, "DHCPv6", err)
	switch {
	case err == nil, !reached && len(r.advertised()) == 0:
		d.deaf = ""
	case d.deaf != err.Error():
		d.deaf = err.Error()
		r.o.Log.WarnContext(ctx, "dhcpv6 not heard, tried again every two seconds; ipv4 is served", "err", err)
	}
}

var errNoServer6 = errors.New("the server's name has no IPv6 address, see --dhcp6-server")

func (d *doors) listen6(ctx context.Context, ports []port) (err error) {
	if d.dhcp6 == nil {
		if d.dhcp6, err = listenDHCP6(ctx); err != nil {
			return err
		}
	}
	return d.dhcp6.hear(ports)
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
