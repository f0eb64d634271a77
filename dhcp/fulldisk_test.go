package dhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

// A has a lease and the disk is full: what is stored is A's until it ends, and
// nobody gets what is not.
func TestOnAFullDiskHoldersGetWhatIsLeft(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.UnknownLease = 600
	n.Reservations = []fleet.Reservation{{MAC: "52:54:00:00:00:0f", Addr: netip.MustParseAddr("10.77.0.50")}}
	tests := map[string]struct {
		in   *dhcpv4.DHCPv4
		want dhcpv4.MessageType
		left time.Duration
	}{
		"a holder renews":                  {packet(macA, request, has("10.77.0.100")), ack, 400 * time.Second},
		"a holder comes back":              {packet(macA, request, wants("10.77.0.100")), ack, 400 * time.Second},
		"a holder boots anew":              {packet(macA, request, wants("10.77.0.100"), chooses("10.77.0.1")), ack, 400 * time.Second},
		"a stranger asks for another":      {packet(macB, request, wants("10.77.0.102"), chooses("10.77.0.1")), silence, 0},
		"one whose address is reserved":    {packet("52:54:00:00:00:0f", request, wants("10.77.0.50"), chooses("10.77.0.1")), ack, 600 * time.Second},
		"a stranger asks for the holder's": {packet(macB, request, wants("10.77.0.100"), chooses("10.77.0.1")), nak, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, n)
			ts.lease(macA)
			ts.clock = ts.clock.Add(200 * time.Second)
			ts.leases.broken = errDiskFull
			got := ts.ask(tt.in)
			if kindOf(got) != tt.want {
				t.Fatalf("answer = %s, want %s", kindOf(got), tt.want)
			}
			if tt.want != ack {
				return
			}
			if left := got.IPAddressLeaseTime(0); left != tt.left || got.IPAddressRenewalTime(0) != left/2 {
				t.Errorf("leased for %s, renewed after %s, want %s: what is on disk", left, got.IPAddressRenewalTime(0), tt.left)
			}
			if st := ts.Stats(); st.Remaining != 1 || st.Unsaved != 0 {
				t.Errorf("Stats = %+v", st)
			}
		})
	}
}

func TestALeaseThatIsNearlyOverIsNotRenewedOnAFullDisk(t *testing.T) {
	n := rackSubnet(fleet.Full)
	n.UnknownLease = 600
	ts := newTestServer(t, n)
	ts.lease(macA)
	ts.clock = ts.clock.Add(541 * time.Second)
	ts.leases.broken = errDiskFull
	if got := ts.ask(packet(macA, request, has("10.77.0.100"))); got != nil {
		t.Errorf("answer = %v, want silence", got)
	}
}

func TestAFullDiskIsAnAlarmUntilThereIsRoom(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	ts.lease(macA)
	ts.leases.broken = errDiskFull
	ts.ask(packet(macA, request, has("10.77.0.100")))
	if got := ts.alarms.detail(fleet.CodeLeasesUnsaved, unsavedOn); got != errDiskFull.Error() {
		t.Errorf("alarm = %q, want %q", got, errDiskFull)
	}
	ts.leases.broken = nil
	if got := ts.ask(packet(macA, request, has("10.77.0.100"))); kindOf(got) != ack {
		t.Fatalf("answer = %v, want an ACK: there is room again", got)
	}
	if got := ts.alarms.detail(fleet.CodeLeasesUnsaved, unsavedOn); got != "" {
		t.Errorf("alarm = %q, want none", got)
	}
}

func TestOneThatFloodsIsNotHeardAndTheOthersAre(t *testing.T) {
	g := newGate()
	now := instant(time.Hour)
	flood, other := packet(macA, discover).ToBytes(), packet(macB, discover).ToBytes()
	heard := 0
	for range 10_000 {
		if g.allow(flood, now) {
			heard++
		}
		now = now.add(time.Millisecond)
	}
	if want := gateBurst + 100; heard < want-2 || heard > want+2 {
		t.Errorf("%d of 10,000 packets in 10 s are heard, want %d", heard, want)
	}
	if !g.allow(other, now) || !g.allow(nil, now) || !g.allow(packet("00:00:00:00:00:00", discover).ToBytes(), now) {
		t.Error("others are not heard")
	}
	if !g.allow(flood, now.add(gateEvery)) {
		t.Error("who was silent for long enough is not heard")
	}
}

// A hundred thousand made-up addresses share the slots, and leave a machine
// that boots enough of its own.
func TestAFloodOfMadeUpAddressesSilencesNobody(t *testing.T) {
	g := newGate()
	now := instant(time.Hour)
	b := packet(macA, discover).ToBytes()
	for i := range 100_000 {
		b[atHardware+3], b[atHardware+4], b[atHardware+5] = byte(i>>16), byte(i>>8), byte(i)
		b[atHardware] = 0x02
		g.allow(b, now)
		now = now.add(10 * time.Microsecond)
	}
	silenced := 0
	for i := range 1000 {
		b[atHardware], b[atHardware+4], b[atHardware+5] = 0x52, byte(i>>8), byte(i)
		if !g.allow(b, now) {
			silenced++
		}
	}
	if silenced > 0 {
		t.Errorf("%d of 1000 machines are not heard", silenced)
	}
}
