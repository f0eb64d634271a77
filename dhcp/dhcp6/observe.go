package dhcp6

import (
	"context"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

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

// otherServer tells of a client that chose another server, where we are to be
// the only one. Everybody on the link hears it.
func (s *Server) otherServer(sc scene) {
	if sc.subnet.Mode != fleet.Full && sc.subnet.Mode != fleet.Reserved || sc.msg.MessageType != dhcpv6.MessageTypeRequest {
		return
	}
	s.stats.foreignServers.Add(1)
	name := duid(sc.server).hex()
	if mac := duid(sc.server).mac(); mac != "" {
		name = string(mac)
	}
	s.nag(fleet.CodeRogueDHCP, "DHCPv6 server "+name+" on subnet "+sc.subnet.Name, sc.from.Addr().String()+" chose it")
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
		s.alarms.forget(s.o.Now())
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
		s.alarm(full, fleet.CodePoolExhausted, "subnet "+name, text)
		s.alarm(low && !full, fleet.CodePoolForecast, "subnet "+name, text)
	}
}
