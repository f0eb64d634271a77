package tftp

import (
	"math/rand/v2"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A line is a socket that transfers go over. Each transfer has its own, at a
// port that the kernel draws by lot: nothing else that a client sends back is
// ours to choose. So it is the port that shows an ACK to be of one who hears
// us, not of somebody who sends in the name of another.
type line struct {
	fd   int
	port uint16
	uses int // transfers
	at   int // in loop.lines.list
}

// A switchboard counts lines. Where there are as many as may be, transfers share
// them, and the port is one of many still. A thousand sockets cost more than
// twice as much as a few, as the kernel takes and brings packets of one socket
// many at a time.
type switchboard struct {
	most int64
	open atomic.Int64
}

const mostLines = 128

// plug opens a line; nil when there are as many as may be, or the system gives
// no more.
func (s *switchboard) plug(where site) *line {
	if s.open.Add(1) > s.most {
		s.open.Add(-1)
		return nil
	}
	fd, port, err := where.openLine()
	if err != nil {
		s.open.Add(-1)
		return nil
	}
	return &line{fd: fd, port: port}
}

func (s *switchboard) unplug(n *line) {
	if n == nil {
		return
	}
	_ = unix.Close(n.fd)
	s.open.Add(-1)
}

// lines are those of a loop.
type lines struct {
	byFD map[int]*line
	list []*line
}

func (s *lines) add(n *line) {
	if s.byFD == nil {
		s.byFD = make(map[int]*line)
	}
	n.at = len(s.list)
	s.list = append(s.list, n)
	s.byFD[n.fd] = n
}

func (s *lines) remove(n *line) {
	last := len(s.list) - 1
	s.list[n.at] = s.list[last]
	s.list[n.at].at = n.at
	s.list[last] = nil
	s.list = s.list[:last]
	delete(s.byFD, n.fd)
}

// any returns one that nobody can guess; nil when there is none.
func (s *lines) any() *line {
	if len(s.list) == 0 {
		return nil
	}
	return s.list[rand.IntN(len(s.list))] //nolint:gosec // the generator is ChaCha8
}

// watch has the loop wake up when packets come to a socket.
func (l *loop) watch(fd int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})) //nolint:gosec // descriptors are small
}

// share opens a line that stays: for transfers that get none of their own,
// however many there are at our other addresses.
func (l *loop) share(where site) error {
	fd, port, err := where.openLine()
	if err != nil {
		return err
	}
	l.server.lines.open.Add(1)
	n := &line{fd: fd, port: port, uses: 1}
	l.lines.add(n)
	return l.watch(fd)
}

// connect puts a transfer on a line: the one that was opened for it, or if
// that is nil, one that others have as well.
func (l *loop) connect(t *transfer, own *line) bool {
	switch {
	case l.ask != nil: // all goes over the port of requests
		own = l.base
	case own == nil:
		own = l.lines.any()
	case l.watch(own.fd) != nil:
		l.server.lines.unplug(own)
		own = l.lines.any()
	default:
		l.lines.add(own)
	}
	if own == nil {
		return false
	}
	own.uses++
	t.line = own
	if l.ask == nil && own.uses == 1 {
		t.restart = false // a late ERROR of the one before does not come to a port of its own
	}
	return true
}

// hangUp takes a transfer off its line, and closes that after the last.
func (l *loop) hangUp(t *transfer) {
	n := t.line
	if n == nil {
		return
	}
	t.line = nil
	if n.uses--; n.uses > 0 || n == l.base {
		return
	}
	l.out.flush() // what is to leave by it
	l.lines.remove(n)
	l.server.lines.unplug(n)
}
