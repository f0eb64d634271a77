package dhcp6

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/dhcp/links"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/repeat"
)

// Courtesy answers Router Solicitations on interfaces with "I am not your
// router" until ctx is done, as [Server.Run] does on networks of IPv4: for a
// relay, whose machines' iPXE would wait for routers just the same. Where
// somebody else advertises it is silent. The subnets of IPv6 that are served
// there it advertises as a server would; alarms are told when it cannot.
func Courtesy(ctx context.Context, interfaces []string, served func() []fleet.Subnet, alarms Alarms, log *slog.Logger) error {
	s, err := New(Options{Interfaces: interfaces, Nodes: nobodyKnown{}, Leases: noLeases{}, Alarms: alarms, Log: log})
	if err != nil {
		return err
	}
	if err := s.beCourteous(served()); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.keep(ctx, nameRouter, s.route); return nil })
	g.Go(func() error {
		repeat.Every(ctx, links.RefreshEvery, func() {
			if err := s.beCourteous(served()); err != nil {
				s.o.Log.WarnContext(ctx, "interfaces not read", "err", err)
			}
		})
		return nil
	})
	return g.Wait()
}

// beCourteous declares what is served, and every IPv4 network of our
// interfaces, so that there is something to be polite about.
func (s *Server) beCourteous(served []fleet.Subnet) error {
	if _, err := s.links.Refresh(); err != nil {
		return err
	}
	subnets := slices.Clone(served)
	for _, l := range s.links.All() {
		for _, p := range l.Prefixes {
			if p.Addr().Is4() {
				subnets = append(subnets, fleet.Subnet{Name: l.Name, CIDR: p.Masked(), Mode: fleet.Reserved})
			}
		}
	}
	s.SetSubnets(subnets)
	return nil
}

type nobodyKnown struct{}

func (nobodyKnown) NodeByMAC(fleet.MAC) (fleet.Node, bool) { return fleet.Node{}, false }

type noLeases struct{}

var errNoLeases = errors.New("a courtesy gives no leases")

func (noLeases) Leases6(context.Context) ([]fleet.Lease6, error)   { return nil, nil }
func (noLeases) SaveLeases6(context.Context, []fleet.Lease6) error { return errNoLeases }
func (noLeases) ForgetLeases6(context.Context, time.Time) error    { return nil }
