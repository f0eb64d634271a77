package dhcp6

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A captured packet is what a client sent to UDP 547.
type captured struct {
	from    netip.Addr
	payload []byte
}

func clientPackets(tb testing.TB, name string) []captured {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	order := binary.LittleEndian
	if len(b) < 24 || order.Uint32(b) != 0xa1b2c3d4 && order.Uint32(b) != 0xa1b23c4d {
		tb.Fatalf("%s is no pcap file", name)
	}
	var packets []captured
	for b = b[24:]; len(b) >= 16; {
		n := int(order.Uint32(b[8:]))
		if n > len(b)-16 {
			tb.Fatalf("%s is cut off", name)
		}
		if p, ok := toServer(b[16 : 16+n]); ok {
			packets = append(packets, p)
		}
		b = b[16+n:]
	}
	return packets
}

// toServer reads an Ethernet frame with UDP over IPv6.
func toServer(frame []byte) (captured, bool) {
	if len(frame) < 62 || binary.BigEndian.Uint16(frame[12:]) != 0x86dd || frame[20] != 17 {
		return captured{}, false
	}
	udp := frame[54:]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp[2:]) != serverPort || length < 8 || length > len(udp) {
		return captured{}, false
	}
	return captured{netip.AddrFrom16([16]byte(frame[22:38])), udp[8:length]}, true
}

func captures(tb testing.TB) []string {
	tb.Helper()
	names, err := filepath.Glob("testdata/*.pcap")
	if err != nil || len(names) < 2 {
		tb.Fatalf("captures: %q, %v", names, err)
	}
	return names
}

// readdress writes our DUID and the addresses that we gave into a message that
// was recorded with another server.
func readdress(tb testing.TB, b *bench, raw []byte, given map[[4]byte]*dhcpv6.OptIAAddress) []byte {
	tb.Helper()
	m, err := dhcpv6.MessageFromBytes(raw)
	if err != nil {
		tb.Fatal(err)
	}
	if m.Options.ServerID() != nil {
		m.UpdateOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: b.id})
	}
	for _, o := range m.Options.IANA() {
		if o.Options.OneAddress() != nil {
			o.Options.Update(given[o.IaId])
		}
	}
	return m.ToBytes()
}

// show writes a message so that people can review it.
func show(d dhcpv6.DHCPv6) string {
	m, ok := d.(*dhcpv6.Message)
	if !ok {
		return "  silence\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %s, preference %d", m.MessageType, m.Options.Preference())
	if s := m.Options.Status(); s != nil {
		fmt.Fprintf(&b, ", %s", s.StatusCode)
	}
	b.WriteString("\n")
	for _, o := range m.Options.IANA() {
		fmt.Fprintf(&b, "    IA %x", o.IaId)
		for _, a := range o.Options.Addresses() {
			fmt.Fprintf(&b, " %s for %s", a.IPv6Addr, a.ValidLifetime)
		}
		if s := o.Options.Status(); s != nil {
			fmt.Fprintf(&b, " %s", s.StatusCode)
		}
		b.WriteString("\n")
	}
	for _, o := range m.Options.Options {
		switch o.Code() {
		case dhcpv6.OptionIANA, dhcpv6.OptionClientID, dhcpv6.OptionPreference, dhcpv6.OptionStatusCode:
		default:
			fmt.Fprintf(&b, "    %d %q\n", o.Code(), o.ToBytes())
		}
	}
	return b.String()
}

func TestCapturedFirmwareIsAnsweredAsReviewed(t *testing.T) {
	for _, name := range captures(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b := newBench(t)
			given := map[[4]byte]*dhcpv6.OptIAAddress{}
			var got bytes.Buffer
			for _, p := range clientPackets(t, name) {
				raw := readdress(t, b, p.payload, given)
				q, err := parseQuery(raw, direct(p.from))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&got, "%s from %s, firmware %q arch %d, uuid %s\n", q.msg.MessageType, q.mac, q.boot.Firmware, q.boot.Arch, q.boot.UUID)
				answer := b.ask(t, raw, direct(p.from))
				got.WriteString(show(answer))
				if m, ok := answer.(*dhcpv6.Message); ok {
					for _, o := range m.Options.IANA() {
						if a := o.Options.OneAddress(); a != nil {
							given[o.IaId] = a
						}
					}
				}
			}
			golden := strings.TrimSuffix(name, ".pcap") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
