package tftp

import (
	"errors"
	"io/fs"
	"sync/atomic"
)

// Stats are counters since the start.
type Stats struct {
	Done    int64 // transfers whose client has all
	Failed  int64 // transfers that broke off
	Unheard int64 // of those, without a single ACK
	Probed  int64 // transfers that the client wanted the size of only
	Running int64 `metric:"gauge"`

	NotFound  int64 // requests for what is not there, or may not be named so
	Refused   int64 // requests for what TFTP is not for
	Malformed int64 // packets that are no request
	Strangers int64 // requests of addresses that are not served
	Panics    int64 // packets and files that made us fail; each is a bug
	Writes    int64 // write requests
	Capped    int64 // requests over a limit of transfers at once
	Limited   int64 // requests of a source that asks too often
	Repeated  int64 // requests that came again
	Unread    int64 // requests that came faster than they could be looked at
	Shared    int64 // transfers that got no port of their own
	Stray     int64 // packets of no transfer
	Unsent    int64 // packets that the kernel would not take

	Bytes, Packets, Resent int64 // of transfers that are over; Bytes are acknowledged ones
}

type counters struct {
	done, failed, unheard, probed, running                                 atomic.Int64
	notFound, refused, malformed, writes, capped, limited, repeated, stray atomic.Int64
	unread, unsent, bytes, packets, resent, strangers, panics, shared      atomic.Int64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{
		Done: c.done.Load(), Failed: c.failed.Load(), Unheard: c.unheard.Load(), Probed: c.probed.Load(), Running: c.running.Load(),
		NotFound: c.notFound.Load(), Refused: c.refused.Load(), Malformed: c.malformed.Load(), Writes: c.writes.Load(),
		Capped: c.capped.Load(), Limited: c.limited.Load(), Repeated: c.repeated.Load(), Stray: c.stray.Load(),
		Unread: c.unread.Load(), Unsent: c.unsent.Load(), Strangers: c.strangers.Load(), Panics: c.panics.Load(), Shared: c.shared.Load(),
		Bytes: c.bytes.Load(), Packets: c.packets.Load(), Resent: c.resent.Load(),
	}
}

// ended counts a transfer that is over.
func (c *counters) ended(t Transfer) {
	c.running.Add(-1)
	c.bytes.Add(t.Sent)
	c.packets.Add(t.Packets)
	c.resent.Add(t.Resent)
	switch {
	case t.Err == nil:
		c.done.Add(1)
	case notThere(t.Err):
		c.notFound.Add(1)
	case errors.Is(t.Err, ErrNotByTFTP):
		c.refused.Add(1)
	case t.Probed():
		c.probed.Add(1)
	default:
		c.failed.Add(1)
		if errors.Is(t.Err, ErrUnheard) {
			c.unheard.Add(1)
		}
	}
}

// notThere reports whether an error is about the name.
func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) }
