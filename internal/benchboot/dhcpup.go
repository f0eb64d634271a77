package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/rackstage/provision/internal/mmsg"
)

// dhcpUp waits until one whole exchange worked.
func (l *link) dhcpUp(ctx context.Context, p *process) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	a := exchangeArgs{Server: dhcpServerAddr.Addr(), Relay: dhcpRelayAddr.Addr(), InFlight: 1, For: time.Minute, FirstClient: 1 << 10}
	if err := l.load(ctx, a.For+10*time.Second, "dhcp-up", a, &exchanged{}); err != nil {
		return errors.Join(p.alive(), err)
	}
	return nil
}

// askAgain is when another client asks, if the server has not answered one because
// it is not up yet.
const askAgain = 50 * time.Millisecond

// dhcpUpLoad has one client after the other ask until one has its address. It
// takes next to no CPU, which a server that starts has use for.
func dhcpUpLoad(_ context.Context, raw json.RawMessage) (any, error) {
	x, err := newExchanger(raw)
	if err != nil {
		return nil, err
	}
	defer x.udp.Close()
	in := mmsg.NewReader(64, 1500)
	begin := time.Now()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for now := begin; now.Sub(begin) < x.For; now = <-again.C {
		if c := &x.clients[0]; !c.asks || now.Sub(c.sent) > time.Second {
			x.begin(0, now)
		}
		if err := x.listen(in, now.Add(askAgain)); err != nil && !notUp(err) {
			return x.res, err
		}
		if len(x.took) > 0 {
			break
		}
	}
	return x.result(time.Since(begin))
}

// listen hears answers until there is an address, or until a time.
func (x *exchanger) listen(in *mmsg.Batch, until time.Time) error {
	if err := x.udp.SetReadDeadline(until); err != nil {
		return err
	}
	for len(x.took) == 0 {
		if err := x.flush(); err != nil {
			return err
		}
		n, err := in.Read(x.conn)
		if err != nil {
			return err
		}
		for i := range n {
			x.hear(in.Packet(i), time.Now())
		}
	}
	return nil
}

// notUp reports whether an error is what becomes of asking where nobody listens.
func notUp(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNREFUSED)
}
