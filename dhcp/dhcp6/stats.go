package dhcp6

import "sync/atomic"

// Stats are counters since the start.
type Stats struct {
	Received       int64 // packets read
	Malformed      int64 // not a DHCPv6 request that we could understand
	Ignored        int64 // understood, and silence is the answer
	Advertises     int64
	Replies        int64 // with or without a lease
	NoAddress      int64 // answers without an address, as none was free
	Refused        int64 // answers that deny an address: no binding, wrong link
	Unsaved        int64 // no answer because the lease could not be stored
	Dropped        int64 // no answer because too many leases wait to be stored
	SendError      int64 // the kernel would not send
	Panics         int64 // packets that made us fail; each is a bug
	Solicitations  int64 // for routers, answered
	Advertisements int64 // of ours as a router, periodic ones included
	Limited        int64 // packets over the rate of who sends them
	ForeignRouters int64 // advertisements of others
	ForeignServers int64 // requests that chose another server
	UnknownRelays  int64 // packets of relays that no subnet names
}

type counters struct {
	received, malformed, ignored, advertises, replies, noAddress, refused  atomic.Int64
	unsaved, dropped, sendError, panics                                    atomic.Int64
	solicitations, advertisements, limited, foreignRouters, foreignServers atomic.Int64
	unknownRelays                                                          atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Received: c.received.Load(), Malformed: c.malformed.Load(), Ignored: c.ignored.Load(),
		Advertises: c.advertises.Load(), Replies: c.replies.Load(), NoAddress: c.noAddress.Load(), Refused: c.refused.Load(),
		Unsaved: c.unsaved.Load(), Dropped: c.dropped.Load(), SendError: c.sendError.Load(), Panics: c.panics.Load(),
		Solicitations: c.solicitations.Load(), Advertisements: c.advertisements.Load(),
		Limited: c.limited.Load(), ForeignRouters: c.foreignRouters.Load(), ForeignServers: c.foreignServers.Load(),
		UnknownRelays: c.unknownRelays.Load(),
	}
}
