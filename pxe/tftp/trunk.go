package tftp

import (
	"math/rand/v2"
	"time"
)

// A trunk is the lines of a loop for transfers that get none of their own. A
// thousand sockets cost more than twice as much as a few, as the kernel takes
// and brings packets of one socket many at a time; and whoever wants all the
// lines there are, in whatever names, gets them.
//
// Each client that is on a trunk learns a port, and with patience all of them.
// It does not learn which of them another one's transfer has, not by what is
// open either: all are opened together, and closed together. So of as many
// blind ACKs as there are ports one draws something, and that is one block, as
// there are no windows here. Nor does an ACK prove anything.
type trunk struct {
	lines []*line
	uses  int // transfers
	idle  *time.Timer
	since time.Time // it has had no transfers
}

// idleTrunk is how long a trunk stays without transfers. The next has other
// ports. Opening it costs about as much as sending a hundred packets.
const idleTrunk = time.Minute

// share returns a line of the trunk; nil when there is none to be had. Chance
// says which.
func (l *loop) share() *line {
	k := &l.trunk
	if len(k.lines) == 0 {
		for range max(1, l.server.lines.shared/l.beside) {
			n := l.server.lines.plugShared(l.site, len(k.lines) == 0)
			if n == nil {
				break
			}
			if l.join(n) {
				k.lines = append(k.lines, n)
			}
		}
	}
	if len(k.lines) == 0 {
		return nil
	}
	k.uses++
	if k.idle != nil {
		k.idle.Stop()
	}
	return k.lines[rand.IntN(len(k.lines))] //nolint:gosec // the generator is ChaCha8
}

// unshare counts a transfer off the trunk.
func (l *loop) unshare() {
	k := &l.trunk
	if k.uses--; k.uses > 0 {
		return
	}
	k.since = time.Now()
	if k.idle == nil {
		k.idle = time.AfterFunc(idleTrunk, func() { l.post(func(time.Time) { l.rest() }) })
		return
	}
	k.idle.Reset(idleTrunk)
}

// rest closes the trunk, if nobody has needed it for long.
func (l *loop) rest() {
	k := &l.trunk
	if k.uses > 0 || time.Since(k.since) < idleTrunk {
		return
	}
	for _, n := range k.lines {
		l.drop(n)
	}
	k.lines = nil
}
