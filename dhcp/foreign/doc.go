// Package foreign finds other DHCP servers on the networks that we serve.
//
// It listens ([tap]): every OFFER, ACK and NAK that reaches an interface is
// seen with the hardware address of its sender, whoever it was for. And it
// asks ([probe]): every half a minute, and right after the subnets have
// changed, it sends a DISCOVER of a machine that does not exist and wants to
// boot by PXE, and asks for boot information on port 4011. It never requests
// what it is offered, so that no lease comes of it.
//
// What answers is in a table ([Watch.Servers]) with its addresses, what it
// offers, and whether it belongs there. One that does not is an alarm for as
// long as it answers.
package foreign
