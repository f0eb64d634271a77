// Package leasefile reads the lease files of other DHCP servers: dnsmasq, ISC
// dhcpd and Kea (memfile), those of DHCPv4 and of DHCPv6.
//
// [Parse] finds out which of them wrote a file, and returns the leases that
// hold when it was written, one of each address: what stands later in a file
// replaces what stood before. What cannot be taken over is listed with its line
// and the reason; what cannot be understood at all is an error with its line.
package leasefile
