package lab

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
)

// manySessions is more than any BMC has.
const manySessions = 256

// HoldSessions opens sessions of a machine's BMC by IPMI until it has no more,
// as programs do that never close theirs, and returns how many it held. They
// end with release.
func (r *Rack) HoldSessions(ctx context.Context, name string) (release func(), n int, err error) {
	b, err := r.bay(name)
	if err != nil {
		return nil, 0, err
	}
	var held []*client.Client
	release = func() {
		for _, c := range held {
			_ = c.Close(context.WithoutCancel(ctx)) // the BMC ends what is left
		}
	}
	for len(held) < manySessions {
		c, err := r.ipmiClient(ctx, b.Machine)
		if err != nil {
			release()
			return nil, 0, err
		}
		// Step by step: what go-ipmi's Connect begins with needs no session.
		if _, err := c.OpenSession(ctx); err != nil {
			return release, len(held), ctx.Err()
		}
		held = append(held, c)
		if _, err := c.RAKPMessage1(ctx); err != nil {
			release()
			return nil, 0, fmt.Errorf("open session %d of the BMC of %s: %w", len(held), name, err)
		}
		if _, err := c.RAKPMessage3(ctx); err != nil {
			release()
			return nil, 0, fmt.Errorf("open session %d of the BMC of %s: %w", len(held), name, err)
		}
	}
	return release, len(held), nil
}

// ipmiClient prepares a conversation with a machine's BMC.
func (r *Rack) ipmiClient(ctx context.Context, m Machine) (*client.Client, error) {
	c, err := client.NewClient(m.BMC.Address.String(), 623, m.BMC.Username, m.BMC.Password)
	if err != nil {
		return nil, fmt.Errorf("prepare IPMI to machine %s: %w", m.Name, err)
	}
	inside := rackDialer(func(network, address string) (net.Conn, error) { return r.Dial(ctx, network, address) })
	return c.WithUDPProxy(inside).WithCipherSuiteID(types.CipherSuiteID3).WithTimeout(10 * time.Second), nil
}

// A rackDialer lets the IPMI client reach into the rack.
type rackDialer func(network, address string) (net.Conn, error)

// Dial is what go-ipmi calls.
func (d rackDialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }
