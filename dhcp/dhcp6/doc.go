// Package dhcp6 is the IPv6 side of booting: a stateful DHCPv6 server (RFC
// 8415, with the boot options of RFC 5970) and the router advertisements
// without which nobody would ask it.
//
// A packet goes through it as through package dhcp: read, understood (a
// [query]), decided by package pxe, answered. What is its own is who a client
// is. A machine speaks with several voices, each with a DUID of its own:
// firmware, iPXE, the ramdisk, the installed system. They are one machine by
// the MAC address of the card, and get one address, so that what the boot has
// found out about an address stays true. [book] has the rules.
//
// It listens on UDP 547 and on ICMPv6, on the interfaces that it is told.
package dhcp6
