package dhcp

import (
	"context"
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A SubnetUse says how full the ranges of a subnet are, or those of one of its
// classes.
type SubnetUse struct {
	Subnet   string
	Class    string // "" for the subnet's own ranges
	Size     int    // addresses that can be given
	Used     int    // leased now
	Declined int    // in quarantine: somebody else uses them

	Strangers    int // addresses that machines nobody has approved have, or had last
	MostOfThem   int // how many those may have
	Growth       int // leases more than an hour ago, or than at the start
	FullIn       time.Duration
	FullForecast bool // FullIn says when it is full, if that goes on
}

// Free is how many addresses can be given now.
func (u SubnetUse) Free() int { return max(0, u.Size-u.Used-u.Declined) }

// Percent is how much of it is used.
func (u SubnetUse) Percent() int {
	if u.Size == 0 {
		return 0
	}
	return (u.Used + u.Declined) * 100 / u.Size
}

// on names it in an alarm.
func (u SubnetUse) on() string {
	if u.Class != "" {
		return fmt.Sprintf("subnet %s, class %s", u.Subnet, u.Class)
	}
	return "subnet " + u.Subnet
}

const (
	useEvery    = 10 * time.Second
	sampleEvery = time.Minute
	samplesKept = 61 // an hour of them, and now
	lowPercent  = 80
	wellPercent = 75 // so that an alarm does not come and go with each lease
	manyDecline = 5  // percent of the addresses, and three of them at least: no accident
)

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
			if sh.size > 0 {
				all = append(all, sh.use(l.net.Name, now, sample))
			}
		}
	}
	return all
}

func (sh *shelf) use(subnet string, now time.Time, sample bool) SubnetUse {
	u := SubnetUse{Subnet: subnet, Class: sh.class, Size: sh.size, Strangers: sh.strangers, MostOfThem: sh.share}
	u.Used, u.Declined = sh.inUse.count(now)
	if sample {
		sh.samples = append(sh.samples, u.Used)
		sh.samples = sh.samples[max(0, len(sh.samples)-samplesKept):]
	}
	if n := len(sh.samples); n > 1 {
		u.Growth = u.Used - sh.samples[0]
		if past := time.Duration(n-1) * sampleEvery; u.Growth > 0 {
			u.FullForecast, u.FullIn = true, past*time.Duration(u.Free())/time.Duration(u.Growth)
		}
	}
	return u
}

// watchUse raises alarms before and when addresses run out, until ctx is done.
func (s *Server) watchUse(ctx context.Context) {
	tick := time.NewTicker(useEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.checkUse(i%int(sampleEvery/useEvery) == 0)
		s.hush()
	}
}

// checkUse raises and clears the alarms about how full subnets are.
func (s *Server) checkUse(sample bool) {
	for _, u := range s.book.use(sample) {
		switch percent := u.Percent(); {
		case percent >= lowPercent:
			s.o.Alarms.Raise(fleet.CodePoolForecast, u.on(), u.forecast())
		case percent < wellPercent:
			s.o.Alarms.Clear(fleet.CodePoolForecast, u.on())
		}
		if u.Declined >= 3 && u.Declined*100 >= u.Size*manyDecline {
			s.nag(fleet.CodeDeclines, u.on(), fmt.Sprintf("%d of %d addresses are in quarantine: somebody else uses them", u.Declined, u.Size))
		}
	}
}

// forecast says in words when the addresses run out.
func (u SubnetUse) forecast() string {
	text := fmt.Sprintf("%d of %d addresses are in use (%d %%)", u.Used+u.Declined, u.Size, u.Percent())
	if !u.FullForecast {
		return text + ", and no more than an hour ago"
	}
	return fmt.Sprintf("%s, full in %s at the rate of the last hour", text, roughly(u.FullIn))
}

// roughly writes a time as people say it.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return "a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
}

// outOfAddresses raises an alarm: a client got nothing.
func (s *Server) outOfAddresses(sc *scene, why refusal) {
	on := "subnet " + sc.subnet.Name
	if sc.class != nil && sc.class.shelf > 0 {
		on += ", class " + sc.class.Name
	}
	switch why {
	case refusedExhausted:
		s.nag(fleet.CodePoolExhausted, on, "no address for "+string(sc.mac))
	case refusedShare:
		s.nag(fleet.CodeUnknownShare, on, "no address for "+string(sc.mac))
	case refusedReserved:
		s.nag(fleet.CodeReservedHeld, sc.who.own.String()+" on subnet "+sc.subnet.Name, "it is reserved for "+string(sc.mac)+", and another has it")
	}
}
