package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp/foreign"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
	"github.com/rackstage/provision/pxe/tftp"
)

// strangerSite has one subnet in which this server alone gives out addresses.
const strangerSite = `
subnets: [{name: rack, cidr: 10.77.1.0/24, mode: full, ranges: [10.77.1.100-10.77.1.120]MORE}]
`

// A machine with an address of its own asks the real server for its loader, as
// firmware does. It hears nothing, and the alarm says who it is and what to do;
// when that is done it is answered, and the alarm is over.
func TestAMachineThatTFTPDoesNotAnswerIsAnAlarmWithItsFix(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the server to look at who asks, 20 s: make test runs it")
	}
	if !netns.Inside(t) {
		return
	}
	for _, args := range []string{
		"link add rack0 type veth peer name nic0 address 52:54:00:00:00:07", "address add 10.77.1.1/24 dev rack0", "address add 10.77.2.1/24 dev rack0", "link set rack0 up",
	} {
		if err := netns.IP(strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, strings.ReplaceAll(strangerSite, "MORE", ""), "", map[string]string{"state/boot/ipxe.efi": "loader"})
	config := fmt.Sprintf("state_dir: %s/state\nlisten: {dhcp: [rack0], http: %q, https: %q, socket: %q}\n", s.dir, s.http, s.https, s.dir+"/api.sock")
	if err := os.WriteFile(s.dir+"/provision.yaml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	var static, elsewhere *asker // their sockets keep their namespace alive
	netns.Elsewhere(t, "nic0", func() (err error) {
		for _, args := range []string{"address add 10.77.1.66/24 dev nic0", "address add 10.77.2.66/24 dev nic0", "link set nic0 up"} {
			if err := netns.IP(strings.Fields(args)...); err != nil {
				return err
			}
		}
		var no error
		static, err = newAsker(t, "10.77.1.66", "10.77.1.1:69")
		elsewhere, no = newAsker(t, "10.77.2.66", "10.77.2.1:69")
		return errors.Join(err, no)
	})
	for range 4 {
		for _, a := range []*asker{static, elsewhere} {
			if got := a.asks(600 * time.Millisecond); got != "" {
				t.Errorf("%s hears %q, want nothing", a.from, got)
			}
		}
	}
	for on, who := range map[string]string{"subnet rack": "10.77.1.66", "addresses of no subnet": "10.77.2.66"} {
		alarm := s.strangerAlarm(t, on, true)
		want := who + " (52:54:00:00:00:07) asked "
		if !strings.HasPrefix(alarm.Detail, want) || !strings.Contains(alarm.Detail, `for "ipxe.efi" last`) || !strings.Contains(alarm.Fix, "known_dhcp") || !strings.HasSuffix(alarm.Fix, on) {
			t.Errorf("the alarm is %+v, want %q", alarm, want)
		}
	}
	reserved := strings.ReplaceAll(strangerSite, "MORE", `, reservations: [{address: 10.77.1.66, mac: "52:54:00:00:00:07"}]`)
	if _, err := s.client.Apply(t.Context(), api.ApplyRequest{YAML: reserved}); err != nil {
		t.Fatal(err)
	}
	if got := static.asks(5 * time.Second); !strings.HasPrefix(got, "\x00\x03\x00\x01loader") {
		t.Errorf("with a reserved address it hears %q, want its loader", got)
	}
	s.strangerAlarm(t, "subnet rack", false)
	s.strangerAlarm(t, "addresses of no subnet", true)
}

// strangerAlarm waits until an alarm stands, or stands no more.
func (s *ownServer) strangerAlarm(t *testing.T, on string, stands bool) (found api.Alarm) {
	t.Helper()
	until(t, 3*tftp.StrangersEvery, fmt.Sprintf("alarm on %s: %t", on, stands), func(ctx context.Context) (bool, error) {
		alarms, err := s.client.Alarms(ctx)
		i := slices.IndexFunc(alarms, func(a api.Alarm) bool { return a.Code == fleet.CodeTFTPStranger && a.On == on })
		if i >= 0 {
			found = alarms[i]
		}
		return (i >= 0) == stands, err
	})
	return found
}

// An asker asks for a loader, again and again from one port.
type asker struct {
	t    *testing.T
	from string
	to   netip.AddrPort
	conn *net.UDPConn
}

func newAsker(t *testing.T, from, to string) (*asker, error) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &asker{t, from, netip.MustParseAddrPort(to), conn}, nil
}

