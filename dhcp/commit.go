package dhcp

import (
	"net/netip"
	"time"

	"github.com/rackstage/provision/dhcp/commit"
	"github.com/rackstage/provision/fleet"
)

const (
	queueSize = 4096

	leastSalvage = time.Minute      // of a lease is worth an answer
	reservedTime = 10 * time.Minute // of an address that is reserved: nobody else can have it

	unsavedOn = "the leases of this server" // what the alarm is about
)

// A committer sends ACKs once their leases are on disk.
type committer = commit.Queue[reply, fleet.Lease]

func newCommitter(s *Server, send func([]reply)) *committer {
	return commit.New(commit.Options[reply, fleet.Lease]{
		Size:   queueSize,
		Leases: func(to []fleet.Lease, r *reply) []fleet.Lease { return append(to, r.lease) },
		Addr:   func(l *fleet.Lease) netip.Addr { return l.Addr },
		Save:   s.save,
		Stored: s.book.stored,
		Send:   func(stored []reply) { s.acknowledge(stored, send) },
		Spare:  func(unstored []reply) { s.salvage(unstored, send) },
		Sick:   s.unsaved,
		Log:    s.o.Log,
	})
}

// commit lets an answer go once its lease is on disk. When too many wait for
// that, there is no answer: the client will ask again.
func (s *Server) commit(c *committer, r reply) {
	if !c.Add(r) {
		s.stats.dropped.Add(1)
	}
}

// acknowledge sends the ACKs for leases that are on disk.
func (s *Server) acknowledge(stored []reply, send func([]reply)) {
	acks := stored[:0]
	for _, r := range stored {
		if r.packet != nil {
			acks = append(acks, r)
		}
	}
	s.stats.acks.Add(int64(len(acks)))
	send(acks)
}

// salvage answers clients whose leases could not be stored, for as long as
// they are safe all the same: until what is on disk ends, or for a while where
// an address is reserved. The others hear nothing.
func (s *Server) salvage(unstored []reply, send func([]reply)) {
	var acks []reply
	now := s.book.instant()
	for _, r := range unstored {
		left := r.safeUntil.since(now)
		if r.packet == nil || left < leastSalvage || !setLeaseTime(r.packet, left) {
			s.stats.unsaved.Add(1)
			continue
		}
		acks = append(acks, r)
	}
	s.stats.remaining.Add(int64(len(acks)))
	s.stats.acks.Add(int64(len(acks)))
	send(acks)
}

// unsaved raises an alarm for as long as the store fails.
func (s *Server) unsaved(err error) {
	if err == nil {
		s.alarms.Clear(fleet.CodeLeasesUnsaved, unsavedOn)
		return
	}
	s.alarms.Raise(fleet.CodeLeasesUnsaved, unsavedOn, err.Error())
}
