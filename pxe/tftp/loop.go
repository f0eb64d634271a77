package tftp

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A loop owns sockets and the transfers over them. One goroutine runs it; what
// others have for it, they post.
type loop struct {
	server *Server
	site   site
	base   *line // errors leave by it; the port of requests, if it takes them
	epoll  int
	ask    func(request, *packet, time.Time) // takes requests; nil: they do not belong here
	ctx    context.Context                   //nolint:containedctx // of Serve, for the goroutines that open files
	files  sync.WaitGroup                    // those goroutines

	mu      sync.Mutex
	wake    int // an eventfd; -1 when it is closed
	mail    []func(now time.Time)
	waiting int // requests in mail

	// Of the loop's goroutine alone.
	in        *inbox
	out       *outbox
	events    [256]unix.EpollEvent
	lines     map[int]*line // by descriptor
	trunk     trunk
	beside    int // loops at the same address, with this one
	transfers map[peer]*transfer
	timers    timers
	halfOpen  []*transfer // unheard, oldest first; may hold others as well
}

func (s *Server) newLoop(ctx context.Context, where site) (*loop, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		_ = unix.Close(wake)
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	l := &loop{
		server: s, site: where, epoll: epoll, wake: wake, ctx: ctx,
		in: newInbox(), out: &outbox{lost: &s.stats.unsent}, transfers: make(map[peer]*transfer),
		lines: make(map[int]*line), beside: 1,
	}
	if err := l.watch(wake); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// mostWaiting bounds the requests that a loop has not looked at yet, which cost
// their senders nothing.
const mostWaiting = 4096

// post has the loop's goroutine do something soon for a transfer that it knows.
func (l *loop) post(do func(now time.Time)) {
	l.mu.Lock()
	l.mail = append(l.mail, do)
	first := len(l.mail) == 1
	l.mu.Unlock()
	if first {
		l.stir()
	}
}

// hand has the loop's goroutine look at a request, unless too many wait: its
// client asks again.
func (l *loop) hand(do func(now time.Time)) {
	l.mu.Lock()
	full := l.waiting >= mostWaiting
	if !full {
		l.waiting++
	}
	l.mu.Unlock()
	if full {
		l.server.stats.unread.Add(1)
		return
	}
	l.post(do)
}

// stir wakes the loop's goroutine. It may come after the end: who waits for the
// end of a context does not know that the loop has seen it already. The number
// of what was closed may be that of anything by then.
func (l *loop) stir() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake < 0 {
		return
	}
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // full: it is awake
}

// run serves until the context is done, and then breaks off what runs.
func (l *loop) run() error {
	if err := l.watch(l.base.fd); err != nil {
		return err
	}
	stop := context.AfterFunc(l.ctx, l.stir)
	defer stop()
	busy := false
	for l.ctx.Err() == nil {
		if !busy {
			if err := l.wait(); err != nil {
				return err
			}
		}
		n, err := unix.EpollWait(l.epoll, l.events[:], 0)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("epoll_wait", err)
		}
		now := time.Now()
		come := l.events[:max(0, n)]
		l.hush(come)
		l.readMail(now)
		for _, e := range come {
			if err := l.readFrom(int(e.Fd), now); err != nil {
				return err
			}
		}
		l.fire(now)
		l.out.flush()
		busy = n > 4 // more may be there: look before sleeping
	}
	l.breakOff()
	return nil
}

// hush resets the eventfd, if it is what woke us: before the mail is read, or
// what is posted just then would wake nobody.
func (l *loop) hush(come []unix.EpollEvent) {
	for i := range come {
		if int(come[i].Fd) == l.wake {
			var b [8]byte
			_, _ = unix.Read(l.wake, b[:])
		}
	}
}

