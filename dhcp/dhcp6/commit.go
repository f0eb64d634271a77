package dhcp6

import (
	"context"
	"net/netip"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	queueSize   = 1024
	commitSize  = 256
	saveTimeout = 10 * time.Second

	unsavedOn = "IPv6 leases" // what the alarm is about
)

// A committer stores leases, many in one transaction, and then sends the
// answers that waited for them.
type committer struct {
	s     *Server
	send  func([]reply)
	queue chan reply
	sick  bool // the last transaction failed
}

func newCommitter(s *Server, send func([]reply)) *committer {
	return &committer{s: s, send: send, queue: make(chan reply, queueSize)}
}

// add queues a reply. When the store is too slow it is dropped: the client
// will ask again.
func (c *committer) add(r reply) {
	select {
	case c.queue <- r:
	default:
		c.s.stats.dropped.Add(1)
		c.s.book.stored(r.leases, false)
	}
}

func (c *committer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.queue:
			c.commit(ctx, c.fill(r))
		}
	}
}

// giveUp forgets what waits in the queue of a socket that is no more.
func (c *committer) giveUp() {
	for {
		select {
		case r := <-c.queue:
			c.s.book.stored(r.leases, false)
		default:
			return
		}
	}
}

// fill takes what else is waiting.
func (c *committer) fill(first reply) []reply {
	batch := append(make([]reply, 0, commitSize), first)
	for len(batch) < commitSize {
		select {
		case r := <-c.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// commit stores the leases of a batch and sends its packets. If the store
// fails, nobody gets anything new; who renews is told what is on disk.
func (c *committer) commit(ctx context.Context, batch []reply) {
	var all []fleet.Lease6
	for _, r := range batch {
		all = append(all, r.leases...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := c.s.o.Leases.SaveLeases6(ctx, lastOfEach(all))
	c.s.book.stored(all, err == nil)
	c.report(ctx, err)
	if err != nil {
		c.s.stats.unsaved.Add(int64(len(batch)))
		batch = c.meanwhile(batch)
	}
	c.s.stats.replies.Add(int64(len(batch)))
	c.send(batch)
}

// meanwhile returns the answers to those who renew what is on disk for a while
// longer.
func (c *committer) meanwhile(batch []reply) []reply {
	var out []reply
	for _, r := range batch {
		if r.meanwhile == nil {
			continue
		}
		left := time.Duration(1<<63 - 1)
		for _, l := range r.before {
			left = min(left, l.Expires.Sub(c.s.o.Now()))
		}
		if left < time.Minute {
			continue
		}
		if m, ok := r.meanwhile(left); ok {
			out = append(out, m)
		}
	}
	return out
}

// report logs when the store fails, and when it is well again: not each time.
func (c *committer) report(ctx context.Context, err error) {
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	c.s.alarm(err != nil, fleet.CodeLeasesUnsaved, unsavedOn, detail)
	switch {
	case err != nil && !c.sick:
		c.s.o.Log.ErrorContext(ctx, "leases not stored, new clients get no answer", "err", err)
	case err == nil && c.sick:
		c.s.o.Log.InfoContext(ctx, "leases stored again")
	}
	c.sick = err != nil
}

// lastOfEach returns the last lease of each address, in order.
func lastOfEach(leases []fleet.Lease6) []fleet.Lease6 {
	last := make(map[netip.Addr]int, len(leases))
	for i, l := range leases {
		last[l.Addr] = i
	}
	kept := make([]fleet.Lease6, 0, len(last))
	for i, l := range leases {
		if last[l.Addr] == i {
			kept = append(kept, l)
		}
	}
	return kept
}
