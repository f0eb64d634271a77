package dhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// steps are what becomes of the clocks of servers.
var steps = map[string]time.Duration{
	"an hour back": -time.Hour, "an hour on": time.Hour, "ten years back": -10 * 365 * 24 * time.Hour, "a month on": 30 * 24 * time.Hour,
}

// stepClock puts the wall clock of a server.
func (ts *testServer) stepClock(by time.Duration) {
	ts.clock = ts.clock.Add(by)
	ts.book.clock.step = func(time.Time) time.Duration { return by }
}

func TestAClockThatIsPutSilencesNobody(t *testing.T) {
	for name, by := range steps {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(fleet.Full))
			g, b := newGate(), packet(macA, discover).ToBytes()
			for range gateBurst {
				g.allow(b, ts.book.instant())
			}
			if g.allow(b, ts.book.instant()) {
				t.Fatal("a flood is heard")
			}
			ts.stepClock(by)
			if g.allow(b, ts.book.instant()) {
				t.Error("a flood is heard because the clock was put")
			}
			ts.clock = ts.clock.Add(gateEvery)
			if !g.allow(b, ts.book.instant()) {
				t.Error("who was silent for long enough is not heard")
			}
		})
	}
}

func TestAClockThatIsPutNeitherFreesNorKeepsAnAddress(t *testing.T) {
	for name, by := range steps {
		t.Run(name, func(t *testing.T) {
			n := rackSubnet(fleet.Full)
			n.Ranges[0].Last = n.Ranges[0].First.Next()
			ts := newTestServer(t, n)
			ts.lease(macA)
			if got := ts.ask(packet(macB, discover)); kindOf(got) != offer {
				t.Fatalf("B gets %s", kindOf(got))
			}
			ts.stepClock(by)
			l, ok := ts.LeaseByAddr(netip.MustParseAddr("10.77.0.100"))
			if !ok || !l.Expires.Equal(ts.clock.Add(600*time.Second)) {
				t.Errorf("A's lease = %+v, want it to end in 600 s by the clock as it goes now", l)
			}
			if got := ts.ask(packet(macC, discover)); got != nil {
				t.Errorf("C is offered %s, which another has", got.YourIPAddr)
			}
			ts.clock = ts.clock.Add(offerTime)
			if got := ts.ask(packet(macC, discover)); kindOf(got) != offer {
				t.Error("what was only offered is kept")
			}
			if got := ts.ask(packet(macA, request, has("10.77.0.100"))); kindOf(got) != ack {
				t.Errorf("A renews: %s", kindOf(got))
			}
			if got := ts.leases.byAddr[l.Addr].Expires; !got.Equal(ts.clock.Add(600 * time.Second)) {
				t.Errorf("on disk it ends at %s, want 600 s from now by the wall", got)
			}
			ts.clock = ts.clock.Add(600 * time.Second)
			if _, ok := ts.LeaseByAddr(l.Addr); ok {
				t.Error("the lease does not end")
			}
			if got := ts.lease(macB); got == "" {
				t.Error("B gets nothing")
			}
		})
	}
}

func TestARealClockGoesOnEvenly(t *testing.T) {
	c := newClock(time.Now)
	before := c.now()
	now := time.Now()
	if d := c.step(now); d != 0 {
		t.Errorf("a clock that nobody put is off by %s", d)
	}
	if at := c.of(now); at < before || at.since(before) > time.Minute || !c.time(at).Equal(now) {
		t.Errorf("%s is %d, %s later", now, at, at.since(before))
	}
	if c.of(time.Time{}) != 0 || !c.time(0).IsZero() {
		t.Error("no time is some time")
	}
}
