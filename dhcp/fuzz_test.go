package dhcp

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
)

// Whatever comes, the answer can be read, is not too long, echoes what it
// has to, and never carries an address that another client holds.
func FuzzAnyPacketGetsAProperAnswerOrNone(f *testing.F) {
	for _, name := range captures(f) {
		for _, p := range clientPackets(f, name) {
			f.Add(p, byte(3))
		}
	}
	f.Add(packet(macA, release, has("10.77.0.100")).ToBytes(), byte(3))
	f.Add(packet(macB, decline, wants("10.77.0.100")).ToBytes(), byte(3))
	f.Add(packet(macB, request, wants("10.77.0.101"), option(12, "Node-7.example.com\x00")).ToBytes(), byte(3))
	f.Add(bootpPacket(macB, true), byte(3))
	f.Add(packet(macB, leaseQuery, has("10.77.0.100"), relayed("10.77.0.9"), noHardware).ToBytes(), byte(3))
	f.Add(packet(macB, discover, relayed("10.77.0.9"), option(82, "\x01\x04ge-7\x0b\x04\x0a\x4d\x00\x09"), option(55, "\x79\x77\x96\x1a\xf9")).ToBytes(), byte(3))
	f.Add(packet(macB, inform, has("10.77.0.100"), relayed("10.77.0.9"), option(82, "\x05\x04\x0a\x4d\x00\x01")).ToBytes(), byte(2))
	modes := []fleet.DHCPMode{fleet.Observe, fleet.Proxy, fleet.Reserved, fleet.Full}
	f.Fuzz(func(t *testing.T, raw []byte, mode byte) {
		ts := newTestServer(t, rackSubnet(fleet.Full))
		held := ts.lease(macA)
		ts.SetSubnets([]fleet.Subnet{modesSubnet(modes[mode%4])})
		a := byBroadcast()
		a.proxy = mode&4 != 0
		got, r := ts.put(raw, a)
		if ts.Stats().Panics != 0 {
			t.Fatal("the packet made us panic")
		}
		if got == nil {
			return
		}
		if h := r.lease.Hostname; h != "" && !fleet.ValidName(h) {
			t.Errorf("the lease is of %q", h)
		}
		var in message
		if err := in.parse(raw); err != nil {
			t.Fatalf("a packet that cannot be read is answered: %v", err)
		}
		switch in.kind() {
		case kindLeaseQuery: // it has the client of the lease, not that of the query
			if in.relay() != netip.MustParseAddr("10.77.0.9") || !got.YourIPAddr.IsUnspecified() {
				t.Errorf("a lease query is answered with %v", got)
			}
		case 0:
			if len(r.packet) > maxBOOTP+260 || got.Options[51] != nil || got.Options[53] != nil {
				t.Errorf("a BOOTP client is answered with %v, %d bytes", got, len(r.packet))
			}
		default:
			checkEcho(t, &in, got, r)
		}
		if fleet.MAC(got.ClientHWAddr.String()) != macA && got.YourIPAddr.String() == held {
			t.Errorf("%s is given %s, which A holds", got.ClientHWAddr, held)
		}
		if modes[mode%4] == fleet.Observe || modes[mode%4] == fleet.Proxy && !got.YourIPAddr.IsUnspecified() {
			t.Errorf("in mode %s the answer is %v", modes[mode%4], got)
		}
	})
}

func checkEcho(t *testing.T, in *message, got *dhcpv4.DHCPv4, r reply) {
	t.Helper()
	limit := 576
	if b := in.option(57); len(b) == 2 {
		limit = max(limit, int(binary.BigEndian.Uint16(b)))
	}
	switch {
	case got.OpCode != dhcpv4.OpcodeBootReply:
		t.Errorf("op = %s", got.OpCode)
	case len(r.packet) > min(limit, 1500)-28 || len(r.packet) < 300:
		t.Errorf("the answer has %d bytes, the client takes %d", len(r.packet), limit)
	}
	for what, at := range map[string][2]int{"xid": {atXID, atXID + 4}, "giaddr": {atRelay, atRelay + 4}, "chaddr": {atHardware, atName}} {
		if got, want := r.packet[at[0]:at[1]], in.raw[at[0]:at[1]]; !bytes.Equal(got, want) {
			t.Errorf("%s = %x, want %x", what, got, want)
		}
	}
	for _, code := range []uint8{61, 82, 97} {
		if !bytes.Equal(got.Options[code], in.option(code)) {
			t.Errorf("option %d = %x, want %x", code, got.Options[code], in.option(code))
		}
	}
}

