package tftp

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// captures returns the captures of real firmware that the packages for DHCP
// have, with what it asks by TFTP in them.
func captures(tb testing.TB) []string {
	tb.Helper()
	four, err := filepath.Glob("../../dhcp/testdata/*.pcap")
	six, err6 := filepath.Glob("../../dhcp/dhcp6/testdata/*.pcap")
	if err != nil || err6 != nil || len(four) < 8 || len(six) < 2 {
		tb.Fatalf("captures: %q, %v; %q, %v", four, err, six, err6)
	}
	return append(four, six...)
}

// clientPackets returns the TFTP packets that clients sent in captures.
func clientPackets(tb testing.TB, names ...string) (packets [][]byte) {
	tb.Helper()
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		for b = b[24:]; len(b) >= 16; {
			n := int(binary.LittleEndian.Uint32(b[8:]))
			if p := tftpPayload(b[16 : 16+n]); p != nil {
				packets = append(packets, p)
			}
			b = b[16+n:]
		}
	}
	return packets
}

// tftpPayload returns what an Ethernet frame with UDP holds, if that is a
// request, an ACK or an ERROR.
func tftpPayload(frame []byte) []byte {
	if len(frame) < 46 {
		return nil
	}
	var udp []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if frame[23] == 17 {
			udp = frame[14+int(frame[14]&15)*4:]
		}
	case 0x86dd:
		if frame[20] == 17 && len(frame) >= 66 {
			udp = frame[54:]
		}
	}
	if len(udp) < 12 {
		return nil
	}
	port, data := binary.BigEndian.Uint16(udp[2:]), udp[8:]
	switch op := binary.BigEndian.Uint16(data); {
	case op == opRRQ && port == Port, (op == opACK || op == opERROR) && port > 1023:
		return data[:binary.BigEndian.Uint16(udp[4:])-8]
	}
	return nil
}

// What each firmware and loader asks for, in which blocks and windows, is in
// testdata/requests.golden with what we grant of it.
func TestRequestsOfRealFirmwareAreGrantedAsReviewed(t *testing.T) {
	var got strings.Builder
	for _, name := range captures(t) {
		fmt.Fprintf(&got, "%s\n", filepath.Base(name))
		for _, p := range clientPackets(t, name) {
			if binary.BigEndian.Uint16(p) != opRRQ {
				continue
			}
			r, err := parseRequest(p)
			if err != nil {
				t.Errorf("%s: %q: %v", name, p, err)
			}
			clean, ok := cleanName(r.name)
			if !ok {
				t.Errorf("%s: name %q is refused", name, r.name)
			}
			fmt.Fprintf(&got, "  %s (%s)", clean, r.mode)
			for _, o := range r.options {
				fmt.Fprintf(&got, " %s %d", o.name, o.value)
			}
			got.WriteString("\n")
		}
	}
	const golden = "testdata/requests.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
