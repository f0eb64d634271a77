package fleet

import "net/netip"

// A Place is where a machine is plugged in, as the DHCP relay in front of it
// says (RFC 3046): known before any program of ours runs on it. The relay is
// a switch or a router of ours, but who forges its packets can say anything.
type Place struct {
	Subnet    string     // name of the subnet
	Relay     netip.Addr // the relay; invalid: the machine is on our own wire
	CircuitID string     // port, as the relay names it; 0x and hex when that is no text
	RemoteID  string     // switch, as the relay names it; likewise
}
