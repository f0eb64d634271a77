package dhcp

import (
	"github.com/rackstage/provision/dhcp/usage"
	"github.com/rackstage/provision/fleet"
)

// A SubnetUse says how full the ranges of a subnet are, or those of one of its
// classes.
type SubnetUse = usage.Use

// Subnets returns how full the subnets are.
func (s *Server) Subnets() []SubnetUse { return s.book.use(false) }

// use counts the leases of each shelf; sample adds to what the forecast is made
// from.
func (b *book) use(sample bool) (all []SubnetUse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.now().time()
	for _, l := range b.ledgers {
		for _, sh := range l.shelves {
			if sh.size == 0 {
				continue
			}
			u := SubnetUse{Subnet: l.net.Name, Class: sh.class, Size: sh.size, Strangers: sh.strangers, MostOfThem: sh.share}
			u.Used, u.Declined = sh.inUse.count(now)
			if sample {
				sh.history.Add(u.Used)
			}
			sh.history.Forecast(&u)
			all = append(all, u)
		}
	}
	return all
}

// outOfAddresses raises an alarm: a client got nothing.
func (s *Server) outOfAddresses(sc *scene, why refusal) {
	u := SubnetUse{Subnet: sc.subnet.Name}
	if sc.class != nil && sc.class.shelf > 0 {
		u.Class = sc.class.Name
	}
	switch why {
	case refusedExhausted:
		s.alarms.Raise(fleet.CodePoolExhausted, u.On(), "no address for "+string(sc.mac))
	case refusedShare:
		s.alarms.Raise(fleet.CodeUnknownShare, u.On(), "no address for "+string(sc.mac))
	case refusedReserved:
		s.alarms.Raise(fleet.CodeReservedHeld, sc.who.own.String()+" on subnet "+sc.subnet.Name, "it is reserved for "+string(sc.mac)+", and another has it")
	default: // the others are no trouble of ours
	}
}
