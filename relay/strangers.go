package relay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/neighbour"
	"github.com/rackstage/provision/pxe/tftp"
)

const lookForStrangers = 10 * time.Second

// seekStrangers notes who asks for boot files by TFTP again and again, and hears
// nothing, because its address is on no subnet that we were told of.
func (r *Relay) seekStrangers(now time.Time, cards func() (map[netip.Addr]string, error)) {
	if r.strangers.Some() {
		known, _ := cards() // without them addresses are named
		r.strangers.Near(known)
	}
	k := r.known.Load()
	all := slices.DeleteFunc(r.strangers.List(now), func(s tftp.Stranger) bool { return k.isOnSubnet(s.Client) })
	if k != nil && len(all) > 0 {
		if n, ok := k.byMAC.NodeByMAC(fleet.MAC(all[0].Card)); ok && n.Name != "" {
			all[0].Card += ", node " + n.Name
		}
	}
	r.trouble(fleet.CodeTFTPStranger, "TFTP", tftp.TellStrangers(all, ""))
}

func (r *Relay) seekStrangersNow() { r.seekStrangers(r.o.Now(), neighbour.Cards) }
