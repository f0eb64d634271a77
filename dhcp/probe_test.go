package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/pcap"
)

// onASquattedWire starts a server, and runs work at the other end of its wire,
// where somebody has 10.77.0.100 and 10.77.0.102 without asking.
func onASquattedWire(t *testing.T, alarms Alarms, n fleet.Subnet, work func(s *Server) error) {
	t.Helper()
	run(t, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "nic0")
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	s := startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Observe)}, Nodes: knownNodes{}, Leases: &memoryLeases{}, Alarms: alarms})
	elsewhere(t, "nic0", func() error {
		if err := errors.Join(
			ipHere("link", "set", "nic0", "up"), ipHere("addr", "add", "10.77.0.100/24", "dev", "nic0"), ipHere("addr", "add", "10.77.0.102/24", "dev", "nic0"),
		); err != nil {
			return err
		}
		s.SetSubnets([]fleet.Subnet{n})
		return work(s)
	})
}

// offeredTo asks for an address from this thread's end of the wire.
func offeredTo(t *testing.T, mac fleet.MAC) (addr string, after time.Duration, err error) {
	t.Helper()
	c, err := nclient4.New("nic0", nclient4.WithHWAddr(mac.Hardware()), nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = c.Close() }()
	began := time.Now()
	got, err := c.DiscoverOffer(t.Context())
	if err != nil {
		return "", 0, err
	}
	return got.YourIPAddr.String(), time.Since(began), nil
}

func TestAnAddressThatSomebodyUsesIsNotOffered(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	alarms := &raised{}
	onASquattedWire(t, alarms, rackSubnet(fleet.Full), func(s *Server) error {
		// Nothing is in stock yet: the offer waits, and passes the squatter by.
		addr, _, err := offeredTo(t, macA)
		if err != nil || addr != "10.77.0.101" {
			return fmt.Errorf("A is offered %s: %w, want 10.77.0.101", addr, err)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range 500 {
			if s.Stats().Conflicts == 2 && s.stocked() > 0 {
				break
			}
			<-tick.C
		}
		// Now the other squatter is known as well, and what is left is in stock.
		addr, after, err := offeredTo(t, macB)
		if err != nil || addr != "10.77.0.103" {
			return fmt.Errorf("B is offered %s: %w, want 10.77.0.103", addr, err)
		}
		if after > probeWait {
			return fmt.Errorf("B waited %s, and an address was in stock", after)
		}
		return nil
	})
	if got := alarms.detail(fleet.CodeConflict, "10.77.0.100 on subnet rack"); !strings.Contains(got, " answers there, who has no lease of it") {
		t.Errorf("alarm = %q", got)
	}
}

// stocked returns how many addresses wait for clients.
func (s *Server) stocked() (n int) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, l := range s.book.ledgers {
		for _, sh := range l.shelves {
			n += len(sh.stock)
		}
	}
	return n
}

func TestWhereProbingIsOffNobodyIsAsked(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := rackSubnet(fleet.Full)
	n.NoProbe = true
	onASquattedWire(t, nil, n, func(s *Server) error {
		if err := firstIsOffered(t); err != nil {
			return err
		}
		if st := s.Stats(); st.Probes != 0 {
			return fmt.Errorf("%d probes were sent", st.Probes)
		}
		return nil
	})
}

// firstIsOffered asks for an address, of which the first is to be had.
func firstIsOffered(t *testing.T) error {
	t.Helper()
	if addr, _, err := offeredTo(t, macA); err != nil || addr != "10.77.0.100" {
		return fmt.Errorf("A is offered %s: %w, want 10.77.0.100", addr, err)
	}
	return nil
}

// A network behind a router is asked by ICMP echo: ARP does not go that far.
func TestAnAddressBehindARouterIsAskedByEcho(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := behindARouter(t, func(_ *Server, ask asking) error {
		if err := ipHere("addr", "add", "10.88.0.10/32", "dev", "lo"); err != nil { // the squatter
			return err
		}
		return ask.isOffered(macA, "10.88.0.11")
	})
	if st := s.Stats(); st.Conflicts == 0 {
		t.Errorf("Stats = %+v, want a conflict", st)
	}
}

// In a storm an offer in time is worth more than a probe; what is not asked is
// counted.
func TestAStormIsNotProbed(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	p := newProber(ts.Server, nil, ts.commit, nil)
	n := ts.nets.Load().of(netip.MustParseAddr("10.77.0.1"))
	asked := 0
	for range 10_000 {
		if p.wants(n) {
			asked++
		}
	}
	if skipped := ts.Stats().ProbeSkipped; asked < probeBurst || asked > 2*probeBurst || int(skipped) != 10_000-asked {
		t.Errorf("%d of 10000 clients wait for a probe, %d are counted as skipped", asked, skipped)
	}
}

