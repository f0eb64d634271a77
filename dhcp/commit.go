package dhcp

import (
	"context"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	queueSize   = 4096
	commitSize  = 256
	saveTimeout = 10 * time.Second
)

// A committer stores leases, many in one transaction, and then sends the ACKs
// that waited for them. While one transaction is under way the next one fills
// up: nothing ever waits for company, and under load company is always there.
type committer struct {
	s     *Server
	send  func([]reply)
	queue chan reply
	sick  bool // the last transaction failed
}

func newCommitter(s *Server, send func([]reply)) *committer {
	return &committer{s: s, send: send, queue: make(chan reply, queueSize)}
}

// add queues a reply. When the store is too slow the reply is dropped: the
// client will ask again.
func (c *committer) add(r reply) {
	select {
	case c.queue <- r:
	default:
		c.s.stats.dropped.Add(1)
		c.s.book.stored([]fleet.Lease{r.lease}, false)
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
// fails, nobody hears anything.
func (c *committer) commit(ctx context.Context, batch []reply) {
	all := make([]fleet.Lease, len(batch))
	for i, r := range batch {
		all[i] = r.lease
	}
	// Half a second before the end a lease is stored all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := c.s.o.Leases.SaveLeases(ctx, lastOfEach(all))
	c.s.book.stored(all, err == nil)
	c.report(ctx, err)
	if err != nil {
		c.s.stats.unsaved.Add(int64(len(batch)))
		return
	}
	acks := batch[:0]
	for _, r := range batch {
		if r.packet != nil {
			acks = append(acks, r)
		}
	}
	c.s.stats.acks.Add(int64(len(acks)))
	c.send(acks)
}

// report logs when the store fails, and when it is well again: not each time.
func (c *committer) report(ctx context.Context, err error) {
	switch {
	case err != nil && !c.sick:
		c.s.o.Log.ErrorContext(ctx, "leases not stored, clients get no answer", "err", err)
	case err == nil && c.sick:
		c.s.o.Log.InfoContext(ctx, "leases stored again")
	}
	c.sick = err != nil
}

// lastOfEach returns the last lease of each address, in order.
func lastOfEach(leases []fleet.Lease) []fleet.Lease {
	last := make(map[[4]byte]int, len(leases))
	for i, l := range leases {
		last[l.Addr.As4()] = i
	}
	if len(last) == len(leases) {
		return leases
	}
	kept := make([]fleet.Lease, 0, len(last))
	for i, l := range leases {
		if last[l.Addr.As4()] == i {
			kept = append(kept, l)
		}
	}
	return kept
}
