// Package tftp hands out boot files by TFTP (RFC 1350, 2347, 2348, 2349),
// read-only.
//
// The protocol is spoken by pin/tftp. In front of it stands a socket of ours
// ([guard]) that looks at each request before a transfer is begun: it drops
// what is malformed, brings options into the form that pin understands, and
// keeps one source, and all together, from holding more transfers than we can
// afford. Which file a name means is decided by [Options.Open], handed in.
package tftp