func TestAClientThatRepeatsItselfIsAnsweredOnce(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Full))
	p := newProber(ts.Server, nil, ts.commit, nil)
	wait := func(mac fleet.MAC, xid byte) *probe {
		b := packet(mac, discover).ToBytes()
		copy(b[atXID:], []byte{0, 0, 0, xid})
		return &probe{addr: netip.MustParseAddr("10.77.0.100"), packet: b}
	}
	stocking := &probe{addr: netip.MustParseAddr("10.77.0.100")}
	asked := map[netip.Addr][]*probe{stocking.addr: {stocking}}
	for _, w := range []*probe{wait(macA, 1), wait(macA, 1), wait(macA, 2), wait(macB, 1), wait(macB, 1)} {
		p.ask(asked, w)
	}
	if got := len(asked[stocking.addr]); got != 4 {
		t.Errorf("%d answers wait, want one for each client and transaction, and the stock", got)
	}
}

func TestOnlyProperARPIsHeard(t *testing.T) {
	request := arpProbe(macA.Hardware(), netip.MustParseAddr("10.77.0.5"))
	if len(request) != arpLength {
		t.Fatalf("a probe has %d bytes", len(request))
	}
	answer := append([]byte(nil), request...)
	copy(answer[14:], []byte{10, 77, 0, 5})
	vlan := append([]byte(nil), answer...)
	vlan[1] = 2
	tests := map[string]struct {
		in   []byte
		want voice
		ok   bool
	}{
		"who has an address":      {answer, voice{addr: netip.MustParseAddr("10.77.0.5"), card: string(macA)}, true},
		"a probe says nothing":    {request, voice{}, false},
		"another kind of network": {vlan, voice{}, false},
		"cut off":                 {answer[:27], voice{}, false},
		"nothing":                 {nil, voice{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, ok := parseARP(tt.in); ok != tt.ok || ok && got != tt.want {
				t.Errorf("parseARP = %+v, %t, want %+v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzARP(f *testing.F) {
	answers, err := pcap.ARP("testdata/neighbours/linux.pcap")
	if err != nil || len(answers) == 0 {
		f.Fatalf("answers: %x, %v", answers, err)
	}
	for _, b := range answers {
		f.Add(b)
	}
	f.Add(arpProbe(macA.Hardware(), netip.MustParseAddr("10.77.0.5")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, ok := parseARP(b); ok && (!v.addr.Is4() || len(v.card) != 17) {
			t.Errorf("parseARP(%x) = %+v", b, v)
		}
	})
}

func TestOnlyTheAnswerToAQuestionIsHeard(t *testing.T) {
	asked := question{nonce: nonce(random(16)), sent: 2}
	reply := append([]byte{0, 0, 0, 0, 0x12, 0x34, 0, 2}, asked.nonce[:]...)
	with := func(at int, v byte) []byte {
		b := append([]byte(nil), reply...)
		b[at] = v
		return b
	}
	tests := map[string]struct {
		in []byte
		by question
		ok bool
	}{
		"the answer":             {reply, asked, true},
		"asked by ARP":           {reply, question{index: 3, sent: 2}, false},
		"another id":             {with(4, 0x13), asked, false},
		"never sent so often":    {with(7, 3), asked, false},
		"not sent at all":        {with(7, 0), asked, false},
		"another nonce":          {with(20, reply[20]+1), asked, false},
		"an echo request":        {with(0, 8), asked, false},
		"cut off":                {reply[:23], asked, false},
		"more than was sent":     {append(with(7, 2), 0), asked, false},
		"nothing":                {nil, asked, false},
		"to what nobody asks of": {reply, question{nonce: nonce(random(16)), sent: 2}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v, ok := parseEcho(tt.in, 0x1234, netip.MustParseAddr("10.88.0.5"))
			if ok = ok && v.answers(tt.by); ok != tt.ok {
				t.Errorf("it is an answer: %t, want %t", ok, tt.ok)
			}
		})
	}
}

func FuzzEcho(f *testing.F) {
	answers, err := pcap.ICMP("testdata/neighbours/linux.pcap")
	if err != nil || len(answers) == 0 {
		f.Fatalf("answers: %x, %v", answers, err)
	}
	for _, b := range answers {
		f.Add(b, binary.BigEndian.Uint16(b[4:]))
	}
	f.Add(append([]byte{0, 0, 0, 0, 0x12, 0x34, 0, 1}, make([]byte, 16)...), uint16(0x1234))
	f.Add([]byte("\x00\x00\xff\xff\x00\x01\x00\x01provision"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, id uint16) {
		v, ok := parseEcho(b, id, netip.MustParseAddr("10.88.0.5"))
		if ok && (v.index != 0 || v.card != "" || !bytes.HasSuffix(b, v.nonce[:])) {
			t.Errorf("parseEcho(%x) = %+v", b, v)
		}
	})
}
