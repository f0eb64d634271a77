package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
)

// captured are what real machines sent, by protocol: "dhcp4", "dhcp6", "tftp"
// and "http".
type captured map[string][][]byte

// read adds what is in a pcap file.
func (c captured) read(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if len(b) < 24 {
		return fmt.Errorf("%s is no capture", name)
	}
	for b = b[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		if n > len(b)-16 {
			return fmt.Errorf("%s is cut off", name)
		}
		if protocol, data := toServer(b[16 : 16+n]); protocol != "" {
			c[protocol] = append(c[protocol], data)
		}
		b = b[16+n:]
	}
	return nil
}

// toServer returns what an Ethernet frame brings to a boot server; "" when it
// brings nothing.
func toServer(frame []byte) (protocol string, data []byte) {
	if len(frame) < 54 {
		return "", nil
	}
	var inner []byte
	var kind byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		kind, inner = frame[23], frame[min(len(frame), 14+int(frame[14]&15)*4):]
	case 0x86dd:
		kind, inner = frame[20], frame[54:]
	}
	switch {
	case kind == 17 && len(inner) > 12:
		data = inner[8:min(len(inner), max(8, int(binary.BigEndian.Uint16(inner[4:]))))]
		switch port := binary.BigEndian.Uint16(inner[2:]); {
		case len(data) < 4:
		case port == 67 || port == 4011:
			return "dhcp4", data
		case port == 547:
			return "dhcp6", data
		case port == 69, port > 1023 && data[0] == 0 && data[1] == 4:
			return "tftp", data
		}
	case kind == 6 && len(inner) > 20:
		data = inner[min(len(inner), int(inner[12]>>4)*4):]
		if bytes.HasPrefix(data, []byte("GET ")) || bytes.HasPrefix(data, []byte("HEAD ")) {
			return "http", data
		}
	}
	return "", nil
}
