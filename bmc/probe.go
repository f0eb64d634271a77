package bmc

import (
	"context"

	"github.com/rackstage/provision/fleet"
)

// Found is what a first conversation with a BMC shows.
type Found struct {
	CipherSuite int // to be stored with the BMC and given in [Target]
	Power       fleet.PowerState
}

// Probe signs in to a BMC for the first time and finds out what is to be known
// about it. A wrong password is tried once only, so that nobody is locked out.
func (c *Controller) Probe(ctx context.Context, t Target) (Found, error) {
	const op = "probe BMC of"
	g, err := c.gate(t)
	if err != nil {
		return Found{}, invalid(op, t, err)
	}
	found, err := talk(ctx, c, t, g, func(ctx context.Context, s *session) (Found, error) {
		state, err := s.power(ctx)
		return Found{CipherSuite: int(s.drv.suite), Power: state}, err
	})
	if err != nil {
		return Found{}, trouble(op, t, err)
	}
	return found, nil
}
