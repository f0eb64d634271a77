package dhcp

import "sync/atomic"

// Stats are counters since the start.
type Stats struct {
	Received  int64 // packets read
	Malformed int64 // not a DHCP request that we could understand
	Ignored   int64 // understood, and silence is the answer
	Offers    int64
	ACKs      int64
	NAKs      int64
	Proxied   int64 // boot information given beside another server
	NoAddress int64 // silence because no address was free
	Unsaved   int64 // no ACK because the lease could not be stored
	Dropped   int64 // no ACK because too many leases wait to be stored
	TooLong   int64 // no answer because it would be longer than the client takes
	SendError int64 // the kernel would not send
	Foreign   int64 // requests that chose another server
	Panics    int64 // packets that made us fail; each is a bug
}

type counters struct {
	received, malformed, ignored, offers, acks, naks, proxied        atomic.Int64
	noAddress, unsaved, dropped, tooLong, sendError, foreign, panics atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Received: c.received.Load(), Malformed: c.malformed.Load(), Ignored: c.ignored.Load(),
		Offers: c.offers.Load(), ACKs: c.acks.Load(), NAKs: c.naks.Load(), Proxied: c.proxied.Load(),
		NoAddress: c.noAddress.Load(), Unsaved: c.unsaved.Load(), Dropped: c.dropped.Load(), TooLong: c.tooLong.Load(),
		SendError: c.sendError.Load(), Foreign: c.foreign.Load(), Panics: c.panics.Load(),
	}
}
