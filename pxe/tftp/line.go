package tftp

import (
	"os"

	"golang.org/x/sys/unix"
)

// A line is a socket that transfers go over, at a port that the kernel draws by
// lot: nothing else that a client sends back is ours to choose. So where a
// transfer has a line of its own, it is the port that shows an ACK to be of one
// who hears us, not of somebody who sends in the name of another.
type line struct {
	fd   int
	port uint16
	of   holder // whose own it is; zero: several share it, or it is the port of requests
}

// own reports whether no other transfer goes over a line, nor ever did. Nobody
// but the client of that one has heard of its port.
func (n *line) own() bool { return n.of != holder{} }

// watch has the loop wake up when packets come to a socket.
func (l *loop) watch(fd int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})) //nolint:gosec // descriptors are small
}

// join has a loop take in packets of a line; if it cannot, that is closed.
func (l *loop) join(n *line) bool {
	if l.watch(n.fd) != nil {
		l.server.lines.unplug(n)
		return false
	}
	l.lines[n.fd] = n
	return true
}

// drop closes a line.
func (l *loop) drop(n *line) {
	delete(l.lines, n.fd)
	l.server.lines.unplug(n)
}

// connect puts a transfer on a line: the one that was opened for it, or if
// that is nil, one that others have as well.
func (l *loop) connect(t *transfer, own *line) bool {
	switch {
	case l.ask != nil: // all goes over the port of requests
		t.line = l.base
	case own != nil && l.join(own):
		t.line = own
		t.restart = false // a late ERROR of the one before does not come to a port of its own
	default:
		l.server.stats.shared.Add(1)
		t.line = l.share()
	}
	return t.line != nil
}

// hangUp takes a transfer off its line.
func (l *loop) hangUp(t *transfer) {
	n := t.line
	t.line = nil
	switch {
	case n == nil, n == l.base:
	case n.own():
		l.out.flush() // what is to leave by it
		l.drop(n)
	default:
		l.unshare()
	}
}
