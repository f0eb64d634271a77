package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"time"
)

// strangersArgs are addresses that strangers ask for: clients that never had
// them. They tell the truth where holders do not: a server that has forgotten
// everything gives a holder what it asks for.
type strangersArgs struct {
	Server, Relay netip.Addr
	Wanted        []uint32
	FirstClient   uint32
}

// strangersLoad returns what each stranger was offered; 0 for nothing.
func strangersLoad(_ context.Context, raw json.RawMessage) (any, error) {
	var a strangersArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	udp, err := dialAsRelay(a.Relay, a.Server)
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	offered := make([]uint32, len(a.Wanted))
	in := make([]byte, 1500)
	for i, want := range a.Wanted {
		xid := uint32(i) + 1
		mac := clientMAC(a.FirstClient + uint32(i))
		b := make([]byte, 300)
		copy(b, []byte{1, 1, 6, 1})
		binary.BigEndian.PutUint32(b[4:], xid)
		relay := a.Relay.As4()
		copy(b[24:], relay[:])
		copy(b[28:], mac[:])
		o := append(b[236:236], 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 50, 4)
		_ = append(binary.BigEndian.AppendUint32(o, want), 255)
		if _, err := udp.Write(b); err != nil {
			return nil, err
		}
		_ = udp.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			n, err := udp.Read(in)
			if err != nil {
				break // silence
			}
			if n >= 240 && binary.BigEndian.Uint32(in[4:]) == xid {
				offered[i] = binary.BigEndian.Uint32(in[16:])
				break
			}
		}
	}
	return offered, nil
}
