package tftp

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// A transfer is one file on its way to one client, as a [loop] knows it.
type transfer struct {
	who     peer
	to      sockaddr
	local   netip.Addr
	control []byte // says which address of ours packets leave from
	asked   request
	report  Transfer
	line    *line // nil until the file is open

	content   *content // nil until the file is open
	blockSize int64
	answer    []byte // to the options; nil without
	buffer    []byte // a window, of a file that is not in memory
	session   session
	restart   bool // the client broke off another one to ask for this: its ERROR may be on its way
	over      bool

	look  time.Time // when its loop looks at it
	index int       // in the loop's timers
}

// block returns a packet: its first four bytes, and the rest. It stays good
// until the flight after this one is put together.
func (t *transfer) block(n int64) (head [4]byte, body []byte, err error) {
	if n == 0 {
		return [4]byte(t.answer), t.answer[4:], nil
	}
	binary.BigEndian.PutUint16(head[:], opDATA)
	binary.BigEndian.PutUint16(head[2:], uint16(n)) //nolint:gosec // block numbers wrap
	off := (n - 1) * t.blockSize
	var b []byte
	if t.buffer != nil {
		b = t.buffer[n%t.session.window*t.blockSize:]
	}
	body, err = t.content.read(b, off, min(t.blockSize, t.content.size-off))
	return head, body, err
}

// begin takes a request up, on the loop that is to serve it.
func (l *loop) begin(r request, from sockaddr, local netip.Addr, now time.Time) {
	who := from.peer()
	old := l.transfers[who]
	if old != nil && l.repeats(old, r, now) {
		l.server.stats.repeated.Add(1)
		return
	}
	if !l.admit(who, r, now) {
		return
	}
	t := &transfer{who: who, to: from, local: local, control: leaveFrom(local, l.site.v6), asked: r, restart: old != nil, index: -1}
	if !local.IsValid() {
		t.local = l.site.at.Addr()
	}
	t.report = Transfer{Client: who.ap, Local: netip.AddrPortFrom(t.local, l.base.port), Name: r.name, Window: 1}
	t.session.began = now
	l.transfers[who] = t
	l.server.stats.running.Add(1)
	l.files.Add(1)
	go l.open(t)
}

// repeats deals with a request of a client that we serve already. A client
// that did not hear us asks again; the network may deliver a request twice;
// and a machine that was reset may come from the port that it had before. Only
// the last begins anew.
func (l *loop) repeats(t *transfer, r request, now time.Time) bool {
	same := t.asked.name == r.name && t.asked.mode == r.mode && slices.Equal(t.asked.options, r.options)
	switch {
	case t.content == nil: // its file is being opened
		return true
	case same && !t.session.heard():
		if now.Sub(t.session.sentAt) >= leastWait {
			l.send(t, now)
		}
		return true
	case same && now.Sub(t.session.moved) < time.Second:
		return true
	case t.session.next > t.session.last:
		l.end(t, ErrLastUnheard, now) // it has the file, and wants the next
	default:
		l.end(t, errRestarted, now)
	}
	return false
}

// admit asks the gate. When all places are in use, the oldest transfer that
// nobody ever acknowledged gives way: with such a flood of requests, it is
// hardly anybody.
func (l *loop) admit(who peer, r request, now time.Time) bool {
	v := l.server.gate.enter(who.ap.Addr(), now)
	if v == allInUse && l.makeRoom(now) {
		v = l.server.gate.enter(who.ap.Addr(), now)
	}
	return l.server.counted(v, who.ap, r.name)
}

func (l *loop) makeRoom(now time.Time) bool {
	l.trimHalfOpen()
	if len(l.halfOpen) == 0 || now.Sub(l.halfOpen[0].session.began) < time.Second {
		return false
	}
	l.end(l.halfOpen[0], errCrowded, now)
	return true
}

// trimHalfOpen drops those at the front that were heard of since.
func (l *loop) trimHalfOpen() {
	for len(l.halfOpen) > 0 && (l.halfOpen[0].over || l.halfOpen[0].session.heard()) {
		l.halfOpen[0] = nil
		l.halfOpen = l.halfOpen[1:]
	}
}

// noteHalfOpen notes one that was not heard of yet. One at the front may be
// unheard for long, while others come and go behind it.
func (l *loop) noteHalfOpen(t *transfer) {
	l.trimHalfOpen()
	if len(l.halfOpen) >= 2*len(l.transfers) {
		l.halfOpen = slices.DeleteFunc(l.halfOpen, func(t *transfer) bool { return t.over || t.session.heard() })
	}
	l.halfOpen = append(l.halfOpen, t)
}

