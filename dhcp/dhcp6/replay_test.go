package dhcp6

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/rackstage/provision/internal/golden"
	"github.com/rackstage/provision/internal/pcap"
)

// clientPackets returns what clients sent to servers in a capture.
func clientPackets(tb testing.TB, name string) (packets []pcap.Packet) {
	tb.Helper()
	all, err := pcap.Packets(name)
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range all {
		if !p.TCP && p.To.Addr().Is6() && p.To.Port() == serverPort {
			packets = append(packets, p)
		}
	}
	return packets
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
			rack := rack6()
			rack.BootParams = []string{"quiet", "a=b"}
			b := newBench(t, rack, remote6())
			given := map[[4]byte]*dhcpv6.OptIAAddress{}
			var got bytes.Buffer
			for _, p := range clientPackets(t, name) {
				raw := readdress(t, b, p.Data, given)
				q, err := parseQuery(raw, direct(p.From.Addr()))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&got, "%s from %s, firmware %q arch %d, uuid %s\n", q.msg.MessageType, q.mac, q.boot.Firmware, q.boot.Arch, q.boot.UUID)
				answer := b.ask(t, raw, direct(p.From.Addr()))
				got.WriteString(show(answer))
				if m, ok := answer.(*dhcpv6.Message); ok {
					for _, o := range m.Options.IANA() {
						if a := o.Options.OneAddress(); a != nil {
							given[o.IaId] = a
						}
					}
				}
			}
			golden.Check(t, strings.TrimSuffix(name, ".pcap")+".golden", got.String())
		})
	}
}
