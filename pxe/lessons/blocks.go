package lessons

import (
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// blockLessons are the lessons that say which TFTP blocks a machine gets: that
// of its model and its own.
func blockLessons(mac fleet.MAC, n fleet.Node) []fleet.Quirk {
	own, model := pxe.ModelOf(mac, fleet.Node{}, ""), pxe.ModelOf(mac, n, "")
	if model == own {
		return []fleet.Quirk{own}
	}
	return []fleet.Quirk{model, own}
}

// Stalled learns from a machine that agreed to large TFTP blocks and never got
// one. Unlike a loader that does not start, there is nothing to try instead: small
// blocks always work, and cost a second. Who knows better declares block_size.
func (l *Learner) Stalled(mac fleet.MAC, block int) {
	n, _ := l.boots.NodeByMAC(mac)
	now := time.Now()
	who := l.learnStall(fleet.BootMark{MAC: mac, At: now}, n)
	if who == "" {
		return
	}
	text := fmt.Sprintf("no TFTP block of %d bytes came through to it; %s gets blocks of %d next time", block, who, pxe.SmallBlock)
	l.boots.Observe(fleet.Evidence{At: now, MAC: mac, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(text)})
	l.log.Warn("TFTP blocks did not come through", "mac", mac, "block", block, "who", who, "next", pxe.SmallBlock)
}

// learnStall returns who gets small blocks from now on; "" when nobody does who
// did not before.
func (l *Learner) learnStall(s fleet.BootMark, n fleet.Node) (who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, model := range blockLessons(s.MAC, n) {
		lesson, _ := l.book.of(model)
		after, news := pxe.Stalled(lesson, s)
		l.book.keep(after)
		if news && who == "" {
			who = pxe.ModelName(model)
		}
	}
	return who
}

// Flowed forgets that, where large blocks do come through.
func (l *Learner) Flowed(mac fleet.MAC) {
	n, _ := l.boots.NodeByMAC(mac)
	l.learnFlow(mac, n)
}

func (l *Learner) learnFlow(mac fleet.MAC, n fleet.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, model := range blockLessons(mac, n) {
		if lesson, _ := l.book.of(model); len(lesson.Stalls) > 0 {
			lesson.Stalls = nil
			l.book.keep(lesson)
		}
	}
}

// block is the largest TFTP block that comes through to a machine, as far as that
// was learned, and from whom; 0: whatever it asks for. The caller holds mu.
func (l *Learner) block(mac fleet.MAC, n fleet.Node) (size int, from fleet.Quirk) {
	for _, model := range blockLessons(mac, n) {
		if lesson, ok := l.book.of(model); ok {
			if size := pxe.BlockOf(lesson, time.Now()); size > 0 {
				return size, model
			}
		}
	}
	return 0, fleet.Quirk{}
}

// blockReason says for people why a machine gets small blocks; "" when it gets
// what it asks for. The caller holds mu.
func (l *Learner) blockReason(mac fleet.MAC, n fleet.Node) string {
	size, from := l.block(mac, n)
	switch {
	case size == 0:
		return ""
	case pxe.IsModel(from):
		return fmt.Sprintf("TFTP blocks of %d, learned: larger ones did not come through to two of this model", size)
	default:
		return fmt.Sprintf("TFTP blocks of %d, learned: larger ones did not come through to this machine", size)
	}
}
