package dhcp

import (
	"fmt"
	"net/netip"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// observe reports what a machine that wants to boot asked, and what came of
// it. What an operating system asks for is no evidence of a boot.
func (s *Server) observe(sc *scene, outcome string) { s.tell(sc, outcome, sc.plan.File, false) }

// tell says also which file it was told to load, and whether to go on to HTTP.
func (s *Server) tell(sc *scene, outcome, file string, passedOn bool) {
	if sc.boot.Firmware == pxe.NoBoot {
		return
	}
	detail := fmt.Sprintf("%s from %s firmware, arch %d, subnet %s", sc.kind, sc.boot.Firmware, sc.boot.Arch, sc.subnet.Name)
	if sc.relay.IsValid() {
		detail += ", relay " + sc.relay.String()
	}
	s.o.Observer.Observe(fleet.Evidence{
		At: s.o.Now(), MAC: sc.mac, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(detail + ": " + outcome),
		Place:    sc.place(),
		Firmware: string(sc.boot.Firmware), Platform: string(sc.boot.Platform()), File: file, PassedOn: passedOn,
	})
}

// observeAddr is observe for an address that is given, and the plan with it.
// Most clients are operating systems that renew: no text is made for them.
func (s *Server) observeAddr(sc *scene, what string, addr netip.Addr) {
	if sc.boot.Firmware == pxe.NoBoot {
		return
	}
	s.tell(sc, what+" "+addr.String()+", "+planText(sc), sc.plan.File, sc.plan.LeftToHTTP())
}
