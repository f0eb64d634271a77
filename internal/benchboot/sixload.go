package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"time"
)

// sixArgs say what one client of IPv6 wants.
type sixArgs struct {
	Client uint32     // its number
	Do     byte       // message: sixSolicit, and what follows, sixRequest after it, or sixRenew
	Addr   netip.Addr // wanted, or held; invalid: any
	Server []byte     // DUID; to renew
}

// sixLease is what it was told.
type sixLease struct {
	Addr    netip.Addr // invalid: nothing
	Server  []byte     // DUID
	Seconds uint32     // valid lifetime
}

// Messages of DHCPv6, and their options.
const (
	sixSolicit, sixAdvertise, sixRequest, sixRenew, sixReply = 1, 2, 3, 5, 7

	sixClientID, sixServerID, sixIANA, sixIAAddr, sixElapsed = 1, 2, 3, 5, 8
)

// sixLoad has one client ask: for an offer, or for a lease, or to renew one.
func sixLoad(_ context.Context, raw json.RawMessage) (any, error) {
	var a sixArgs
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: goodLocal.AsSlice(), Port: 546, Zone: clientIface})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if a.Do == sixRenew {
		return a.ask(conn, sixRenew, sixReply)
	}
	offer, err := a.ask(conn, sixSolicit, sixAdvertise)
	if err != nil || a.Do == sixSolicit || !offer.Addr.IsValid() {
		return offer, err
	}
	a.Addr, a.Server = offer.Addr, offer.Server
	return a.ask(conn, sixRequest, sixReply)
}

// ask says something until it is answered, for some seconds at most.
func (a sixArgs) ask(conn *net.UDPConn, kind, answer byte) (l sixLease, err error) {
	b := a.message(kind)
	in := make([]byte, 1500)
	for range 5 {
		if _, err := conn.WriteTo(b, allServers6); err != nil {
			return l, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := conn.Read(in)
			if err != nil {
				break // silence
			}
			if n > 4 && in[0] == answer && [3]byte(in[1:4]) == [3]byte(b[1:4]) {
				return readSix(in[4:n])
			}
		}
	}
	return l, nil
}

func (a sixArgs) message(kind byte) []byte {
	b := []byte{kind, kind, byte(a.Client >> 8), byte(a.Client)}
	b = sixOption(b, sixClientID, append([]byte{0, 3, 0, 1}, hallMAC(a.Client)...))
	if a.Server != nil {
		b = sixOption(b, sixServerID, a.Server)
	}
	ia := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	if a.Addr.IsValid() {
		ia = sixOption(ia, sixIAAddr, append(a.Addr.AsSlice(), make([]byte, 8)...))
	}
	return sixOption(sixOption(b, sixIANA, ia), sixElapsed, []byte{0, 0})
}

func sixOption(b []byte, code uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...) //nolint:gosec // short
}

// readSix reads the options of an answer, also those in its association.
func readSix(o []byte) (l sixLease, err error) {
	for len(o) >= 4 {
		code, n := binary.BigEndian.Uint16(o), 4+int(binary.BigEndian.Uint16(o[2:]))
		if len(o) < n {
			return l, errors.New("an option is cut off")
		}
		switch v := o[4:n]; {
		case code == sixServerID:
			l.Server = append([]byte(nil), v...)
		case code == sixIANA && len(v) >= 12:
			in, err := readSix(v[12:])
			if err != nil {
				return l, err
			}
			l.Addr, l.Seconds = in.Addr, in.Seconds
		case code == sixIAAddr && len(v) >= 24:
			l.Addr, l.Seconds = netip.AddrFrom16([16]byte(v)), binary.BigEndian.Uint32(v[20:])
		}
		o = o[n:]
	}
	return l, nil
}