// Four clients do whatever they like, the store fails now and then, the server
// restarts: no address is ever acknowledged to two of them at once.
func FuzzNoAddressIsHeldTwice(f *testing.F) {
	f.Add([]byte{0x00, 0x10, 0x01, 0x11, 0x02, 0x12, 0x03, 0x13, 0x20, 0x01, 0x11})
	f.Add([]byte{0x00, 0x10, 0x30, 0x01, 0x11, 0x70, 0x02, 0x12, 0x80, 0x03, 0x13})
	f.Add([]byte{0x00, 0x10, 0x40, 0x01, 0x11, 0x91, 0x11, 0xa1, 0x01, 0x11, 0x02, 0x12})
	f.Add([]byte("\x00\x10\x61\x01\x62\x12\x73\x44\x54\x90\x10\x91\x01\x11\x80\x50\x51"))
	f.Fuzz(func(t *testing.T, script []byte) {
		m := newModel(t)
		for _, op := range script[:min(len(script), 200)] {
			m.step(op)
		}
	})
}

// A model is what the clients of a server believe.
type model struct {
	*testServer
	offered map[fleet.MAC]string
	held    map[string]holding // by address
}

type holding struct {
	mac   fleet.MAC
	until time.Time
}

func newModel(t *testing.T) *model {
	t.Helper()
	n := rackSubnet(fleet.Full)
	n.Ranges[0].Last = n.Ranges[0].First.Next().Next() // three addresses for four clients
	return &model{newTestServer(t, n), make(map[fleet.MAC]string), make(map[string]holding)}
}

var clients = []fleet.MAC{macA, macB, "52:54:00:00:00:0c", "52:54:00:00:00:0d"}

func (m *model) step(op byte) {
	mac := clients[op&3]
	third := netip.AddrFrom4([4]byte{10, 77, 0, 100 + op>>2&3}).String()
	switch op >> 4 {
	case 0:
		if got := m.ask(packet(mac, discover)); kindOf(got) == offer {
			m.offered[mac] = got.YourIPAddr.String()
		}
	case 1:
		if addr, ok := m.offered[mac]; ok {
			m.believe(mac, m.ask(packet(mac, request, wants(addr), chooses("10.77.0.1"))))
		}
	case 2:
		m.believe(mac, m.ask(packet(mac, request, wants(third), chooses("10.77.0.1"))))
	case 3:
		m.believe(mac, m.ask(packet(mac, request, has(third))))
	case 4:
		m.believe(mac, m.ask(packet(mac, request, wants(third))))
	case 5:
		if h := m.held[third]; h.mac == mac { // a good client gives up what it has
			delete(m.held, third)
		}
		m.ask(packet(mac, release, has(third)))
	case 6:
		if h := m.held[third]; h.mac == mac {
			delete(m.held, third)
		}
		m.ask(packet(mac, decline, wants(third)))
	case 7:
		m.start(m.book.ledgers[0].net.Subnet)
	case 8:
		m.clock = m.clock.Add(time.Duration(op&15) * time.Minute)
	case 9:
		m.leases.broken = map[bool]error{true: errDiskFull}[op&1 == 1]
	case 10:
		m.SetSubnets([]fleet.Subnet{m.book.ledgers[0].net.Subnet})
	case 11:
		m.ask(packet(mac, request, wants(third), chooses("10.77.0.9")))
	}
}

// believe is what an ACK does to a client.
func (m *model) believe(mac fleet.MAC, got *dhcpv4.DHCPv4) {
	m.t.Helper()
	maps.DeleteFunc(m.held, func(_ string, h holding) bool { return !m.clock.Before(h.until) })
	if kindOf(got) != ack {
		return
	}
	addr := got.YourIPAddr.String()
	if h, ok := m.held[addr]; ok && h.mac != mac {
		m.t.Fatalf("%s is acknowledged to %s while %s holds it until %s", addr, mac, h.mac, h.until)
	}
	// A client has one address: what it had before is over.
	maps.DeleteFunc(m.held, func(_ string, h holding) bool { return h.mac == mac })
	m.held[addr] = holding{mac, m.clock.Add(got.IPAddressLeaseTime(0))}
	l, ok := m.leases.byAddr[netip.MustParseAddr(addr)]
	if !ok || l.MAC != mac || l.State != fleet.LeaseBound || l.Expires.Before(m.held[addr].until) {
		m.t.Fatalf("%s is acknowledged to %s, and on disk is %+v", addr, mac, l)
	}
}
