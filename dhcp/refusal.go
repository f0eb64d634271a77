package dhcp

// A refusal is why a client gets no answer, or not what it asked for. Each is
// counted.
type refusal int

const (
	served            refusal = iota
	refusedExhausted          // no address is free
	refusedShare              // strangers have their share of the addresses
	refusedReserved           // what is reserved for it is in another's hands
	refusedRelay              // a relay that is not declared
	refusedLoop               // our own relay: a loop
	refusedNetwork            // a network that is not declared, or a card that is not served
	refusedObserve            // the subnet observes
	refusedUnapproved         // the subnet serves known nodes only
	refusedBOOTP              // no message type, and the subnet does not serve such old clients
	refusedQuery              // a lease query by a relay that no subnet names
	refusedElsewhere          // it says that it has an address of another network than it is on
	refusedOther              // nothing that a server answers
	refusals                  // how many there are
)

// texts are the reasons as evidence has them.
var refusalTexts = [refusals]string{
	refusedExhausted:  "no free address on subnet ",
	refusedShare:      "machines that nobody has approved have their share of the addresses on subnet ",
	refusedReserved:   "the address that is reserved for it is in use on subnet ",
	refusedObserve:    "the subnet observes only: ",
	refusedUnapproved: "not approved, and the subnet serves known nodes only: ",
	refusedBOOTP:      "too old for DHCP, and bootp is off on subnet ",
}