// readFrom takes in what waits at a socket.
func (l *loop) readFrom(fd int, now time.Time) error {
	from := l.base
	if fd != from.fd {
		if from = l.lines[fd]; from == nil { // it was closed a moment ago, or is the eventfd
			return nil
		}
	}
	n, err := l.in.read(fd)
	if err != nil && from == l.base { // of a line it costs one transfer, which ends by itself
		return os.NewSyscallError("recvmmsg", err)
	}
	for i := range n {
		p := l.in.packet(i)
		p.line = from
		l.take(&p, now)
	}
	return nil
}

// wait sleeps until a packet or mail is there, or a timer is due.
func (l *loop) wait() error {
	fds := []unix.PollFd{{Fd: int32(l.epoll), Events: unix.POLLIN}} //nolint:gosec // descriptors are small
	var timeout *unix.Timespec
	if len(l.timers) > 0 {
		ts := unix.NsecToTimespec(max(0, int64(time.Until(l.timers[0].look))))
		timeout = &ts
	}
	if _, err := unix.Ppoll(fds, timeout, nil); err != nil && err != unix.EINTR {
		return os.NewSyscallError("ppoll", err)
	}
	return nil
}

// readMail does what was posted, and reports whether there was anything.
func (l *loop) readMail(now time.Time) bool {
	l.mu.Lock()
	mail := l.mail
	l.mail, l.waiting = nil, 0
	l.mu.Unlock()
	for _, do := range mail {
		l.do(do, now)
	}
	return len(mail) > 0
}

func (l *loop) do(do func(now time.Time), now time.Time) {
	defer l.survive(nil, now)
	do(now)
}

// survive is the boundary that no packet crosses, and no file: whatever it
// does to us, the next one is served. A transfer that it was of is over.
func (l *loop) survive(t *transfer, now time.Time) {
	p := recover()
	if p == nil {
		return
	}
	l.server.panicked(p)
	if t != nil && !t.over {
		l.end(t, errPanicked, now)
	}
}

// take understands a packet and has it dealt with.
func (l *loop) take(p *packet, now time.Time) {
	t := l.transfers[p.from.peer()]
	defer l.survive(t, now)
	stats := &l.server.stats
	if len(p.data) < 4 {
		stats.malformed.Add(1)
		return
	}
	switch op := binary.BigEndian.Uint16(p.data); op {
	case opACK, opERROR:
		if t == nil || t.content == nil || t.line != p.line || len(p.data) > maxRequest {
			stats.stray.Add(1) // an ERROR of ours would cost as much as it says
			return
		}
		if op == opERROR {
			l.abort(t, p.data, now)
			return
		}
		l.ack(t, binary.BigEndian.Uint16(p.data[2:]), now)
	default:
		if l.ask == nil {
			stats.stray.Add(1)
			return
		}
		l.request(p, now)
	}
}

// abort ends a transfer because its client said so. Firmware asks for the size
// of a file first, breaks that off, and asks for the file: from the same port,
// it may be. Requests and ERRORs come to different ports of ours, so the
// request may overtake the ERROR, which then is not meant for what it began.
func (l *loop) abort(t *transfer, said []byte, now time.Time) {
	if t.restart && !t.session.heard() {
		t.restart = false // once
		l.server.stats.stray.Add(1)
		return
	}
	l.end(t, abortedBy(said), now)
}

// abortedBy reads an ERROR packet of at least four bytes.
func abortedBy(b []byte) *AbortedError {
	text := b[4:min(len(b), 4+80)]
	for i, c := range text {
		if c == 0 {
			text = text[:i]
			break
		}
	}
	return &AbortedError{Code: binary.BigEndian.Uint16(b[2:]), Text: string(text)}
}

// errorWrite is an ERROR packet: access violation.
var errorWrite = append([]byte{0, opERROR, 0, 2}, "read only\x00"...)

