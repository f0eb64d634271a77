package dhcp6

import (
	"math"
	"net/netip"
	"time"

	"github.com/rackstage/provision/dhcp/commit"
	"github.com/rackstage/provision/fleet"
)

const (
	queueSize = 1024

	leastSalvage = time.Minute // of a lease is worth an answer

	unsavedOn = "IPv6 leases" // what the alarm is about
)

// A committer sends answers once their leases are on disk.
type committer = commit.Queue[reply, fleet.Lease6]

func newCommitter(s *Server, send func([]reply)) *committer {
	return commit.New(commit.Options[reply, fleet.Lease6]{
		Size:   queueSize,
		Leases: func(to []fleet.Lease6, r *reply) []fleet.Lease6 { return append(to, r.leases...) },
		Addr:   func(l *fleet.Lease6) netip.Addr { return l.Addr },
		Save:   s.save,
		Stored: s.book.stored,
		Send: func(stored []reply) {
			s.stats.replies.Add(int64(len(stored)))
			send(stored)
		},
		Spare: func(unstored []reply) { s.salvage(unstored, send) },
		Sick:  s.unsaved,
		Log:   s.o.Log,
	})
}

// salvage answers those who renew what is on disk for a while longer. The
// others hear nothing.
func (s *Server) salvage(unstored []reply, send func([]reply)) {
	var out []reply
	now := s.o.Now()
	for _, r := range unstored {
		left := time.Duration(math.MaxInt64)
		for _, l := range r.before {
			if left = min(left, l.Expires.Sub(now)); !s.book.has(l) {
				left = 0 // the disk knows of another holder
			}
		}
		if r.meanwhile == nil || left < leastSalvage {
			s.stats.unsaved.Add(1)
			continue
		}
		if m, ok := r.meanwhile(left); ok {
			out = append(out, m)
		}
	}
	s.stats.replies.Add(int64(len(out)))
	send(out)
}

// unsaved raises an alarm for as long as the store fails.
func (s *Server) unsaved(err error) {
	if err == nil {
		s.alarms.Clear(fleet.CodeLeasesUnsaved, unsavedOn)
		return
	}
	s.alarms.Raise(fleet.CodeLeasesUnsaved, unsavedOn, err.Error())
}
