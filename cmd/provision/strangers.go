package main

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/neighbour"
	"github.com/rackstage/provision/internal/repeat"
	"github.com/rackstage/provision/pxe/tftp"
)

// A strangerWatch makes an alarm of machines that ask for boot files by TFTP
// again and again, and get no answer. There is one for each declared subnet and
// one for what is on none, however many addresses ask: of a flood in made-up
// names they cannot be told apart.
type strangerWatch struct {
	asked  *tftp.Strangers
	site   func() fleet.Site
	may    func(netip.Addr) bool // it would be answered now
	cards  func() (map[netip.Addr]string, error)
	node   func(fleet.MAC) (fleet.Node, bool)
	others func() []foreign.Server
	alarms interface {
		Raise(code, on, detail string)
		Clear(code, on string)
	}

	standing map[string]bool // what alarms are about
}

func (st *station) strangerWatch() *strangerWatch {
	return &strangerWatch{
		asked: &st.strangers, site: st.engine.Site, may: st.mayBoot, cards: neighbour.Cards,
		node: st.engine.NodeByMAC, others: st.dhcp.ForeignServers, alarms: st.engine,
	}
}

func (w *strangerWatch) run(ctx context.Context) error {
	repeat.Every(ctx, tftp.StrangersEvery, func() { w.look(time.Now()) })
	return nil
}

// look raises what there is, and ends what is over: who asked has been silent
// for long, or would be answered now.
func (w *strangerWatch) look(now time.Time) {
	where, site := map[string][]tftp.Stranger{}, w.site()
	for _, s := range w.asked.Look(now, w.cards, w.may, w.nodeWith) {
		on := "addresses of no subnet"
		if n, ok := site.SubnetOf(s.Client); ok {
			on = "subnet " + n.Name
		}
		where[on] = append(where[on], s)
	}
	standing := map[string]bool{}
	for on, all := range where {
		standing[on] = true
		w.alarms.Raise(fleet.CodeTFTPStranger, on, tftp.TellStrangers(all, w.giver(on)))
	}
	for on := range w.standing {
		if !standing[on] {
			w.alarms.Clear(fleet.CodeTFTPStranger, on)
		}
	}
	w.standing = standing
}

// nodeWith names the node that a hardware address is of; "": of none.
func (w *strangerWatch) nodeWith(card string) string {
	n, _ := w.node(fleet.MAC(card))
	return n.Name
}

// giver names another server that gives out addresses on a subnet.
func (w *strangerWatch) giver(on string) string {
	others := w.others()
	i := slices.IndexFunc(others, func(s foreign.Server) bool { return s.Full && "subnet "+s.Subnet == on })
	if i < 0 {
		return ""
	}
	return "DHCP server " + others[i].Name() + " gives out addresses there"
}
