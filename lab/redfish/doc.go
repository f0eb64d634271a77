// Package redfish is a baseboard controller that speaks Redfish, for tests and
// virtual racks: near enough to DMTF's schemas for a client that was written
// for real ones.
//
// A [Service] shows one or more [System]s. Behind each is a [Machine], which
// really starts, stops and boots what it was told to: [Memory] only remembers,
// the virtual racks of package lab have QEMU. [Listen] puts a service on an
// address, with a certificate that it has signed itself, as BMCs do.
//
// Real services differ and fail in ways that a client has to live with.
// [Faults] are those ways, as data: they can be changed while the service runs.
// Without any, the service does what the schemas say.
package redfish
