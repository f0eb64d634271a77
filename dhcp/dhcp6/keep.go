package dhcp6

import (
	"context"
	"time"

	"github.com/rackstage/provision/fleet"
)

// retryEvery is how soon a service that could not start is tried again.
const retryEvery = 10 * time.Second

// keep runs a service until ctx is done, again and again when it fails: a host
// without IPv6, or another program on our port, is no reason to end the
// program, which serves IPv4 as well. Where a subnet of IPv6 is declared it is
// an alarm.
func (s *Server) keep(ctx context.Context, name string, service func(context.Context) error) {
	told := ""
	for {
		changed := s.changed()
		err := service(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told {
			told = err.Error()
			s.o.Log.WarnContext(ctx, "not served, IPv4 is as before", "service", name, "err", err)
		}
		if err != nil && s.declares6() {
			s.alarms.Raise(fleet.CodeNoIPv6, name, err.Error())
		}
		retry := time.NewTimer(retryEvery)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-retry.C:
		}
		retry.Stop()
	}
}

// up tells that a service that keep runs has what it needs.
func (s *Server) up(name string) { s.alarms.Clear(fleet.CodeNoIPv6, name) }

// changed returns a channel that is closed when other subnets are declared.
func (s *Server) changed() <-chan struct{} {
	s.subnetMu.RLock()
	defer s.subnetMu.RUnlock()
	return s.moved
}

// declares6 reports whether a subnet of IPv6 is declared.
func (s *Server) declares6() bool {
	for _, n := range s.declared() {
		if n.CIDR.IsValid() && n.CIDR.Addr().Is6() {
			return true
		}
	}
	return false
}

// await6 waits until a subnet of IPv6 is declared: before that its port is
// another's to have.
func (s *Server) await6(ctx context.Context) error {
	for {
		changed := s.changed()
		if s.declares6() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
