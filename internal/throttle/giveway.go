package throttle

import (
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What is asked of who takes an answer. A machine that is booted takes it as fast
// as the wire lets it; whoever is slower than that may stay for as long as there
// is room.
const (
	patience = 250 * time.Millisecond // the window of a connection may be closed so long: more than it takes to send a lost packet again
	slowest  = 18 << 10               // bytes a second, since the request: what the deadlines of files ask for
	behind   = time.Second            // one may be behind that so long
	fairPart = 64                     // who holds no more than this part of the door is never pushed out while he takes his answer
)

// How much is looked at to find who gives way: who makes us search often does not
// make us search long.
const (
	looks    = 128 // places of each row, about
	asks     = 16  // of them that are busy: the kernel is asked
	asksMost = 64  // of all rows
)

// A search looks for the place that has been of no use for longest.
type search struct {
	now   time.Time
	look  func(net.Conn) (answer, bool)
	asked int // of this row
	sum   int // of all rows
	found *Place
	worst time.Duration
}

// useless returns the place that gives way when there is no room: of no use, of
// the sources that hold most; or of the one that holds far more than the source of
// the new one. Of very many that hold as many as each other, any few are looked
// at. It is nil when nobody has to go. The caller holds mu.
func (d *Doorkeeper) useless(newcomer *peer) *Place {
	s := d.search()
	var top *peer
	for n := len(d.rows) - 1; n > 0 && s.found == nil; n-- {
		row := d.rows[n]
		if len(row) == 0 {
			continue
		}
		s.asked = 0
		first := rand.IntN(len(row)) //nolint:gosec // no secret
		if top == nil {
			top = row[first]
		}
		for i := 0; i < len(row) && i*n < looks; i++ {
			s.at(row[(first+i)%len(row)])
		}
	}
	if s.found != nil || top == nil {
		return s.found
	}
	own := 0
	if newcomer != nil {
		own = len(newcomer.places)
	}
	if most := len(top.places); most > d.inAll/fairPart && most > 2*(own+1) {
		return top.places[rand.IntN(most)] //nolint:gosec // no secret
	}
	return nil
}

// uselessOf returns the place that gives way when a source has no more room; nil
// when all of its connections are of use. The caller holds mu.
func (d *Doorkeeper) uselessOf(of *peer) *Place {
	s := d.search()
	s.at(of)
	return s.found
}

func (d *Doorkeeper) search() *search { return &search{now: time.Now(), look: d.look} }

// at looks at the places of a source.
func (s *search) at(of *peer) {
	first := rand.IntN(len(of.places)) //nolint:gosec // no secret
	for i := range of.places {
		p := of.places[(first+i)%len(of.places)]
		if useless := s.uselessFor(p); useless > s.worst {
			s.found, s.worst = p, useless
		}
	}
}

// uselessFor returns for how long a connection has been of no use; 0 when it is,
// or when nobody asks any more.
func (s *search) uselessFor(p *Place) time.Duration {
	since := p.since.Load()
	if since >= 0 {
		return max(1, s.now.Sub(time.Unix(0, since)))
	}
	if s.asked >= asks || s.sum >= asksMost {
		return 0
	}
	s.asked, s.sum = s.asked+1, s.sum+1
	a, ok := s.look(p.conn)
	if !ok || a.waiting == 0 {
		return 0
	}
	if a.stuck >= patience {
		return a.stuck
	}
	late := s.now.Sub(time.Unix(0, -since)) - time.Duration(float64(a.taken)/slowest*float64(time.Second))
	if late >= behind {
		return late
	}
	return 0
}

// leave closes the connection: who waits for its requests gets to know, and
// releases it. What a busy one has not taken is thrown away with it.
func (p *Place) leave() {
	conn := rawConn(p.conn)
	if tcp, ok := conn.(*net.TCPConn); ok && p.since.Load() < 0 {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// rawConn is the connection below: to close one of TLS in good order takes
// time.
func rawConn(conn net.Conn) net.Conn {
	for {
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = above.NetConn()
	}
}

// An answer is how what we send fares.
type answer struct {
	waiting int           // bytes that the other side has no room for
	stuck   time.Duration // since something was sent last
	taken   uint64        // bytes, since the connection began
}

// answerOn asks the kernel about a connection. It is false for what is no TCP.
func answerOn(conn net.Conn) (a answer, ok bool) {
	with, ok := rawConn(conn).(syscall.Conn)
	if !ok {
		return a, false
	}
	raw, err := with.SyscallConn()
	if err != nil {
		return a, false
	}
	ok = false
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			ok = true
			a = answer{waiting: int(info.Notsent_bytes), stuck: time.Duration(info.Last_data_sent) * time.Millisecond, taken: info.Bytes_acked}
			if n := min(info.Backoff, 8); n > 0 { // what it sends again and again is sent, too
				a.stuck = max(a.stuck, patience<<(n-1))
			}
		}
	})
	return a, ok
}
