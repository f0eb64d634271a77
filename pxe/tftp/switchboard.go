package tftp

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// A switchboard counts lines. Those of their own are counted for each address
// of ours, as whoever can send to one takes none from who asks another, and for
// each client: firmware loads one file after the other.
type switchboard struct {
	most   int // in all, so far as that leaves one of each trunk
	own    int // of their own, at each address of ours
	shared int // at each address of ours

	mu   sync.Mutex
	open int
	held map[holder]int // of their own
}

// A holder is who has lines of its own: a client at an address of ours, or all
// clients there.
type holder struct{ ours, client netip.Addr }

const (
	mostOwn    = 64 // at each address of ours
	mostShared = 64 // so of that many blind ACKs one draws a block
	mostHeld   = 4  // by one client, that are its own
)

// newSwitchboard makes one for so many descriptors.
func newSwitchboard(some int) switchboard {
	return switchboard{most: some, own: min(mostOwn, some/4), shared: min(mostShared, some/4), held: make(map[holder]int)}
}

// plug opens a line for one transfer; nil when there are as many as may be, or
// the system gives no more.
func (s *switchboard) plug(where site, client netip.Addr) *line {
	of := holder{where.at.Addr(), client}
	if !s.take(of) {
		return nil
	}
	return s.opened(where, of)
}

// plugShared opens a line for many. Where descriptors are short, a first one
// is opened all the same.
func (s *switchboard) plugShared(where site, first bool) *line {
	s.mu.Lock()
	ok := first || s.open < s.most
	if ok {
		s.open++
	}
	s.mu.Unlock()
	if !ok {
		return nil
	}
	return s.opened(where, holder{})
}

func (s *switchboard) opened(where site, of holder) *line {
	fd, port, err := where.openLine()
	if err != nil {
		s.give(of)
		return nil
	}
	return &line{fd: fd, port: port, of: of}
}

func (s *switchboard) unplug(n *line) {
	_ = unix.Close(n.fd)
	s.give(n.of)
}

func (s *switchboard) take(of holder) bool {
	all := holder{ours: of.ours}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.most || s.held[all] >= s.own || s.held[of] >= mostHeld {
		return false
	}
	s.open++
	s.held[all]++
	s.held[of]++
	return true
}

func (s *switchboard) give(of holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if (of == holder{}) {
		return
	}
	for _, h := range []holder{of, {ours: of.ours}} {
		if s.held[h]--; s.held[h] <= 0 {
			delete(s.held, h)
		}
	}
}

// plugged is how many lines are open.
func (s *switchboard) plugged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}
