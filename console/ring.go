package console

import (
	"fmt"
	"unicode/utf8"

	"github.com/rackstage/provision/fleet"
)

// ringSize is how much of what a machine wrote is kept in memory: some screens.
const ringSize = 32 << 10

// A ring keeps the last bytes.
type ring struct {
	buf  []byte
	next int // where the next byte goes, once it is full
}

func (r *ring) write(b []byte) {
	b = b[max(0, len(b)-ringSize):]
	if room := ringSize - len(r.buf); room > 0 {
		n := min(room, len(b))
		r.buf, b = append(r.buf, b[:n]...), b[n:]
	}
	for len(b) > 0 {
		n := copy(r.buf[r.next:], b)
		b = b[n:]
		r.next = (r.next + n) % ringSize
	}
}

// bytes returns a copy, oldest first.
func (r *ring) bytes() []byte {
	return append(append(make([]byte, 0, len(r.buf)), r.buf[r.next:]...), r.buf[:r.next]...)
}

// garbage finds out whether a machine writes at another speed than its BMC
// reads: then most of what comes is no text in any code.
type garbage struct{ bytes, bad int }

const (
	garbageWindow  = 1 << 10
	garbagePercent = 45
)

// write reports whether a window is full, and whether it was garbage.
func (g *garbage) write(b []byte) (full, bad bool) {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError || r < ' ' && (r < '\a' || r > '\r') && r != '\x1b' {
			g.bad++
		}
		g.bytes += n
		b = b[n:]
	}
	if g.bytes < garbageWindow {
		return false, false
	}
	bad = g.bad*100 > g.bytes*garbagePercent
	*g = garbage{}
	return true, bad
}

// judge raises an alarm when what comes is garbage; the caller holds mu.
func (f *feed) judge(b []byte) {
	full, bad := f.garbage.write(b)
	if !full || f.hub.o.Alarms == nil {
		return
	}
	on := "node " + f.hub.o.Title(f.node)
	if !bad {
		f.hub.o.Alarms.Clear(fleet.CodeConsoleSpeed, on)
		return
	}
	speed := "at a speed that it does not tell"
	if p, ok := f.port.(interface{ BitRate() int }); ok && p.BitRate() > 0 {
		speed = fmt.Sprintf("at %d bit/s", p.BitRate())
	}
	f.hub.o.Alarms.Raise(fleet.CodeConsoleSpeed, on, "its BMC reads the serial port "+speed+", and what comes is no text")
}
