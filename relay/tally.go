package relay

import (
	"sync"
	"sync/atomic"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
	"github.com/rackstage/provision/internal/throttle"
	"github.com/rackstage/provision/pxe/tftp"
)

// A tally counts what all doors refuse, also those that are closed by now.
type tally struct {
	ends                         bootfile.Ends
	notFound, badMethods, panics atomic.Int64

	files, agents atomic.Pointer[throttle.Doorkeeper] // nil before the doors are open

	mu   sync.Mutex
	open map[*tftp.Server]bool
	over fleet.RelayTFTP // of those that are closed
}

// opened counts what a server of TFTP counts, until closed is called, and what
// it has counted then.
func (t *tally) opened(s *tftp.Server) (closed func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[*tftp.Server]bool{}
	}
	t.open[s] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, s)
		t.over = t.over.Plus(countsOf(s))
	}
}

func (t *tally) tftp() api.RelayTFTP {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.over
	for s := range t.open {
		sum = sum.Plus(countsOf(s))
	}
	return api.RelayTFTP(sum)
}

func countsOf(server *tftp.Server) fleet.RelayTFTP {
	s := server.Stats()
	return fleet.RelayTFTP{
		Done: s.Done, Failed: s.Failed, Unheard: s.Unheard, NotFound: s.NotFound, Refused: s.Refused, Malformed: s.Malformed,
		Writes: s.Writes, Strangers: s.Strangers, Capped: s.Capped, Limited: s.Limited, Unread: s.Unread, Shared: s.Shared,
		Stray: s.Stray, Unsent: s.Unsent, Panics: s.Panics,
	}
}

func (t *tally) http() api.RelayHTTP {
	out := api.RelayHTTP{
		NotFound: t.notFound.Load(), BadMethods: t.badMethods.Load(), Panics: t.panics.Load(),
		BadRequests: t.ends.BadRequests.Load(), HeadersTooLarge: t.ends.HeadersTooLarge.Load(),
		SlowHeaders: t.ends.SlowHeaders.Load(), IdleClosed: t.ends.IdleClosed.Load(), StalledReaders: t.ends.StalledReaders.Load(),
	}
	if k := t.files.Load(); k != nil {
		out.ConnsOfAddress, out.ConnsInAll = k.Refused()
		out.ConnsGaveWay, out.ConnsPushedOut = k.GaveWay()
	}
	if k := t.agents.Load(); k != nil {
		ofAddr, inAll := k.Refused()
		gaveWay, pushedOut := k.GaveWay()
		out.AgentConns = ofAddr + inAll + gaveWay + pushedOut
	}
	return out
}
