package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rackstage/provision/fleet"
)

// recordBoot writes what a machine says on the wire in its first steps to
// NAME.pcap in the folder that PROVISION_TEST_RECORD names, for new captures of
// package dhcp. It does nothing when that is not set.
func recordBoot(t *testing.T, r *labRack, name string) (stop func()) {
	t.Helper()
	dir := os.Getenv("PROVISION_TEST_RECORD")
	if dir == "" {
		return func() {}
	}
	var mac net.HardwareAddr
	for _, m := range r.rack.Machines() {
		if m.Name == name {
			mac = fleet.MAC(m.MAC).Hardware()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := r.rack.Record(ctx, filepath.Join(dir, name+".pcap"), func(frame []byte) bool {
		return bytes.Contains(frame, mac) && firstSteps(frame) // our own search for other servers is left out
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
}

// firstSteps reports whether a frame is DHCP, a request to TFTP or the head of
// a request to HTTP, on IPv4 or IPv6.
func firstSteps(frame []byte) bool {
	if len(frame) < 62 {
		return false
	}
	var protocol byte
	var segment []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		protocol, segment = frame[23], frame[14+4*int(frame[14]&15):]
	case 0x86dd:
		protocol, segment = frame[20], frame[54:]
	}
	if len(segment) < 20 {
		return false
	}
	const udp, tcp = 17, 6
	switch to := binary.BigEndian.Uint16(segment[2:]); protocol {
	case udp:
		return slices.Contains([]uint16{67, 68, 69, 4011, 546, 547}, to)
	case tcp:
		payload := segment[min(len(segment), int(segment[12]>>4)*4):]
		return bytes.HasPrefix(payload, []byte("GET /")) || bytes.HasPrefix(payload, []byte("HEAD /"))
	}
	return false
}
