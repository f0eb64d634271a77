package tftp

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/golden"
	"github.com/rackstage/provision/internal/pcap"
)

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

// clientPackets returns the requests, ACKs and ERRORs that clients sent in
// captures.
func clientPackets(tb testing.TB, names ...string) (sent [][]byte) {
	tb.Helper()
	for _, name := range names {
		packets, err := pcap.Packets(name)
		if err != nil {
			tb.Fatal(err)
		}
		for _, p := range packets {
			if p.TCP || len(p.Data) < 4 {
				continue
			}
			switch op, port := binary.BigEndian.Uint16(p.Data), p.To.Port(); {
			case op == opRRQ && port == Port, (op == opACK || op == opERROR) && port > 1023:
				sent = append(sent, p.Data)
			}
		}
	}
	return sent
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
	golden.Check(t, "testdata/requests.golden", got.String())
}
