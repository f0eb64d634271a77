// Package foreign finds other DHCP servers, of both families, and other IPv6
// routers on the networks that we serve.
//
// It listens ([tap]): whatever servers say to clients, and routers to all, is
// seen with the hardware address of its sender, whoever it was for. And it asks
// ([probes], [probes6]): every half a minute, and right after the subnets have
// changed, as a machine that does not exist and wants to boot by PXE. It never
// requests what it is offered, so that no lease comes of it.
//
// What answers is in a table ([Watch.Servers]) with its addresses, what it
// offers, and whether it belongs there ([table.judge]). One that does not is an
// alarm for as long as it answers.
package foreign
