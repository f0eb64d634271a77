package dhcp6

import (
	"context"
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// observe reports what a machine that wants to boot asked, and what came of
// it. What an operating system asks for is no evidence of a boot, nor is what
// a machine asks that hides its MAC.
func (s *Server) observe(sc scene, outcome string) {
	if sc.boot.Firmware == pxe.NoBoot || sc.mac == "" {
		return
	}
	detail := fmt.Sprintf("%s from %s firmware, arch %d, subnet %s", sc.msg.MessageType, sc.boot.Firmware, sc.boot.Arch, sc.subnet.Name)
	if sc.place.Relay.IsValid() {
		detail += ", relay " + sc.place.Relay.String()
	}
	s.o.Observer.Observe(fleet.Evidence{
		At: s.o.Now(), MAC: sc.mac, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(detail + ": " + outcome), Place: sc.place,
		Firmware: string(sc.boot.Firmware), Platform: string(sc.boot.Platform()), File: sc.plan.File,
	})
}

// maxRelays is how many relays of networks that nobody declared are alarmed
// about; who sends more is lying.
const maxRelays = 64

func (s *Server) unknownRelay(q *query) {
	s.relayMu.Lock()
	defer s.relayMu.Unlock()
	if s.relays[q.link] || len(s.relays) >= maxRelays {
		return
	}
	s.relays[q.link] = true
	s.o.Alarms.Raise(fleet.CodeUnknownRelay, q.link.String(), "relay "+q.place.Relay.String()+" forwards DHCPv6 requests from there")
}

// forgetRelays takes back the alarms about networks that are declared by now.
func (s *Server) forgetRelays() {
	s.relayMu.Lock()
	defer s.relayMu.Unlock()
	for link := range s.relays {
		if _, ok := s.book.subnetOf(link); ok {
			delete(s.relays, link)
			s.o.Alarms.Clear(fleet.CodeUnknownRelay, link.String())
		}
	}
}

const (
	watchEvery  = 30 * time.Second // how soon an operator hears that addresses get scarce
	forgetEvery = 10 * time.Minute
)

// watch raises alarms about pools that fill up, and forgets leases that ended
// long ago.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	forgot := s.o.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.forecast()
		if now := s.o.Now(); now.Sub(forgot) >= forgetEvery {
			forgot = now
			if err := s.o.Leases.ForgetLeases6(ctx, now.Add(-rememberTime)); err != nil && ctx.Err() == nil {
				s.o.Log.WarnContext(ctx, "old leases not forgotten", "err", err)
			}
		}
	}
}

// forecast compares what is in use with what there is.
func (s *Server) forecast() {
	for name, u := range s.book.usage() {
		full := u.size > 0 && u.busy >= u.size
		low := u.size > 0 && u.busy*5 > u.size*4
		text := fmt.Sprintf("%d of %d addresses are in use", u.busy, u.size)
		s.alarm(full, fleet.CodePoolExhausted, name, text)
		s.alarm(low && !full, fleet.CodePoolForecast, name, text)
	}
}

// alarm says only what has changed.
func (s *Server) alarm(on bool, code, name, text string) {
	key := code + " " + name
	if was := s.alarmed[key]; was == on {
		return
	}
	s.alarmed[key] = on
	if on {
		s.o.Alarms.Raise(code, name, text)
		return
	}
	s.o.Alarms.Clear(code, name)
}