// asks returns what comes within a time.
func (a *asker) asks(within time.Duration) string {
	a.t.Helper()
	if _, err := a.conn.WriteToUDPAddrPort([]byte("\x00\x01ipxe.efi\x00octet\x00"), a.to); err != nil {
		a.t.Fatal(err)
	}
	_ = a.conn.SetReadDeadline(time.Now().Add(within))
	b := make([]byte, 2048)
	n, err := a.conn.Read(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// A tallied is the alarms that stand, and how often they came and went.
type tallied struct {
	stand      map[string]string
	came, went int
}

func (a *tallied) Raise(code, on, detail string) {
	if _, ok := a.stand[code+" on "+on]; !ok {
		a.came++
	}
	a.stand[code+" on "+on] = detail
}

func (a *tallied) Clear(code, on string) {
	a.went++
	delete(a.stand, code+" on "+on)
}

// aStrangerWatch is one over a full subnet, in which a machine that is known is
// our neighbour, and its book.
func aStrangerWatch() (*strangerWatch, *tallied) {
	book := &tallied{stand: map[string]string{}}
	site := fleet.Site{Subnets: []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/16"), Mode: fleet.Full}}}
	machine := netip.MustParseAddr("10.77.1.66")
	return &strangerWatch{
		asked: new(tftp.Strangers), site: func() fleet.Site { return site },
		may:   func(a netip.Addr) bool { return mayBoot(site, a, func(netip.Addr) bool { return false }) },
		cards: func() (map[netip.Addr]string, error) { return map[netip.Addr]string{machine: "52:54:00:00:00:07"}, nil },
		node: func(m fleet.MAC) (fleet.Node, bool) {
			return fleet.Node{Name: "prd-7", MAC: m}, m == "52:54:00:00:00:07"
		},
		others: func() []foreign.Server {
			return []foreign.Server{{Subnet: "rack", Addr: netip.MustParseAddr("10.77.0.2"), Proxy: true}, {Subnet: "rack", Addr: netip.MustParseAddr("10.77.0.3"), Full: true}}
		},
		alarms: book,
	}, book
}

// For ten minutes somebody asks in the names of all addresses of a subnet, and
// of as many on none, and in the middle of it there is a machine: there are two
// alarms, which come once and end once, and the machine is named first.
func TestAFloodInMadeUpNamesIsTwoAlarmsThatStand(t *testing.T) {
	w, book := aStrangerWatch()
	now := time.Unix(1_000_000, 0)
	machine, inside, outside := netip.MustParseAddr("10.77.1.66"), netip.MustParseAddr("10.77.0.0"), netip.MustParseAddr("192.0.2.0")
	for second := range 600 {
		for i := range 200 { // always the same ones, and each time others
			w.asked.Ask(netip.AddrFrom4([4]byte{10, 77, 9, byte(i)}), "x", now)
			w.asked.Ask(netip.AddrFrom4([4]byte{192, 0, 9, byte(i)}), "x", now)
			w.asked.Ask(inside, "x", now)
			w.asked.Ask(outside, "x", now)
			inside, outside = inside.Next(), outside.Next()
		}
		if second%4 == 0 {
			w.asked.Ask(machine, "ipxe.efi", now)
		}
		if second%10 == 0 {
			w.look(now)
		}
		now = now.Add(time.Second)
	}
	w.look(now)
	inRack := book.stand["E-TFTP-STRANGER on subnet rack"]
	if !strings.HasPrefix(inRack, "10.77.1.66 (52:54:00:00:00:07, node prd-7) asked 15") || !strings.Contains(inRack, "; DHCP server 10.77.0.3 gives out addresses there; so did 10.77.") {
		t.Errorf("of the subnet it says %q", inRack)
	}
	if none := book.stand["E-TFTP-STRANGER on addresses of no subnet"]; !strings.HasPrefix(none, "192.0.9.") || strings.Contains(none, "DHCP server") {
		t.Errorf("of no subnet it says %q", none)
	}
	if len(book.stand) != 2 || book.came != 2 || book.went != 0 {
		t.Errorf("%d alarms stand, came %d times and went %d times", len(book.stand), book.came, book.went)
	}
	w.look(now.Add(10 * time.Minute))
	if len(book.stand) != 2 {
		t.Errorf("10 minutes later %d alarms stand, want both", len(book.stand))
	}
	w.look(now.Add(20 * time.Minute))
	if len(book.stand) != 0 || book.came != 2 || book.went != 2 {
		t.Errorf("20 minutes later %d alarms stand, came %d times and went %d times", len(book.stand), book.came, book.went)
	}
}

func TestPacketsInManyNamesAreNoMachine(t *testing.T) {
	w, book := aStrangerWatch()
	now, a := time.Unix(1_000_000, 0), netip.MustParseAddr("10.77.0.0")
	for range 60 {
		for range 1000 {
			w.asked.Ask(a, "x", now)
			a = a.Next()
		}
		now = now.Add(time.Second)
		w.look(now)
	}
	if book.came != 0 {
		t.Errorf("60,000 packets, each in another name, are alarms: %v", book.stand)
	}
}
