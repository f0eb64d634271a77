package dhcp6

import (
	"bytes"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/ipv6"

	"github.com/rackstage/provision/internal/pcap"
)

// FuzzHandle hands anything in, straight and through a relay: nothing may make
// us panic, and what we answer has to be readable.
func FuzzHandle(f *testing.F) {
	for _, name := range captures(f) {
		for _, p := range clientPackets(f, name) {
			f.Add(p.Data, true)
			f.Add(p.Data, false)
		}
	}
	for _, v := range []voice{uefi, ipxe, agent, linux} {
		f.Add(relayed(f, v.say(f, dhcpv6.MessageTypeSolicit, nil), machine, "fd99::1"), false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, onLink bool) {
		b := newBench(t)
		a := fromRelay()
		if onLink {
			a = direct(machine)
		}
		b.ask(t, raw, a)
		if n := b.Stats().Panics; n != 0 {
			t.Errorf("%d panics", n)
		}
	})
}

// FuzzAdvertisement reads what neighbours say about themselves as routers.
func FuzzAdvertisement(f *testing.F) {
	for _, name := range append(captures(f), "testdata/neighbours/radvd.pcap") {
		messages, err := pcap.ICMP(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, m := range messages {
			if ipv6.ICMPType(m[0]) == ipv6.ICMPTypeRouterAdvertisement {
				f.Add(m[4:]) // what is behind type, code and checksum
			}
		}
	}
	f.Add(advertisement{}.body())
	f.Add(advertisement{managed: true, lifetime: routerLife, mtu: 1500, hardware: []byte{2, 0, 0, 0, 0, 1}}.body())
	f.Add(bytes.Repeat([]byte{0}, 11))
	f.Fuzz(func(t *testing.T, body []byte) {
		if life, ok := lifetimeOf(body); ok && (life < 0 || len(body) < 12) {
			t.Errorf("lifetimeOf(%x) = %s", body, life)
		}
	})
}

// FuzzDUID reads identifiers: two orders of one UUID stay one machine.
func FuzzDUID(f *testing.F) {
	for _, name := range captures(f) {
		for _, p := range clientPackets(f, name) {
			m, err := dhcpv6.MessageFromBytes(p.Data)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(m.Options.ClientID().ToBytes())
		}
	}
	f.Add([]byte{0, 4, 0x97, 0x07, 0xb4, 0x7b, 0x2e, 0x23, 0x7e, 0x42, 0xa9, 0xab, 0x2b, 0x3d, 0x9e, 0xf2, 0x4f, 0xbe})
	f.Add([]byte{0, 3, 0, 1, 0x52, 0x54, 0, 0x7e, 0xf7, 0x34})
	f.Add([]byte{0, 1, 0, 1, 1, 2, 3, 4, 0x52, 0x54, 0, 0x7e, 0xf7, 0x34})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < minDUID || len(raw) > maxDUID {
			return
		}
		d := duid(raw)
		_, _, _ = d.mac(), d.uuid(true), d.uuid(false)
		if canonicalHex(d.canonical()) != d.canonical() {
			t.Errorf("canonical(%x) is not its own", raw)
		}
		if d.kind() == duidUUID && len(d) == 18 {
			swapped := swapUUID([16]byte(d[2:]))
			if other := append(duid{0, duidUUID}, swapped[:]...); other.canonical() != d.canonical() {
				t.Errorf("%x and %x are two machines", d, other)
			}
		}
	})
}
