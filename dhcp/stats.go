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
	Remaining int64 // ACKs for what was left of a lease, because the new one could not be stored
	Limited   int64 // packets not read because their sender floods us
	TooLong   int64 // no answer because it would be longer than the client takes
	SendError int64 // the kernel would not send
	Foreign   int64 // requests that chose another server
	Panics    int64 // packets that made us fail; each is a bug

	// Why clients got no answer; each is in Ignored too.
	Exhausted    int64 // no address was free
	ShareUsed    int64 // strangers have their share of the addresses
	ReservedHeld int64 // the reserved address is in another's hands
	UnknownRelay int64
	RelayLoop    int64
	UnknownNet   int64 // no subnet, or no interface that is served
	Observed     int64 // the subnet observes
	Unapproved   int64 // the subnet serves known nodes only
	TooOld       int64 // BOOTP where it is off
	QueryRefused int64 // lease queries of relays that no subnet names
	Elsewhere    int64 // INFORM, RELEASE or DECLINE of an address of another network than the client is on
	NotAnswered  int64 // nothing that a server answers

	Declined     int64 // addresses that clients found in use
	Queries      int64 // lease queries answered
	Probes       int64 // addresses that were asked whether somebody is there
	Conflicts    int64 // of them, somebody was
	ProbeSkipped int64 // offered without asking, because too many came at once
	ProbeForged  int64 // echo replies to what we never asked

	TenantsRefused   int64 // machines said to be at an address of another server, which nobody believes
	TenantsForgotten int64 // before their time, because there were too many
}

type counters struct {
	received, malformed, ignored, offers, acks, naks, proxied                            atomic.Int64
	noAddress, unsaved, dropped, remaining, limited, tooLong, sendError, foreign, panics atomic.Int64
	declined, queries, probes, conflicts, probeSkipped, probeForged                      atomic.Int64
	tenantsRefused                                                                       atomic.Int64

	refused [refusals]atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Received: c.received.Load(), Malformed: c.malformed.Load(), Ignored: c.ignored.Load(),
		Offers: c.offers.Load(), ACKs: c.acks.Load(), NAKs: c.naks.Load(), Proxied: c.proxied.Load(),
		NoAddress: c.noAddress.Load(), Unsaved: c.unsaved.Load(), Dropped: c.dropped.Load(), Remaining: c.remaining.Load(), Limited: c.limited.Load(), TooLong: c.tooLong.Load(),
		SendError: c.sendError.Load(), Foreign: c.foreign.Load(), Panics: c.panics.Load(),
		Exhausted: c.refused[refusedExhausted].Load(), ShareUsed: c.refused[refusedShare].Load(), ReservedHeld: c.refused[refusedReserved].Load(),
		UnknownRelay: c.refused[refusedRelay].Load(), RelayLoop: c.refused[refusedLoop].Load(), UnknownNet: c.refused[refusedNetwork].Load(),
		Observed: c.refused[refusedObserve].Load(), Unapproved: c.refused[refusedUnapproved].Load(), TooOld: c.refused[refusedBOOTP].Load(),
		QueryRefused: c.refused[refusedQuery].Load(), Elsewhere: c.refused[refusedElsewhere].Load(), NotAnswered: c.refused[refusedOther].Load(),
		Declined: c.declined.Load(), Queries: c.queries.Load(), Probes: c.probes.Load(), Conflicts: c.conflicts.Load(), ProbeSkipped: c.probeSkipped.Load(),
		ProbeForged: c.probeForged.Load(), TenantsRefused: c.tenantsRefused.Load(),
	}
}
