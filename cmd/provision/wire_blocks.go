package main

import (
	"fmt"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// smallBlock is what every firmware and every way to it takes (RFC 1350).
const smallBlock = 512

// stalled learns from a machine that agreed to large TFTP blocks and never got
// one: next time its model gets small ones. Unlike a loader that does not start,
// there is nothing to try instead and nothing to forgive: small blocks always work,
// and cost a second. Who knows better declares block_size.
func (l *lessons) stalled(mac fleet.MAC, block int) {
	n, _ := l.engine.NodeByMAC(mac)
	model := pxe.ModelOf(mac, n, "")
	l.mu.Lock()
	lesson, _ := l.book.of(model)
	news := lesson.BlockSize == 0
	if news {
		lesson.BlockSize = smallBlock
		l.book.keep(lesson)
	}
	l.mu.Unlock()
	if !news {
		return
	}
	text := fmt.Sprintf("no TFTP block of %d bytes came through to it; %s gets blocks of %d next time", block, pxe.ModelName(model), smallBlock)
	l.engine.Observe(fleet.Evidence{At: time.Now(), MAC: mac, Phase: fleet.PhaseDHCP, Detail: fleet.CleanText(text)})
	l.log.Warn("TFTP blocks did not come through", "mac", mac, "model", pxe.ModelName(model), "block", block, "next", smallBlock)
}

// block is the largest TFTP block that comes through to a machine, as far as that
// was learned of its model or of itself; 0: whatever it asks for.
func (l *lessons) block(mac fleet.MAC, n fleet.Node) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, model := range []fleet.Quirk{pxe.ModelOf(mac, n, ""), pxe.ModelOf(mac, fleet.Node{}, "")} {
		if lesson, ok := l.book.of(model); ok && lesson.BlockSize > 0 {
			return lesson.BlockSize
		}
	}
	return 0
}