// open opens the file of a transfer. It runs in a goroutine of its own, as a
// disk may be slow.
func (l *loop) open(t *transfer) {
	defer l.files.Done()
	report := t.report
	c, room, err := l.contentOf(t, &report)
	var own *line
	if err == nil && l.ask == nil {
		own = l.server.lines.plug(l.site, t.who.ap.Addr())
	}
	l.post(func(now time.Time) {
		defer l.survive(t, now)
		t.report, t.content = report, c
		if err == nil && !l.connect(t, own) {
			err = errNoLine
		}
		if err != nil {
			l.sendError(t, textFor(err))
			l.end(t, err, now)
			return
		}
		t.report.Local = netip.AddrPortFrom(t.local, t.line.port)
		l.start(t, int64(room), now)
	})
}

// contentOf opens what a transfer is of, and says how large its blocks may be.
func (l *loop) contentOf(t *transfer, report *Transfer) (c *content, room int, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.server.panicked(p)
			if c != nil {
				c.close()
			}
			c, err = nil, errPanicked
		}
	}()
	file, size, err := l.server.open(l.ctx, report)
	if err != nil {
		return nil, 0, err
	}
	if c, err = l.server.cache.take(file, size); err != nil {
		return nil, 0, err
	}
	room = plainBlock
	if t.asked.option("blksize") > plainBlock {
		room = roomTo(t.who)
		if most := l.server.o.MaxBlock; most != nil {
			if n := most(t.who.ap.Addr().Unmap()); n > 0 {
				room = max(plainBlock, min(room, n))
			}
		}
	}
	return c, room, nil
}

// textFor is what a client may hear of an error.
func textFor(err error) string {
	switch {
	case notThere(err):
		return errNotFound.Error()
	case errors.Is(err, ErrNotByTFTP):
		return ErrNotByTFTP.Error()
	}
	return errNoServe.Error()
}

// start sends the first flight. RFC 2347: a client that asked for options
// hears first which of them it got.
func (l *loop) start(t *transfer, room int64, now time.Time) {
	t.blockSize = plainBlock
	window := int64(1)
	for _, o := range t.asked.options {
		switch o.name {
		case "blksize":
			t.blockSize = min(int64(o.value), room) //nolint:gosec // at most maxBlock
			o.value = uint64(t.blockSize)           //nolint:gosec // positive
		case "windowsize":
			if !t.line.own() { // others know the port: each ACK may be blind, so it draws one block
				o.value = 1
			}
			window = int64(o.value) //nolint:gosec // at most maxWindow
		case "tsize":
			o.value = uint64(t.content.size) //nolint:gosec // positive
		}
		if t.answer == nil {
			t.answer = []byte{0, opOACK}
		}
		t.answer = appendOption(t.answer, o.name, o.value)
	}
	if t.content.file != nil {
		t.buffer = make([]byte, window*t.blockSize)
	}
	t.report.Block, t.report.Window = int(t.blockSize), int(window)
	began := t.session.began
	t.session = newSession(t.content.size/t.blockSize+1, window, t.answer != nil, t.asked.timeout(), now)
	t.session.began, t.session.blind = began, !t.line.own()
	l.noteHalfOpen(t)
	l.send(t, now)
}

// lookAt has a transfer looked at by some time. A timer that goes off too
// early costs less than moving it with every ACK.
func (l *loop) lookAt(t *transfer, by, now time.Time) {
	switch {
	case t.index < 0:
		t.look = by
		heap.Push(&l.timers, t)
	case by.Before(t.look) || !t.look.After(now):
		t.look = by
		heap.Fix(&l.timers, t.index)
	}
}

// end is the end of a transfer: all that it had is given back.
func (l *loop) end(t *transfer, err error, now time.Time) {
	t.over = true
	delete(l.transfers, t.who)
	if t.index >= 0 {
		heap.Remove(&l.timers, t.index)
		t.index = -1
	}
	t.report.Proved = t.line != nil && t.line.own() && t.session.heard()
	l.hangUp(t)
	l.server.gate.leave(t.who.ap.Addr())
	s := &t.session
	r := &t.report
	r.Sent = min(max(0, s.acked)*t.blockSize, r.Size)
	r.Packets, r.Resent, r.RTT = s.packets, s.resent, s.clock.smooth
	r.Duration, r.Err = now.Sub(s.began), err
	l.server.finish(*r)
	if t.content != nil {
		t.content.close()
		t.content = nil
	}
	t.buffer = nil
}
