package inventory

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/api"
)

// tlv makes one type-length-value of an LLDP data unit.
func tlv(kind int, value string) string {
	return string([]byte{byte(kind<<1 | len(value)>>8), byte(len(value))}) + value
}

// unit is a data unit as a switch sends it.
var unit = tlv(1, "\x04\x00\x11\x22\x33\x44\x55") + tlv(2, "\x05Ethernet1/7") + tlv(3, "\x00\x78") +
	tlv(4, "rack 4, node 7") + tlv(5, "sw-4.example") + tlv(127, "\x00\x80\xc2\x01\x00\x01") + tlv(0, "")

func TestNeighbourIsRead(t *testing.T) {
	tests := map[string]struct {
		unit string
		want api.LLDP
		bad  bool
	}{
		"a switch": {unit, api.LLDP{Chassis: "00:11:22:33:44:55", Port: "Ethernet1/7", System: "sw-4.example"}, false},
		"a port that is a MAC is called by its description": {
			tlv(1, "\x07sw") + tlv(2, "\x03\x00\x11\x22\x33\x44\x66") + tlv(4, "swp7") + tlv(0, ""), api.LLDP{Chassis: "sw", Port: "swp7"}, false,
		},
		"addresses as names": {
			tlv(1, "\x05\x01\x0a\x4d\x00\x01") + tlv(2, "\x04\x01\x0a\x4d\x00\x02") + tlv(0, ""), api.LLDP{Chassis: "10.77.0.1", Port: "10.77.0.2"}, false,
		},
		"control characters are dropped": {
			tlv(1, "\x07a\x1b[2Jb") + tlv(2, "\x05\x00\n1") + tlv(5, "x\u2028y") + tlv(0, ""), api.LLDP{Chassis: "a[2Jb", Port: "1", System: "xy"}, false,
		},
		"what is not text is dropped":   {tlv(1, "\x07sw") + tlv(2, "\x051") + tlv(5, "\xff\xfe") + tlv(0, ""), api.LLDP{Chassis: "sw", Port: "1"}, false},
		"nothing":                       {"", api.LLDP{}, true},
		"a unit without end":            {tlv(1, "\x07sw") + tlv(2, "\x051"), api.LLDP{}, true},
		"a unit that ends too soon":     {unit[:20], api.LLDP{}, true},
		"a length beyond the frame":     {"\x03\xff", api.LLDP{}, true},
		"another order":                 {tlv(2, "\x051") + tlv(1, "\x07sw") + tlv(0, ""), api.LLDP{}, true},
		"a neighbour without a port":    {tlv(1, "\x07sw") + tlv(0, ""), api.LLDP{}, true},
		"an address of an unknown size": {tlv(1, "\x05\x01\x0a") + tlv(2, "\x051") + tlv(0, ""), api.LLDP{}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseLLDP([]byte(tt.unit))
			if (err != nil) != tt.bad || got != tt.want {
				t.Errorf("parseLLDP = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func FuzzParseLLDP(f *testing.F) {
	f.Add([]byte(unit))
	f.Add([]byte(unit[:30]))
	f.Add([]byte{2, 1, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseLLDP(b)
		if err != nil {
			return
		}
		for _, s := range []string{n.Chassis, n.Port, n.System} {
			if len(s) > 600 || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("kept %q", s)
			}
		}
	})
}

func TestNewsOfNeighboursIsTold(t *testing.T) {
	n := NewNeighbours()
	who := api.LLDP{Chassis: "c", Port: "p"}
	n.keep("eth0", who)
	n.keep("eth0", who)
	select {
	case <-n.Changed():
	default:
		t.Error("nobody was told of a new neighbour")
	}
	select {
	case <-n.Changed():
		t.Error("the same neighbour was told twice")
	default:
	}
	var nobody *Neighbours
	if len(nobody.All()) != 0 || n.All()["eth0"] != who {
		t.Errorf("All = %v", n.All())
	}
}

func TestNeighbourIsHeardOverACable(t *testing.T) {
	done := make(chan struct{})
	go func() { // its thread is in a network namespace of its own, and ends with it
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("make network namespace: %v (this test needs root)", err)
			return
		}
		hearOverCable(t)
	}()
	<-done
}

func hearOverCable(t *testing.T) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "card0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "switch0"}); err != nil {
		t.Error(err)
		return
	}
	for _, name := range []string{"card0", "switch0"} {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
	port, err := net.InterfaceByName("switch0")
	if err != nil {
		t.Error(err)
		return
	}
	send, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(send) // the end of the test
	to := &unix.SockaddrLinklayer{Protocol: htons(etherLLDP), Ifindex: port.Index, Halen: 6, Addr: lldpGroup}
	n := NewNeighbours()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Frames go out again and again, junk among them, until one was heard.
	stop := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			for _, b := range []string{"junk", unit} {
				_ = unix.Sendto(send, []byte(b), 0, to)
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	go func() {
		select {
		case <-n.Changed():
		case <-ctx.Done():
		}
		cancel()
	}()
	if err := n.Listen(ctx); err != nil {
		t.Errorf("Listen = %v", err)
	}
	close(stop)
	<-sent
	if got := n.All()["card0"].Port; got != "Ethernet1/7" {
		t.Errorf("heard %+v", n.All())
	}
}
