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

	leastSalvage = time.Minute      // of a lease is worth an answer
	reservedTime = 10 * time.Minute // of an address that is reserved: nobody else can have it
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

// commit stores the leases of a batch and sends its packets.
func (c *committer) commit(ctx context.Context, batch []reply) {
	// Half a second before the end a lease is stored all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	c.save(ctx, batch)
}

// save stores the leases of a batch. If the store fails, only those are
// answered who need nothing new stored: see [salvage]. If it refuses a lease,
// that one alone is lost: the batch is halved until the others are stored.
func (c *committer) save(ctx context.Context, batch []reply) {
	all := make([]fleet.Lease, len(batch))
	for i, r := range batch {
		all[i] = r.lease
	}
	err := c.s.o.Leases.SaveLeases(ctx, lastOfEach(all))
	refused := fleet.KindOf(err) == fleet.Invalid
	if half := len(batch) / 2; refused && half > 0 {
		c.save(ctx, batch[:half])
		c.save(ctx, batch[half:])
		return
	}
	c.s.book.stored(all, err == nil)
	if refused {
		c.s.o.Log.ErrorContext(ctx, "lease refused by the store", "mac", all[0].MAC, "addr", all[0].Addr, "err", err)
	} else {
		c.report(ctx, err)
	}
	if err != nil {
		c.salvage(batch)
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

// salvage answers clients whose leases could not be stored, for as long as
// they are safe all the same: until what is on disk ends, or for a while where
// an address is reserved. The others hear nothing.
func (c *committer) salvage(batch []reply) {
	var acks []reply
	now := c.s.book.instant()
	for _, r := range batch {
		left := r.safeUntil.since(now)
		if r.packet == nil || left < leastSalvage || !setLeaseTime(r.packet, left) {
			c.s.stats.unsaved.Add(1)
			continue
		}
		acks = append(acks, r)
	}
	c.s.stats.remaining.Add(int64(len(acks)))
	c.s.stats.acks.Add(int64(len(acks)))
	c.send(acks)
}

// unsavedOn is what the alarm is about.
const unsavedOn = "the leases of this server"

// report raises an alarm for as long as the store fails. It logs when that
// begins and when it is over: not each time.
func (c *committer) report(ctx context.Context, err error) {
	switch {
	case err != nil && !c.sick:
		c.s.o.Log.ErrorContext(ctx, "leases not stored, no new ones are given", "err", err)
	case err == nil && c.sick:
		c.s.o.Log.InfoContext(ctx, "leases stored again")
		c.s.settle(fleet.CodeLeasesUnsaved, unsavedOn)
	}
	if err != nil {
		c.s.nag(fleet.CodeLeasesUnsaved, unsavedOn, err.Error())
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
