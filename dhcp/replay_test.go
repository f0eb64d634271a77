package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/golden"
	"github.com/rackstage/provision/internal/pcap"
)

// clientPackets returns the DHCP packets that clients sent in a capture.
func clientPackets(tb testing.TB, name string) (packets [][]byte) {
	tb.Helper()
	all, err := pcap.Packets(name)
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range all {
		if port := p.To.Port(); !p.TCP && p.To.Addr().Is4() && (port == serverPort || port == proxyPort) {
			packets = append(packets, p.Data)
		}
	}
	return packets
}

func captures(tb testing.TB) []string {
	tb.Helper()
	names, err := filepath.Glob("testdata/*.pcap")
	if err != nil || len(names) < 8 {
		tb.Fatalf("captures: %q, %v", names, err)
	}
	return names
}

// show writes an answer so that people can review it.
func show(msg *dhcpv4.DHCPv4, r reply) string {
	if msg == nil {
		return "  silence\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %s to %s, yiaddr %s, siaddr %s", msg.MessageType(), r.to, msg.YourIPAddr, msg.ServerIPAddr)
	if msg.BootFileName != "" {
		fmt.Fprintf(&b, ", file %q", msg.BootFileName)
	}
	fmt.Fprintf(&b, ", %d bytes\n", len(r.packet))
	var codes []int
	for c := range msg.Options {
		codes = append(codes, int(c))
	}
	slices.Sort(codes)
	for _, c := range codes {
		if c == 53 {
			continue
		}
		v := msg.Options[uint8(c)]
		if len(v) > 2 && !bytes.ContainsFunc(v, func(r rune) bool { return r > 126 || !unicode.IsPrint(r) }) {
			fmt.Fprintf(&b, "    %d %q\n", c, v)
			continue
		}
		fmt.Fprintf(&b, "    %d %x\n", c, v)
	}
	return b.String()
}

// A capture is replayed for a machine that we do not know, for one that has
// its system, and beside another server.
func TestCapturedFirmwareIsAnsweredAsReviewed(t *testing.T) {
	for _, name := range captures(t) {
		title := strings.TrimSuffix(filepath.Base(name), ".pcap")
		t.Run(title, func(t *testing.T) {
			packets := clientPackets(t, name)
			if len(packets) < 2 {
				t.Fatalf("only %d packets", len(packets))
			}
			var got strings.Builder
			for _, how := range []string{"full, unknown", "full, active", "proxy, unknown"} {
				mode, state, _ := strings.Cut(how, ", ")
				fmt.Fprintf(&got, "== %s ==\n", how)
				replay(t, &got, packets, fleet.DHCPMode(mode), fleet.State(state))
			}
			golden.Check(t, filepath.Join("testdata", title+".golden"), got.String())
		})
	}
}

func replay(t *testing.T, w *strings.Builder, packets [][]byte, mode fleet.DHCPMode, state fleet.State) {
	t.Helper()
	n := rackSubnet(mode)
	ts := newTestServer(t, n)
	for i, raw := range packets {
		in, err := dhcpv4.FromBytes(raw)
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		mac := fleet.MAC(in.ClientHWAddr.String())
		if state == fleet.Active {
			ts.nodes[mac] = fleet.Node{MAC: mac, Name: "prd-01", State: state}
		}
		if in.Options.Has(dhcpv4.OptionServerIdentifier) && mode == fleet.Full {
			// The client chose the server of the capture; here that is us.
			in.Options[54] = []byte{10, 77, 0, 1}
			in.Options[50] = []byte{10, 77, 0, 100}
			raw = in.ToBytes()
		}
		msg, r := ts.put(raw, byBroadcast())
		fmt.Fprintf(w, "%s, class %q, user class %q\n", in.MessageType(), in.ClassIdentifier(), in.Options[77])
		w.WriteString(show(msg, r))
		if ts.Stats().Panics > 0 {
			t.Fatalf("packet %d made us panic", i)
		}
	}
}

func TestAProxyAnswersOnItsPortToo(t *testing.T) {
	ts := newTestServer(t, rackSubnet(fleet.Proxy))
	from := netip.MustParseAddrPort("10.77.0.180:4011")
	in := packet(macA, request, firmware("PXEClient:Arch:00007:UNDI:003000", 7), has("10.77.0.180"))
	got, r := ts.put(in.ToBytes(), arrival{ifindex: testIfindex, from: from, to: netip.MustParseAddr("10.77.0.1"), proxy: true})
	if kindOf(got) != ack || r.to != from || !got.YourIPAddr.IsUnspecified() || got.BootFileName != "snponly.efi" {
		t.Fatalf("answer = %v to %s, want an ACK with a boot file and without an address", got, r.to)
	}
	if got.ClassIdentifier() != "PXEClient" || got.Options[51] != nil || got.Options[1] != nil {
		t.Errorf("options = %v, want the class, and nothing of addresses", got.Options)
	}
	if ts.leases.saves != 0 {
		t.Error("a proxy stored a lease")
	}
	ts.nodes[macA] = fleet.Node{State: fleet.Active}
	firmware("PXEClient:Arch:00000:UNDI:002001", 0)(in) // a BIOS: it goes on by itself
	if got, _ := ts.put(in.ToBytes(), arrival{ifindex: testIfindex, from: from, to: netip.MustParseAddr("10.77.0.1"), proxy: true}); got != nil {
		t.Errorf("an active node is given %v to boot", got)
	}
	ts.SetSubnets([]fleet.Subnet{rackSubnet(fleet.Observe)})
	delete(ts.nodes, macA)
	if got, _ := ts.put(in.ToBytes(), arrival{ifindex: testIfindex, from: from, proxy: true}); got != nil {
		t.Errorf("a subnet that observes answers on port 4011: %v", got)
	}
}
