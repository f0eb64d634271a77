package main

import (
	"bytes"

	"github.com/rackstage/provision/internal/pcap"
)

// captured are what real machines sent, by protocol: "dhcp4", "dhcp6", "tftp"
// and "http".
type captured map[string][][]byte

// read adds what is in a pcap file.
func (c captured) read(name string) error {
	packets, err := pcap.Packets(name)
	if err != nil {
		return err
	}
	for _, p := range packets {
		if protocol := protocolOf(p); protocol != "" {
			c[protocol] = append(c[protocol], p.Data)
		}
	}
	return nil
}

// protocolOf says in which protocol a packet asks a boot server; "" when it
// does not.
func protocolOf(p pcap.Packet) string {
	port := p.To.Port()
	switch {
	case p.TCP && (bytes.HasPrefix(p.Data, []byte("GET ")) || bytes.HasPrefix(p.Data, []byte("HEAD "))):
		return "http"
	case p.TCP, len(p.Data) < 4:
		return ""
	case port == 67, port == 4011:
		return "dhcp4"
	case port == 547:
		return "dhcp6"
	case port == 69, port > 1023 && p.Data[0] == 0 && p.Data[1] == 4:
		return "tftp"
	default:
		return ""
	}
}
