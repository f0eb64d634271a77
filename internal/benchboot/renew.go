package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"net/netip"
	"time"
)

// renewArgs are clients that renew the addresses that they hold.
type renewArgs struct {
	Server, Relay netip.Addr
	Clients       []uint32 // numbers
	Addrs         []uint32 // of each
}

// renewLoad returns for how many seconds each may keep its address; 0 where
// nobody says so.
func renewLoad(_ context.Context, raw json.RawMessage) (any, error) {
	var a renewArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	udp, err := dialAsRelay(a.Relay, a.Server)
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	seconds := make([]uint32, len(a.Clients))
	for i, client := range a.Clients {
		xid := uint32(i) + 1
		mac := clientMAC(client)
		b := make([]byte, 300)
		copy(b, []byte{1, 1, 6, 1})
		binary.BigEndian.PutUint32(b[4:], xid)
		binary.BigEndian.PutUint32(b[12:], a.Addrs[i])
		relay := a.Relay.As4()
		copy(b[24:], relay[:])
		copy(b[28:], mac[:])
		copy(b[236:], []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 3, 255})
		for range 3 {
			if _, err := udp.Write(b); err != nil {
				return nil, err
			}
			if seconds[i] = renewed(udp, xid, a.Addrs[i]); seconds[i] > 0 {
				break
			}
		}
	}
	return seconds, nil
}

// renewed waits for an ACK, and returns how long it is for.
func renewed(udp *net.UDPConn, xid, addr uint32) uint32 {
	in := make([]byte, 1500)
	_ = udp.SetReadDeadline(time.Now().Add(2 * time.Second))
	for {
		n, err := udp.Read(in)
		if err != nil {
			return 0 // silence
		}
		if n < 241 || binary.BigEndian.Uint32(in[4:]) != xid {
			continue
		}
		if kind, _ := readOptions(in[240:n]); kind != 5 || binary.BigEndian.Uint32(in[16:]) != addr {
			return 0
		}
		return leaseTime(in[240:n])
	}
}

// leaseTime finds the option that says for how long.
func leaseTime(o []byte) uint32 {
	for len(o) > 2 && o[0] != 255 {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		n := 2 + int(o[1])
		if len(o) < n {
			break
		}
		if o[0] == 51 && n == 6 {
			return binary.BigEndian.Uint32(o[2:])
		}
		o = o[n:]
	}
	return 0
}