// request takes what is neither ACK nor ERROR. Only a write request is
// answered, as its sender speaks TFTP and should stop; the answer is no longer
// than a request is, so nothing is amplified.
func (l *loop) request(p *packet, now time.Time) {
	stats := &l.server.stats
	r, err := parseRequest(p.data)
	who := p.from.peer().ap
	switch {
	case err != nil && err != errWrite, who.Port() == 0: //nolint:errorlint // parseRequest wraps nothing
		stats.malformed.Add(1)
	case l.server.o.Serves != nil && !l.server.o.Serves(who.Addr()):
		stats.strangers.Add(1)
		if known := l.server.o.Strangers; known != nil && err == nil {
			known.Ask(who.Addr(), r.name, now)
		}
	case err != nil:
		stats.writes.Add(1)
		l.out.add(l.base.fd, p.from, leaveFrom(p.local, l.site.v6), [4]byte(errorWrite), errorWrite[4:])
	default:
		l.ask(r, p, now)
	}
}

// ack has a transfer go on.
func (l *loop) ack(t *transfer, block uint16, now time.Time) {
	send := t.session.ack(block, now)
	if t.session.done() {
		l.end(t, nil, now)
		return
	}
	if send {
		l.send(t, now)
		return
	}
	if t.session.due.Before(t.look) { // the ACK was a hint
		l.lookAt(t, t.session.due, now)
	}
}

// send puts a flight of a transfer on its way.
func (l *loop) send(t *transfer, now time.Time) {
	from, to := t.session.flight(now)
	if t.content.file != nil {
		l.out.flush() // the buffer may hold a flight that was not sent yet
	}
	for block := from; block <= to; block++ {
		head, body, err := t.block(block)
		if err != nil {
			l.sendError(t, errNoServe.Error())
			l.end(t, err, now)
			return
		}
		l.out.add(t.line.fd, &t.to, t.control, head, body)
	}
	l.lookAt(t, t.session.due, now)
}

// sendError tells a client that it gets no file. The text says nothing of
// ours and nothing of the client's.
func (l *loop) sendError(t *transfer, text string) {
	code, fd := byte(0), l.base.fd
	if text == errNotFound.Error() {
		code = 1
	}
	if t.line != nil {
		fd = t.line.fd
	}
	l.out.add(fd, &t.to, t.control, [4]byte{0, opERROR, 0, code}, append([]byte(text), 0))
}

// mostFired bounds what is sent again before packets are looked at: thousands
// of half-open transfers keep nobody waiting.
const mostFired = 64

// fire sends again what is overdue, or as much of it as others can wait for.
func (l *loop) fire(now time.Time) {
	for range mostFired {
		if len(l.timers) == 0 || l.timers[0].look.After(now) {
			return
		}
		l.expire(l.timers[0], now)
	}
}

func (l *loop) expire(t *transfer, now time.Time) {
	defer l.survive(t, now)
	send, err := t.session.expired(now)
	switch {
	case err != nil:
		l.end(t, err, now)
	case send:
		l.send(t, now)
	default: // the flight was acknowledged meanwhile, or is not sent again: something later is due
		l.lookAt(t, t.session.due, now)
	}
}

// breakOff ends what runs, and waits for files that are being opened.
func (l *loop) breakOff() {
	now := time.Now()
	for l.files.Wait(); l.readMail(now); l.files.Wait() { // a request in the mail has a file opened
	}
	for _, t := range l.transfers {
		l.sendError(t, "server is stopping")
		l.end(t, ErrStopped, now)
	}
	l.out.flush()
}

func (l *loop) close() {
	for _, n := range l.lines { // it broke off
		l.server.lines.unplug(n)
	}
	l.lines = nil
	if l.trunk.idle != nil {
		l.trunk.idle.Stop()
	}
	_ = unix.Close(l.epoll)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake >= 0 {
		_ = unix.Close(l.wake)
		l.wake = -1
	}
}

// timers are the transfers of a loop by when they are to be looked at. That
// may be earlier than they are due, never later.
type timers []*transfer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].look.Before(h[j].look) }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements [heap.Interface].
func (h *timers) Push(x any) {
	t := x.(*transfer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements [heap.Interface].
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
