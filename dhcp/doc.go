// Package dhcp is the DHCPv4 server (RFC 2131) that machines boot with.
//
// A packet takes four steps: it is read, in batches, from a socket that says
// which interface it came by; understood ([message], [query]); decided on, with
// leases from memory ([book]) and the boot file from [pxe.Decide]; and answered
// ([draft]).
// Nothing on this way waits for a disk, with one exception: a lease is on
// stable storage before its ACK leaves (package [commit]).
//
// To send one more option, set it on the draft in [Server.build]: with
// [draft.set] and its kin, by code, in any order; and name it in spare when a
// client can boot without it. To read one more, ask [message.option]. Neither
// allocates, and neither knows what an option means.
//
// When leases cannot be stored, nobody gets a new one; who holds one that is on
// disk is answered with what is left of it ([Server.salvage]). Who floods us
// is not heard ([gate]), and where the kernel has no room for answers they are
// dropped, so that no sender of nonsense makes the others wait.
//
// Each subnet has a mode. One that says nothing observes: it listens, notes
// other servers, and answers nobody.
//
// Clients are known by their hardware address, not by the client identifier
// that RFC 2131 §4.2 prefers. A machine boots with three programs one after
// the other (firmware, iPXE, Linux) that each send another identifier, or none;
// they are the same machine and must keep the same address, to which its
// ticket is bound. The identifier is echoed all the same (RFC 6842).
package dhcp
