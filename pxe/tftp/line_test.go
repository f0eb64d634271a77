package tftp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// loopback is a loop whose goroutine does not run, but whose lines are real.
func loopback(t *testing.T) *loop {
	t.Helper()
	l := idleLoop(t)
	l.site = site{at: netip.MustParseAddrPort("127.0.0.1:0")}
	return l
}

func client(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// Whoever asks for all lines, in however many names, takes them from nobody at
// another address of ours.
func TestLinesAreCountedForEachAddressAndEachClient(t *testing.T) {
	s := newSwitchboard(10_000)
	one, two := site{at: netip.MustParseAddrPort("127.0.0.1:0")}, site{at: netip.MustParseAddrPort("127.0.0.2:0")}
	var open []*line
	plug := func(where site, clients, each int) (n int) {
		for c := range clients {
			for range each {
				if p := s.plug(where, client(c)); p != nil {
					open = append(open, p)
					n++
				}
			}
		}
		return n
	}
	if n := plug(one, 1, 10); n != mostHeld {
		t.Errorf("one client has %d lines, want %d", n, mostHeld)
	}
	if n := plug(one, 100, 1); n != mostOwn-mostHeld {
		t.Errorf("others have %d lines, want %d", n, mostOwn-mostHeld)
	}
	if n := plug(two, 100, 1); n != mostOwn {
		t.Errorf("at another address there are %d, want %d", n, mostOwn)
	}
	for _, p := range open {
		s.unplug(p)
	}
	if s.plugged() != 0 || len(s.held) != 0 {
		t.Errorf("%d lines are open after all were closed, %d holders are known", s.plugged(), len(s.held))
	}
	if n := plug(one, 100, 1); n != mostOwn {
		t.Errorf("then there are %d, want %d", n, mostOwn)
	}
	for _, p := range open[len(open)-mostOwn:] {
		s.unplug(p)
	}
}

// However short descriptors are, there is a line to share.
func TestThereIsALineToShareWhenDescriptorsAreShort(t *testing.T) {
	l := loopback(t)
	l.server.lines.most = 3
	if l.share() == nil || len(l.trunk.lines) != 3 {
		t.Errorf("a trunk has %d lines, want 3", len(l.trunk.lines))
	}
	other := loopback(t)
	other.server.lines.most = 0
	if other.share() == nil || len(other.trunk.lines) != 1 {
		t.Errorf("a trunk has %d lines, want 1", len(other.trunk.lines))
	}
}

func TestATrunkIsDrawnAnewWhenNobodyHasUsedItForLong(t *testing.T) {
	l := loopback(t)
	ports := func() string {
		l.share()
		var all []uint16
		for _, n := range l.trunk.lines {
			all = append(all, n.port)
		}
		return fmt.Sprint(all)
	}
	before := ports()
	if n := len(l.trunk.lines); n != mostShared || l.server.lines.plugged() != n {
		t.Errorf("%d lines, %d open, want %d", n, l.server.lines.plugged(), mostShared)
	}
	if again := ports(); again != before {
		t.Errorf("a second transfer changes ports from %s to %s", before, again)
	}
	l.unshare()
	l.trunk.since = time.Now().Add(-2 * idleTrunk)
	l.rest() // one is still on it
	l.unshare()
	l.rest() // it was used a moment ago
	if len(l.trunk.lines) != mostShared {
		t.Errorf("%d lines are left, want all", len(l.trunk.lines))
	}
	l.trunk.since = time.Now().Add(-2 * idleTrunk)
	l.rest()
	if len(l.trunk.lines) != 0 || len(l.lines) != 0 || l.server.lines.plugged() != 0 {
		t.Errorf("%d lines are left, %d open", len(l.trunk.lines), l.server.lines.plugged())
	}
	if after := ports(); after == before {
		t.Errorf("it has the same ports as before: %s", after)
	}
}

// What is over is not held by one before it that is not.
func TestOneThatIsNeverHeardHoldsNoneThatAreOver(t *testing.T) {
	l := loopback(t)
	first := &transfer{session: newSession(9, 1, true, 0, at(0))}
	l.transfers[peer{}] = first
	l.noteHalfOpen(first)
	for range 1000 {
		l.noteHalfOpen(&transfer{session: newSession(9, 1, true, 0, at(0)), over: true})
	}
	if n := len(l.halfOpen); n > 3 || l.halfOpen[0] != first {
		t.Errorf("%d transfers are held, want the first and a few", n)
	}
}
