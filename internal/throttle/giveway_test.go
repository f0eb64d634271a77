package throttle

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A taker is a connection whose other side takes its answer in some way.
type taker struct {
	net.Conn
	from   string
	takes  answer
	closed bool
}

func (c *taker) Close() error         { c.closed = true; return nil }
func (c *taker) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 1000} }

// doorOf returns a doorkeeper that sees how takers take.
func doorOf(perSource, inAll int) *Doorkeeper {
	d := NewDoorkeeper(perSource, inAll)
	d.look = func(c net.Conn) (answer, bool) { return c.(*taker).takes, true } //nolint:forcetypeassert // nothing else is in it
	return d
}

func TestWhoDoesNotTakeItsAnswerMakesRoom(t *testing.T) {
	well := answer{waiting: 1 << 20, stuck: 20 * time.Millisecond, taken: 100 << 20}
	stuck := answer{waiting: 1 << 20, stuck: time.Second, taken: 100 << 20}
	longer := answer{waiting: 1 << 20, stuck: 9 * time.Second, taken: 100 << 20}
	slow := answer{waiting: 1 << 20, taken: 64 << 10}
	waits := answer{stuck: time.Hour} // for us
	type guest struct {
		from  string
		takes answer
	}
	tests := map[string]struct {
		perSource int
		in        []guest
		late      string
		away      int // -1: the new one
	}{
		"who is stuck":                        {9, []guest{{"10.0.0.1", well}, {"10.0.0.2", stuck}, {"10.0.0.3", well}}, "10.0.0.9", 1},
		"who is stuck for longest":            {9, []guest{{"10.0.0.1", stuck}, {"10.0.0.2", longer}, {"10.0.0.3", stuck}}, "10.0.0.9", 1},
		"who takes less than it must":         {9, []guest{{"10.0.0.1", well}, {"10.0.0.2", well}, {"10.0.0.3", slow}}, "10.0.0.9", 2},
		"nobody who takes all that there is":  {9, []guest{{"10.0.0.1", well}, {"10.0.0.2", waits}, {"10.0.0.3", well}}, "10.0.0.9", -1},
		"who holds far more than the new one": {9, []guest{{"10.0.0.1", well}, {"10.0.0.1", well}, {"10.0.0.1", well}}, "10.0.0.9", 0},
		"nobody for its own neighbour":        {3, []guest{{"10.0.0.1", well}, {"10.0.0.1", well}, {"10.0.0.1", waits}}, "10.0.0.1", -1},
		"its neighbour that is stuck":         {3, []guest{{"10.0.0.1", well}, {"10.0.0.1", stuck}, {"10.0.0.1", well}}, "10.0.0.1", 1},
		"of the same 64 bits":                 {3, []guest{{"fd00::1", well}, {"fd00::2", stuck}, {"fd00::3", well}}, "fd00::4", 1},
		"nobody of a subnet of ours":          {3, []guest{{"fd01::1", well}, {"fd01::2", well}, {"fd01::3", well}}, "fd01::4", -1},
		"nobody of the link":                  {3, []guest{{"fe80::1", well}, {"fe80::2", well}, {"fe80::3", well}}, "fe80::4", -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := doorOf(tt.perSource, len(tt.in))
				d.Subnets(netip.MustParsePrefix("fd01::/64").Contains)
				var in []*taker
				for _, g := range tt.in {
					c := &taker{from: g.from, takes: g.takes}
					d.Admit(c).Busy(time.Now())
					in = append(in, c)
				}
				<-time.After(10 * time.Second)
				admitted := d.Admit(&taker{from: tt.late}) != nil
				left := -1
				for i, c := range in {
					if c.closed {
						left = i
					}
				}
				if alike := tt.away == 0 && left >= 0; left != tt.away && !alike || admitted != (tt.away >= 0) {
					t.Errorf("connection %d left, the new one was admitted: %v; want %d to leave", left, admitted, tt.away)
				}
				ofAddr, inAll := d.Refused()
				if _, busy := d.GaveWay(); busy == 1 != admitted || ofAddr+inAll == 1 == admitted {
					t.Errorf("%d pushed out, %d and %d refused", busy, ofAddr, inAll)
				}
			})
		})
	}
}

// A source has so many places and no more, however many addresses one host has.
func TestNoSourceHoldsMoreThanItsPlaces(t *testing.T) {
	d := doorOf(10, 1000)
	for i := range 100 {
		c := &taker{from: fmt.Sprintf("2001:db8::%x", i+1)}
		if p := d.Admit(c); p != nil {
			p.Busy(time.Now())
		}
	}
	if ofAddr, _ := d.Refused(); ofAddr != 90 || d.held != 10 {
		t.Errorf("%d connections are in, %d were refused; want 10 and 90", d.held, ofAddr)
	}
}
