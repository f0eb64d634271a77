package dhcp

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestAnAlarmComesBeforeTheAddressesRunOut(t *testing.T) {
	n := bigSubnet()
	n.UnknownShare = 100
	n.Lease, n.UnknownLease = 7200, 7200
	ts := newTestServer(t, n)
	low := func() string { return ts.alarms.detail(fleet.CodePoolForecast, "subnet rack") }
	given := 0
	give := func(count int) {
		for range count {
			ts.lease(strangerMAC(given))
			given++
		}
	}
	give(99)
	for range 60 { // an hour in which sixty come
		ts.takeStock(true)
		ts.clock = ts.clock.Add(time.Minute)
		give(1)
	}
	if ts.takeStock(false); low() != "" {
		t.Fatalf("159 of 200 are leased, which was enough for %q", low())
	}
	u := ts.Subnets()[0]
	if u.Size != 199 && u.Size != 200 {
		t.Fatalf("use = %+v", u)
	}
	give(6)
	ts.takeStock(false)
	if got := low(); !strings.Contains(got, fmt.Sprintf("165 of %d", u.Size)) || !strings.Contains(got, "full in 3") {
		t.Errorf("alarm = %q, want it to say that they last half an hour", got)
	}
	u = ts.Subnets()[0]
	if u.Used != 165 || u.Growth != 66 || !u.FullForecast || u.Free() != u.Size-165 {
		t.Errorf("use = %+v", u)
	}
	// The leases end, the alarm with them.
	ts.clock = ts.clock.Add(3 * time.Hour)
	if ts.takeStock(false); low() != "" {
		t.Errorf("alarm = %q, and nothing is leased", low())
	}
	if u := ts.Subnets()[0]; u.Used != 0 {
		t.Errorf("use = %+v, want nothing in use", u)
	}
}

func TestTheTallyIsWhatTheLeasesAre(t *testing.T) {
	n := bigSubnet()
	n.UnknownShare, n.UnknownLease, n.Lease = 100, 600, 600
	ts := newTestServer(t, n)
	for i := range 20 {
		ts.lease(strangerMAC(i))
		ts.clock = ts.clock.Add(20 * time.Second)
	}
	for i := range 5 {
		l := ts.book.leasesByMAC(strangerMAC(i))[0]
		ts.ask(packet(strangerMAC(i), release, has(l.Addr.String())))
	}
	for i := 5; i < 8; i++ {
		l := ts.book.leasesByMAC(strangerMAC(i))[0]
		ts.ask(packet(strangerMAC(i), decline, wants(l.Addr.String())))
	}
	for range 15 {
		used, declined := 0, 0
		for p := range ts.book.ledgers[0].byAddr.places() {
			switch {
			case !ts.clock.Before(p.lease.expires.time().Add(59 * time.Second).Truncate(time.Minute)): // it counts whole minutes
			case p.lease.state == leaseBound:
				used++
			case p.lease.state == leaseDeclined:
				declined++
			}
		}
		if u := ts.Subnets()[0]; u.Used != used || u.Declined != declined {
			t.Fatalf("use = %+v, want %d leased and %d declined", u, used, declined)
		}
		ts.clock = ts.clock.Add(time.Minute)
	}
}

func TestManyDeclinesRaiseAnAlarm(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	for i := range 3 {
		addr := ts.lease(strangerMAC(i))
		ts.ask(packet(strangerMAC(i), decline, wants(addr)))
	}
	ts.takeStock(false)
	if got := ts.alarms.detail(fleet.CodeDeclines, "subnet rack"); !strings.Contains(got, "3 of 4") {
		t.Errorf("alarm = %q", got)
	}
	if st := ts.Stats(); st.Declined != 3 {
		t.Errorf("Stats = %+v", st)
	}
}
