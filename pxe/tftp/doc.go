// Package tftp hands out boot files by TFTP, read-only: RFC 1350 with the
// options blksize, tsize, timeout and windowsize (RFC 2347, 2348, 2349, 7440).
//
// A [Server] has one goroutine at the port of requests and one, or a few, that
// send: a [loop] owns one socket and all transfers over it, takes ACKs in by
// the batch and sends what they make due by the batch. A transfer costs some
// memory, no descriptor and no goroutine, so thousands of half-open ones stay
// cheap. What a transfer does next is decided by a [session], which knows no
// socket and no clock.
//
// Which file a name means is decided by [Options.Open], handed in. Files that
// many machines load are kept in memory, up to a limit.
//
// Requests in netascii, which no firmware makes, are left to pin/tftp.
package tftp
