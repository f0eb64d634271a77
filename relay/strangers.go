package relay

import (
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/neighbour"
	"github.com/rackstage/provision/pxe/tftp"
)

// seekStrangers notes who asks for boot files by TFTP again and again, and hears
// nothing, because its address is on no subnet that we were told of.
func (r *Relay) seekStrangers(now time.Time, cards func() (map[netip.Addr]string, error)) {
	k := r.known.Load()
	all := r.strangers.Look(now, cards, k.isOnSubnet, k.nodeWith)
	r.trouble(fleet.CodeTFTPStranger, "TFTP", tftp.TellStrangers(all, ""))
}

// nodeWith names the node that a hardware address is of; "": of none.
func (k *knowledge) nodeWith(card string) string {
	if k == nil {
		return ""
	}
	n, _ := k.byMAC.NodeByMAC(fleet.MAC(card))
	return n.Name
}

func (r *Relay) seekStrangersNow() { r.seekStrangers(r.o.Now(), neighbour.Cards) }
