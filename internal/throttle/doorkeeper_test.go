package throttle_test

import (
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/internal/throttle"
)

// A guest is a connection from an address.
type guest struct {
	net.Conn
	from   string
	closed bool
}

func (g *guest) Close() error         { g.closed = true; return nil }
func (g *guest) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(g.from), Port: 1000} }

// come has guests come, one a second.
func come(d *throttle.Doorkeeper, from ...string) (all []*guest) {
	for _, a := range from {
		g := &guest{from: a}
		d.Watch(g, http.StateNew)
		all = append(all, g)
		<-time.After(time.Second)
	}
	return all
}

func TestWhoHasBeenIdleLongestOfTheAddressThatHoldsMostGivesWay(t *testing.T) {
	tests := map[string]struct {
		from []string
		busy []int // all the time
		anew []int // had a request after all had come
		away int   // who gives way; -1: the new one
	}{
		"the first of equals":              {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}, nil, nil, 0},
		"not who is busy":                  {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}, []int{0, 1}, nil, 2},
		"not who was busy a moment ago":    {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}, nil, []int{0}, 1},
		"of the address that holds most":   {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"}, nil, nil, 1},
		"of another one if that is busy":   {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"}, []int{1, 2}, nil, 0},
		"nobody of those who are all busy": {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"}, []int{0, 1, 2, 3}, nil, -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := throttle.NewDoorkeeper(3, len(tt.from))
				guests := come(d, tt.from...)
				for _, i := range tt.busy {
					d.Watch(guests[i], http.StateActive)
				}
				for _, i := range tt.anew {
					d.Watch(guests[i], http.StateActive)
					d.Watch(guests[i], http.StateIdle)
				}
				late := come(d, "10.0.0.9")[0]
				for i, g := range guests {
					if g.closed != (i == tt.away) {
						t.Errorf("connection %d closed: %v, want %d to give way", i, g.closed, tt.away)
					}
				}
				if _, inAll := d.Refused(); late.closed != (tt.away < 0) || (inAll == 1) != late.closed || (gaveWay(d) == 1) == late.closed {
					t.Errorf("the new one closed: %v, %d refused, %d gave way", late.closed, inAll, gaveWay(d))
				}
			})
		})
	}
}

// A connection that was admitted gives way before net/http has it.
func TestWhoGaveWayDoesNotComeInAgain(t *testing.T) {
	for _, state := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle} {
		t.Run(state.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := throttle.NewDoorkeeper(3, 2)
				guests := come(d, "10.0.0.1", "10.0.0.2")
				late := come(d, "10.0.0.3")[0]
				d.WatchAdmitted(guests[0], state)
				if !guests[0].closed || guests[1].closed || late.closed || d.Held() != 2 || gaveWay(d) != 1 {
					t.Errorf("closed: %v, %v and the new one: %v; %d are held, %d gave way; want the first to be gone, and nobody else",
						guests[0].closed, guests[1].closed, late.closed, d.Held(), gaveWay(d))
				}
			})
		})
	}
}

func gaveWay(d *throttle.Doorkeeper) int64 {
	idle, _ := d.GaveWay()
	return idle
}

func TestPlacesAreCountedWhileManyComeAndGo(t *testing.T) {
	d := throttle.NewDoorkeeper(8, 64)
	in := map[*guest]bool{}
	for i := range 10_000 {
		g := &guest{from: net.IPv4(10, 0, 0, byte(i*i%41)).String()}
		if d.Watch(g, http.StateNew); !g.closed {
			in[g] = true
		}
		for other := range in {
			if i%3 == 0 || other.closed {
				d.Watch(other, http.StateClosed)
				delete(in, other)
			}
			if i%3 == 0 {
				break
			}
		}
		if len(in) > 64 {
			t.Fatalf("%d connections are in, want 64 at most", len(in))
		}
	}
	for g := range in {
		d.Watch(g, http.StateClosed)
	}
	before := gaveWay(d)
	for i := range 64 {
		if d.Admit(&guest{from: net.IPv4(10, 0, 1, byte(i)).String()}) == nil {
			t.Fatalf("place %d was not given back", i)
		}
	}
	if got := gaveWay(d) - before; got != 0 {
		t.Errorf("%d connections gave way at an empty door", got)
	}
}

func BenchmarkAFullDoor(b *testing.B) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		b.Run(name, func(b *testing.B) {
			d := throttle.NewDoorkeeper(128, 20_000)
			for i := range 20_000 {
				p := d.Admit(&guest{from: net.IPv4(10, 0, byte(i/256), byte(i)).String()})
				if busy {
					p.Busy(time.Now())
				}
			}
			for b.Loop() { // another one each time: the door stays full
				d.Admit(&guest{from: "10.9.9.9"})
			}
		})
	}
}
