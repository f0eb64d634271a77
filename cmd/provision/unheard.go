package main

import (
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	unheardOften = 3                // tries in a row of which no packet was heard
	unheardApart = 20 * time.Second // a machine that hears nothing begins again after that at the earliest
)

// unheardTries are, of each subnet, the last machines that heard no answer to
// their requests by TFTP, with none between that did. A request costs nothing,
// and may come in a machine's name: one says nothing of our network. Nor does a
// machine that was switched off as it asked.
type unheardTries struct {
	mu sync.Mutex
	in map[string][]unheardTry // by declared subnet; unheardOften of each at most
}

type unheardTry struct {
	mac  fleet.MAC
	over time.Time
}

// unheard notes that a machine heard nothing, and reports whether that makes
// too many in a row: three machines, or one of them three times.
func (u *unheardTries) unheard(subnet string, mac fleet.MAC, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	tries := u.in[subnet]
	same := func(t unheardTry) bool { return t.mac == mac && now.Sub(t.over) < unheardApart }
	if len(tries) < unheardOften && !slices.ContainsFunc(tries, same) {
		if u.in == nil {
			u.in = make(map[string][]unheardTry)
		}
		tries = append(tries, unheardTry{mac, now})
		u.in[subnet] = tries
	}
	return len(tries) == unheardOften
}

// heard notes that somebody on a subnet hears us.
func (u *unheardTries) heard(subnet string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.in, subnet)
}
