package dhcp6

import (
	"context"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/repeat"
	"github.com/rackstage/provision/pxe"
)

// observe reports what a machine that wants to boot asked, and what came of
// it. What an operating system asks for is no evidence of a boot, nor is what
// a machine asks that hides its MAC.
func (s *Server) observe(sc scene, outcome string) { s.tell(sc, outcome, false) }

// observeGiven is observe for addresses that are given, and the plan with them.
func (s *Server) observeGiven(sc scene, what string) {
	s.tell(sc, what+", "+planText(sc), sc.plan.LeftToHTTP())
}

func (s *Server) tell(sc scene, outcome string, passedOn bool) {
	if sc.boot.Firmware == pxe.NoBoot || sc.mac == "" {
		return
	}
	detail := fmt.Sprintf("%s from %s firmware, arch %d, subnet %s", sc.msg.MessageType, sc.boot.Firmware, sc.boot.Arch, sc.subnet.Name)
	if sc.place.Relay.IsValid() {
		detail += ", relay " + sc.place.Relay.String()
	}
	s.o.Observer.Observe(fleet.Evidence{
		At: s.o.Now(), MAC: sc.mac, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(detail + ": " + outcome), Place: sc.place,
		Firmware: string(sc.boot.Firmware), Platform: string(sc.boot.Platform()), File: sc.plan.File, PassedOn: passedOn,
	})
}

// otherServer notes a client that chose another server. Everybody on the link
// hears it.
func (s *Server) otherServer(sc scene) {
	if sc.msg.MessageType == dhcpv6.MessageTypeRequest {
		s.stats.foreignServers.Add(1)
		s.o.Others.ChosenDUID(sc.server, sc.subnet.Name)
	}
}

// forgetEvery is how often leases that ended long ago are forgotten.
const forgetEvery = 10 * time.Minute

// forget forgets them until ctx is done.
func (s *Server) forget(ctx context.Context) {
	repeat.Every(ctx, forgetEvery, func() {
		if err := s.o.Leases.ForgetLeases6(ctx, s.o.Now().Add(-rememberTime)); err != nil && ctx.Err() == nil {
			s.o.Log.WarnContext(ctx, "old leases not forgotten", "err", err)
		}
	})
}
