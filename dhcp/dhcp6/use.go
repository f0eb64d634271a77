package dhcp6

import (
	"time"

	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
)

// A SubnetUse says how full a subnet is. Of a subnet with more addresses than
// are kept track of, as many as are.
type SubnetUse = usage.Use

// Subnets returns how full the subnets are.
func (s *Server) Subnets() []SubnetUse { return s.book.use(false) }

// use takes stock of each subnet; sample adds to what the forecast is made
// from.
func (b *book) use(sample bool) (all []SubnetUse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	known := b.history
	b.history = make(map[string]*usage.History, len(b.ledgers))
	for _, l := range b.ledgers {
		h := known[l.subnet.Name]
		if h == nil {
			h = &usage.History{}
		}
		b.history[l.subnet.Name] = h
		if l.use.size == 0 {
			continue
		}
		u := l.takeStock(now)
		if sample {
			h.Add(u.Used)
		}
		h.Forecast(&u)
		all = append(all, u)
	}
	return all
}

//nolint:gosec // no stock is larger than maxPlaces
func (l *ledger) takeStock(now time.Time) SubnetUse {
	l.count(countEvery, now)
	return SubnetUse{
		Subnet: l.subnet.Name, Size: int(l.use.size), Used: int(l.use.busy - l.use.declined), Declined: int(l.use.declined),
		Strangers: int(l.use.unknown), MostOfThem: int(l.share()),
	}
}

// outOfAddresses counts a client that got nothing, and raises an alarm.
func (s *Server) outOfAddresses(sc scene) {
	s.stats.noAddress.Add(1)
	u, ok := s.book.useOf(sc.subnet)
	code := ""
	switch {
	case !ok, u.Size == 0: // it has no ranges
	case u.Free() == 0:
		code = fleet.CodePoolExhausted
	case !sc.known && u.Strangers >= u.MostOfThem:
		code = fleet.CodeUnknownShare
	}
	if code != "" {
		s.alarms.Raise(code, u.On(), "no address for "+fleet.Lease6{MAC: sc.mac, DUID: sc.duid.hex()}.Client())
	}
}

func (b *book) useOf(n fleet.Subnet) (SubnetUse, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledgerOf(n.CIDR.Addr())
	if l == nil {
		return SubnetUse{}, false
	}
	return l.takeStock(b.now()), true
}
