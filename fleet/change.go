package fleet

import "net/netip"

// A Hello is what an agent in the ramdisk says first.
type Hello struct {
	Ticket    string
	Key       [32]byte   // SHA-256 of the public key that its certificate will have
	Addr      netip.Addr // that it came from
	Placed    bool       // the address is leased to it, or lies where others give them out
	BootID    string
	MAC       MAC
	UUID      string
	Version   string
	Inventory Inventory
}

// A World is everything that the engine keeps.
type World struct {
	Site    Site
	Nodes   []Node
	Runs    []Run // those that are not over, and the newest of the others
	Tickets []Ticket
	LastSeq int64 // of the events
}

// A Change is what one decision of the engine changes. It is stored whole or
// not at all.
type Change struct {
	Site    *Site // nil: unchanged
	Nodes   []Node
	Runs    []Run
	Tickets []Ticket // new, or redeemed
	Events  []Event  // to append; Seq is set
}
