// Package tftp hands out boot files by TFTP, read-only: RFC 1350 with the
// options blksize, tsize, timeout and windowsize (RFC 2347, 2348, 2349, 7440).
//
// A [Server] has one goroutine at the port of requests and one, or a few, that
// send: a [loop] owns transfers and the sockets that they go over, hears which
// of them have ACKs, and sends what these make due. A transfer costs some
// memory and a [line], no goroutine, so thousands of half-open ones stay cheap.
// What a transfer does next is decided by a [session], which knows no socket
// and no clock.
//
// UDP believes whatever address a packet says it is from. What a client
// acknowledges is no secret, but the port that it acknowledges to is drawn by
// lot for each transfer. Without a line of its own, in single-port mode, an ACK
// draws one block, and proves nothing.
//
// Which file a name means is decided by [Options.Open], handed in. Files that
// many machines load are kept in memory, up to a limit.
//
// Requests in netascii, which no firmware makes, are left to pin/tftp.
package tftp
