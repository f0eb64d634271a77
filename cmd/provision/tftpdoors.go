package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// followAddrs is how often the addresses of the served interfaces are read.
const followAddrs = 5 * time.Second

// tftpDoors are the sockets of TFTP: one for each address of the served
// interfaces, as these come and go.
type tftpDoors struct {
	interfaces []string
	serve      func(context.Context, net.PacketConn) error // closes the socket in the end
	log        *slog.Logger

	group *errgroup.Group
	at    map[netip.Addr]tftpDoor
}

type tftpDoor struct {
	stop context.CancelFunc
	over chan struct{} // closed when it serves no more
}

// run serves on the sockets that were opened at the start, and follows the
// addresses until ctx is done.
func (d *tftpDoors) run(ctx context.Context, conns []net.PacketConn) error {
	d.group, ctx = errgroup.WithContext(ctx)
	d.at = map[netip.Addr]tftpDoor{}
	for _, c := range conns {
		d.open(ctx, c)
	}
	tick := time.NewTicker(followAddrs)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return d.group.Wait()
		case <-tick.C:
			d.look(ctx)
		}
	}
}

func (d *tftpDoors) open(ctx context.Context, c net.PacketConn) {
	at, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil { // no address of a UDP socket: it cannot be followed
		d.group.Go(func() error { return d.serve(ctx, c) })
		return
	}
	one, stop := context.WithCancel(ctx)
	door := tftpDoor{stop, make(chan struct{})}
	d.at[at.Addr().Unmap()] = door
	d.group.Go(func() error {
		defer close(door.over)
		if err := d.serve(one, c); err != nil { // its address may have gone already: it is opened again if not
			d.log.ErrorContext(ctx, "tftp ended at an address", "addr", at.Addr(), "err", err)
		}
		return nil
	})
}

// look opens what has come and closes what has gone. An address that cannot be
// opened now is tried again.
func (d *tftpDoors) look(ctx context.Context) {
	now := map[netip.Addr]bool{}
	for _, name := range d.interfaces {
		addrs, _ := addrsOf(name) // gone, or without an address, for the time being
		for _, a := range addrs {
			now[a] = true
		}
	}
	for a, door := range d.at {
		select {
		case <-door.over:
			door.stop() // of its context
			delete(d.at, a)
			continue
		default:
		}
		if !now[a] {
			door.stop()
			delete(d.at, a)
			d.log.InfoContext(ctx, "tftp closed at an address that has gone", "addr", a)
		}
	}
	for a := range now {
		if _, open := d.at[a]; open {
			continue
		}
		c, err := listenTFTPAt(a) //nolint:contextcheck // a listening socket has no context
		if err != nil {
			d.log.WarnContext(ctx, "tftp not opened at a new address", "addr", a, "err", err)
			continue
		}
		d.open(ctx, c)
		d.log.InfoContext(ctx, "tftp opened at a new address", "addr", a)
	}
}
