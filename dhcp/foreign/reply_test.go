package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/pcap"
)

func frames(tb testing.TB, name string) [][]byte {
	tb.Helper()
	all, err := pcap.Frames(name)
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// replies are the frames of a capture that the kernel's filter lets through.
func replies(tb testing.TB, name string) (all [][]byte) {
	tb.Helper()
	vm, err := bpf.NewVM(replyFilter)
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range frames(tb, name) {
		if n, err := vm.Run(f); err != nil {
			tb.Fatal(err)
		} else if n > 0 {
			all = append(all, f)
		}
	}
	return all
}

func captures(tb testing.TB) []string {
	tb.Helper()
	names, err := filepath.Glob("../testdata/*.pcap")
	if err != nil || len(names) < 8 {
		tb.Fatalf("captures: %q, %v", names, err)
	}
	return names
}

// Of real boots the filter lets through what servers said, all of it and
// nothing else.
func TestTheFilterPicksRepliesOutOfRealBoots(t *testing.T) {
	all := 0
	for _, name := range captures(t) {
		want := 0
		for _, f := range frames(t, name) {
			if _, err := parseReply(f); err == nil {
				want++
			}
		}
		got := len(replies(t, name))
		if got != want {
			t.Errorf("%s: %d frames pass the filter, want %d", name, got, want)
		}
		all += got
	}
	if all < 20 {
		t.Errorf("%d replies in all captures, want those of a dozen boots", all)
	}
}

// answered is a reply to one of our probes.
func answered(change func(b []byte) []byte) []byte {
	q := question{client: net.HardwareAddr{2, 0, 0, 0, 0, 1}, kind: offerType, class: "PXEClient"}
	b := q.packet()
	b[0] = bootReplyOp
	f := frame(net.HardwareAddr{0x52, 0x54, 0, 0x9a, 0x11, 7}, netip.MustParseAddr("10.20.0.254"), netip.MustParseAddr("255.255.255.255"), clientPort, b)
	binary.BigEndian.PutUint16(f[etherLen+ipLen:], serverPort)
	return change(f)
}

func TestWhatAReplySays(t *testing.T) {
	at := func(i int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[etherLen+ipLen+udpLen+i:], v); return b }
	}
	// The first option of our packets is the message type; nothing that comes
	// after it is looked at when another one takes all the room.
	options := func(v ...byte) func([]byte) []byte { return at(240, append(v, 255)...) }
	tests := map[string]struct {
		frame []byte
		want  sighting
		proxy bool
	}{
		"a proxyDHCP offer":              {answered(at(0, 2)), sighting{PXE: true, Server: netip.MustParseAddr("10.20.0.254")}, true},
		"an offer without a class":       {answered(options(53, 1, 2)), sighting{Server: netip.MustParseAddr("10.20.0.254")}, false},
		"a refusal":                      {answered(options(53, 1, 6)), sighting{NAK: true, Server: netip.MustParseAddr("10.20.0.254")}, false},
		"the server names itself":        {answered(options(53, 1, 2, 54, 4, 10, 20, 0, 9)), sighting{Server: netip.MustParseAddr("10.20.0.9")}, false},
		"an address and its network":     {answered(func(b []byte) []byte { return options(53, 1, 2, 1, 4, 255, 255, 252, 0)(at(16, 10, 20, 0, 77)(b)) }), sighting{Server: netip.MustParseAddr("10.20.0.254"), Addr: netip.MustParseAddr("10.20.0.77"), Bits: 22}, false},
		"a file in its field":            {answered(func(b []byte) []byte { return options(53, 1, 5)(at(108, []byte("evil\x1b[2J.efi")...)(b)) }), sighting{Server: netip.MustParseAddr("10.20.0.254"), File: "evil[2J.efi"}, false},
		"a file in its option":           {answered(options(53, 1, 5, 67, 3, 'a', 'b', 'c')), sighting{Server: netip.MustParseAddr("10.20.0.254"), File: "abc"}, false},
		"through a relay":                {answered(func(b []byte) []byte { return options(53, 1, 5)(at(24, 10, 20, 0, 1)(b)) }), sighting{Server: netip.MustParseAddr("10.20.0.254"), Relay: netip.MustParseAddr("10.20.0.1")}, false},
		"an option that claims too much": {answered(func(b []byte) []byte { return append(at(240, 53, 1, 2, 67, 255)(b)[:etherLen+ipLen+udpLen+245], 'x') }), sighting{Server: netip.MustParseAddr("10.20.0.254")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.want.MAC, tt.want.Client, tt.want.From = net.HardwareAddr{0x52, 0x54, 0, 0x9a, 0x11, 7}, net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.20.0.254")
			got, err := parseReply(tt.frame)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("parseReply = %+v, %v; want %+v", got, err, tt.want)
			}
			if got.proxy() != tt.proxy {
				t.Errorf("proxy = %t", got.proxy())
			}
		})
	}
}

func TestProbesAreNoRepliesAndAskAsFirmwareDoes(t *testing.T) {
	n := Network{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Addrs: []netip.Prefix{netip.MustParsePrefix("10.20.0.1/22")}}
	client := imaginaryClient()
	if hw := client.Hardware(); hw == nil || hw[0]&3 != 2 {
		t.Fatalf("the imaginary client is %s, want a locally administered address", client)
	}
	got := probes(n, client)
	if len(got) != 4 {
		t.Fatalf("%d probes, want two platforms, each on 67 and 4011", len(got))
	}
	for _, f := range got {
		if _, err := parseReply(f); err == nil {
			t.Error("a probe reads as a reply")
		}
		if checksum(f[etherLen:etherLen+ipLen]) != 0 {
			t.Error("the IP checksum is wrong")
		}
		b := f[etherLen+ipLen+udpLen:]
		if !bytes.Equal(f[6:12], n.MAC) || !bytes.Equal(b[28:34], client.Hardware()) {
			t.Errorf("frame from %x for client %x", f[6:12], b[28:34])
		}
	}
}

func FuzzReplies(f *testing.F) {
	for _, name := range captures(f) {
		for _, r := range replies(f, name) {
			f.Add(r)
		}
	}
	f.Add(answered(func(b []byte) []byte { return b }))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseReply(raw)
		if err != nil {
			return
		}
		if !s.Server.IsValid() || len(s.MAC) != 6 || len(s.Client) != 6 || s.Bits < 0 || s.Bits > 32 || len(s.File) > 4*256 || s.File != fleet.CleanText(s.File) {
			t.Errorf("parseReply = %+v", s)
		}
	})
}
