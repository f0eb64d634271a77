package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rackstage/provision/fleet"
)

// stillWithin is how long a machine that has begun to boot may ask for nothing.
// Firmware has tested its memory by the time it asks for an address. What it
// asks for next comes within a minute and a half: it asks for its address
// again after 28 s at most and gives up after 61 s, a switch port may need 50 s,
// the slowest loader 13 s, and a megabyte by TFTP over a bad line the same again.
const stillWithin = 5 * time.Minute

// came says how far a boot got before it came to a stand.
var came = map[fleet.Phase]string{
	fleet.PhaseDHCP: "it asked for an address", fleet.PhaseLoader: "it fetched its loader",
	fleet.PhaseScript: "it fetched its script", fleet.PhaseKernel: "it fetched its kernel",
}

// A standstill is a boot that asks for nothing any more. Its machine was told
// "no" once, most often by a server that was being restarted: it has gone on to
// an empty disk, and stands there until somebody switches it.
type standstill struct {
	at  fleet.Phase
	cut bool // nothing was heard of it since this server started
}

func (s *standstill) Error() string {
	return fmt.Sprintf("%s, and then for nothing within %s", came[s.at], stillWithin)
}

// mayStand reports whether a node's boot may have come to a stand in its phase.
// After its script a machine loads kernel and ramdisk: by TFTP nothing is
// heard of that until it is over, and it has its own time (agentWithin, and the
// phase's deadline). What it loaded from a server that was killed is over, but not
// what it loads from elsewhere, of which the server does not hear afterwards.
func (e *Engine) mayStand(n fleet.Node, cut bool) bool {
	switch n.Phase {
	case fleet.PhaseDHCP, fleet.PhaseLoader:
		return true
	case fleet.PhaseScript, fleet.PhaseKernel:
		return cut && !e.loadsElsewhere(n)
	default:
		return false
	}
}

// loadsElsewhere reports whether a machine may have kernel and ramdisk from
// somebody who goes on while no server is there: from who is named in site.yaml,
// unless that is us, else from a relay of ours. A router's DHCP relay sends none.
// While it cannot be told they may not be ours: a cut boot that is taken for a slow one
// costs some minutes, and a slow one that is taken for a cut one would be switched off.
func (e *Engine) loadsElsewhere(n fleet.Node) bool {
	at, subnets := n.Place, e.Site().Subnets
	i := slices.IndexFunc(subnets, func(s fleet.Subnet) bool { return s.Name == at.Subnet })
	switch {
	case i >= 0 && subnets[i].Server.IsValid():
		return e.Addresses == nil || !e.Addresses.Own(subnets[i].Server)
	case e.Relays == nil:
		return at.Relay.IsValid()
	default:
		return e.Relays.AddrOn(at.Subnet).IsValid()
	}
}

// endWhenStill cancels when the machine's boot has come to a stand, or returns
// when ctx is done. Of a boot from a CD image nothing is heard: its BMC reads
// the image whenever it likes.
func (j job) endWhenStill(ctx context.Context, cancel context.CancelCauseFunc) {
	quiet := time.Now() // since then, as far as this server knows
	for rest(ctx, time.Until(quiet.Add(stillWithin))) == nil {
		n, _ := j.e.world.node(j.node)
		asked := j.e.links.of(j.node).lastAsked()
		switch cut := asked.IsZero(); {
		case n.BMC.Boot == fleet.BootMedia:
			return
		case asked.Add(stillWithin).After(time.Now()):
			quiet = asked
		case j.e.mayStand(n, cut):
			cancel(&standstill{n.Phase, cut})
			return
		default:
			quiet = time.Now()
		}
	}
}

// hear notes that the link's machine has asked for something of its boot.
func (l *link) hear(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = at
}

func (l *link) lastAsked() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// byPerson reports whether nobody but a person starts a machine again that is on.
func byPerson(b fleet.BMC) bool {
	return !b.Usable() || b.Via() == fleet.DriverManual || b.Via() == fleet.DriverWOL
}

// sayAnew writes down, in the node's record and in its run, that its boot is
// begun again.
func (j job) sayAnew(ctx context.Context, s *standstill) {
	err := j.e.update(ctx, func(t *tx) error {
		n, err := t.node(j.node)
		if err != nil {
			return err
		}
		text := s.text(n.BMC)
		t.event(fleet.EventUnexpected, n, "engine", text)
		return t.runNode(j.run, j.node, func(rn *fleet.RunNode) {
			if !slices.Contains(rn.Notes, text) {
				rn.Notes = append(slices.Clone(rn.Notes), text)
			}
		})
	})
	if err != nil {
		j.e.Log.ErrorContext(ctx, "what happened to a node not recorded", "node", j.node, "err", err)
	}
}

// text is what people are told of it.
func (s *standstill) text(b fleet.BMC) string {
	far, what := came[s.at]+", and", "it is switched off and on again"
	if s.cut {
		far = "the server was restarted while it booted: " + came[s.at] + " before, and"
	}
	if byPerson(b) {
		what = "somebody is asked to start it again"
	}
	return fmt.Sprintf("%s has asked for nothing in the %d minutes since; %s, which is none of its tries", far, int(stillWithin.Minutes()), what)
}
