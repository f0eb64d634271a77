package pcap_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/pcap"
)

func TestARealBootIsReadAsTcpdumpDoes(t *testing.T) {
	tests := map[string]struct {
		name        string
		tcp         bool
		from, to    string
		first, last string // of the data
	}{
		"DHCP":      {"../../dhcp/testdata/rack-bios.pcap", false, "0.0.0.0:68", "255.255.255.255:67", "\x01\x01\x06", "\xff"},
		"HTTP":      {"../../dhcp/testdata/uefi-http4-ipxe.pcap", true, "10.99.0.180:1105", "10.99.0.1:8080", "HEAD /ipxe.efi", "\r\n\r\n"},
		"DHCPv6":    {"../../dhcp/dhcp6/testdata/rack-uefi6.pcap", false, "[fe80::", "[ff02::1:2]:547", "\x01", ""},
		"TFTP ACKs": {"../../dhcp/testdata/bios-pxelinux.pcap", false, "10.99.0.139:6447", "10.99.0.1:44619", "\x00\x04\x00", "\x02"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			packets, err := pcap.Packets(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range packets {
				if p.TCP == tt.tcp && strings.HasPrefix(p.From.String(), tt.from) && strings.HasPrefix(p.To.String(), tt.to) &&
					strings.HasPrefix(string(p.Data), tt.first) && strings.HasSuffix(string(p.Data), tt.last) {
					return
				}
			}
			t.Errorf("among %d packets there is none of %s from %s to %s", len(packets), name, tt.from, tt.to)
		})
	}
}

func TestWhatNeighboursAnswerIsReadToo(t *testing.T) {
	tests := map[string]struct {
		read  func(string) ([][]byte, error)
		name  string
		first string // of a message
		size  int
	}{
		"ARP":                    {pcap.ARP, "../../dhcp/testdata/neighbours/linux.pcap", "\x00\x01\x08\x00\x06\x04\x00\x02", 28},
		"an echo reply":          {pcap.ICMP, "../../dhcp/testdata/neighbours/linux.pcap", "\x00\x00", 24},
		"a router advertisement": {pcap.ICMP, "../../dhcp/dhcp6/testdata/neighbours/radvd.pcap", "\x86\x00", 136},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			all, err := tt.read(tt.name)
			if err != nil || len(all) == 0 {
				t.Fatalf("%x, %v", all, err)
			}
			for _, m := range all {
				if !strings.HasPrefix(string(m), tt.first) || len(m) != tt.size {
					t.Errorf("%x is no message of %d bytes that begins with %x", m, tt.size, tt.first)
				}
			}
		})
	}
}

func TestWhatIsNoCaptureIsSaid(t *testing.T) {
	whole, err := os.ReadFile("../../dhcp/testdata/rack-bios.pcap")
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"is no capture": []byte("#!ipxe"), "is cut off": whole[:len(whole)-1]} {
		file := filepath.Join(t.TempDir(), "x.pcap")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := pcap.Packets(file); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want that it %s", err, name)
		}
	}
}

func FuzzNoFrameReadsBeyondItsEnd(f *testing.F) {
	frames, err := pcap.Frames("../../dhcp/testdata/uefi-http4-ipxe.pcap")
	if err != nil {
		f.Fatal(err)
	}
	for _, frame := range frames[:min(len(frames), 50)] {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if p, ok := pcap.Parse(frame); ok && len(p.Data) > len(frame)-14-28 {
			t.Errorf("%d bytes of data in a frame of %d", len(p.Data), len(frame))
		}
	})
}
