package dhcp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
)

// A forger sends packets from where it was made, again and again.
type forger struct {
	fd   int
	to   unix.Sockaddr
	stop chan struct{}
	done sync.WaitGroup
}

// forge sends each of the packets every millisecond until it is ended.
func forge(fd int, to unix.Sockaddr, packets [][]byte) *forger {
	f := &forger{fd: fd, to: to, stop: make(chan struct{})}
	f.done.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-f.stop:
				return
			case <-tick.C:
			}
			for _, p := range packets {
				_ = unix.Sendto(fd, p, 0, to)
			}
		}
	})
	return f
}

func (f *forger) end() { close(f.stop); f.done.Wait(); _ = unix.Close(f.fd) }

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// echoReply is one with a header of IP, from an address to that of the server.
func echoReply(from netip.Addr, id uint16, payload string) []byte {
	b := append([]byte{
		0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_ICMP, 0, 0, 0, 0, 0, 0, 10, 77, 0, 1, // the kernel adds length and sum
		0, 0, 0, 0, byte(id >> 8), byte(id), 0, 1,
	}, payload...)
	copy(b[12:], from.AsSlice())
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	binary.BigEndian.PutUint16(b[22:], checksum(b[20:]))
	return b
}

// echoForger answers for addresses from first on, with what is easily guessed.
func echoForger(first netip.Addr, many int) (*forger, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	var packets [][]byte
	for a := first; len(packets) < 2*many; a = a.Next() {
		packets = append(packets, echoReply(a, uint16(os.Getpid()), "provision"), echoReply(a, 0, ""))
	}
	return forge(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 77, 0, 1}}, packets), nil
}

// everyEcho answers for an address under every number that a question can have,
// which is the most that can be guessed.
func everyEcho(addr netip.Addr) (*forger, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	var packets [][]byte
	for id := range 1 << 16 {
		packets = append(packets, echoReply(addr, uint16(id), "provision"))
	}
	return forge(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 77, 0, 1}}, packets), nil
}

// noticed waits until a server has noticed what a test does all the time.
func noticed(happened func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 4000 {
		if happened() {
			return true
		}
		<-tick.C
	}
	return false
}

// probedInPeace sees that a server has asked, and was not misled.
func probedInPeace(t *testing.T, s *Server) {
	t.Helper()
	if st := s.Stats(); st.Conflicts != 0 || st.Probes == 0 {
		t.Errorf("Stats = %+v, want probes without a conflict", st)
	}
}

// Who writes echo replies for the addresses of the pool makes none of them
// unusable: neighbours are asked by ARP.
func TestForgedEchoRepliesForNeighboursCountForNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	run(t, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "nic0")
	run(t, "ip", "addr", "add", "10.77.0.1/24", "dev", "rack0")
	run(t, "ip", "link", "set", "rack0", "up")
	s := startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Observe)}, Nodes: knownNodes{}, Leases: &memoryLeases{}})
	elsewhere(t, "nic0", func() error {
		if err := errors.Join(ipHere("link", "set", "nic0", "up"), ipHere("addr", "add", "10.77.0.9/24", "dev", "nic0")); err != nil {
			return err
		}
		f, err := echoForger(netip.MustParseAddr("10.77.0.100"), 4)
		if err != nil {
			return err
		}
		defer f.end()
		s.SetSubnets([]fleet.Subnet{rackSubnet(fleet.Full)})
		return firstIsOffered(t)
	})
	probedInPeace(t, s)
}

// Behind a router an echo reply counts, if it is the answer to what was asked.
func TestForgedEchoRepliesFromFarAwayCountForNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := behindARouter(t, func(s *Server, ask asking) error {
		if err := errors.Join(ipHere("route", "add", "blackhole", "10.88.0.0/24"), ask.isOffered(macB, "10.88.0.10")); err != nil {
			return err
		}
		f, err := echoForger(netip.MustParseAddr("10.88.0.10"), 11)
		if err != nil {
			return err
		}
		defer f.end()
		if err := ask.isOffered(macA, "10.88.0.11"); err != nil {
			return err
		}
		every, err := everyEcho(netip.MustParseAddr("10.88.0.12"))
		if err != nil {
			return err
		}
		defer every.end()
		if !noticed(func() bool { return s.Stats().ProbeForged > 0 }) {
			return errors.New("nothing was found to be forged")
		}
		return nil
	})
	probedInPeace(t, s)
}

// Who is on another wire of ours does not speak for the neighbours of this one.
func TestARPFromAnotherWireCountsForNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for card, addr := range map[string]string{"rack": "10.77.0.1/24", "yard": "10.99.0.1/24"} {
		run(t, "ip", "link", "add", card+"0", "type", "veth", "peer", "name", card+"1")
		run(t, "ip", "addr", "add", addr, "dev", card+"0")
		run(t, "ip", "link", "set", card+"0", "up")
	}
	s := startServer(t, Options{Subnets: []fleet.Subnet{rackSubnet(fleet.Observe)}, Nodes: knownNodes{}, Leases: &memoryLeases{}})
	var f *forger
	elsewhere(t, "yard1", func() (err error) {
		if err := ipHere("link", "set", "yard1", "up"); err != nil {
			return err
		}
		f, err = arpForger("yard1", "10.77.0.100", "10.77.0.101", "10.77.0.102", "10.77.0.103")
		return err
	})
	defer f.end()
	elsewhere(t, "rack1", func() error {
		if err := ipHere("link", "set", "rack1", "name", "nic0"); err != nil {
			return err
		}
		if err := ipHere("link", "set", "nic0", "up"); err != nil {
			return err
		}
		s.SetSubnets([]fleet.Subnet{rackSubnet(fleet.Full)})
		return firstIsOffered(t)
	})
	probedInPeace(t, s)
}

// arpForger says from a card of this namespace that it has these addresses.
func arpForger(card string, addrs ...string) (*forger, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ifc, err := net.InterfaceByName(card)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	var packets [][]byte
	for _, a := range addrs {
		p := arpProbe(ifc.HardwareAddr, netip.MustParseAddr(a))
		copy(p[14:18], p[24:28])
		p[7] = 2 // a reply
		packets = append(packets, p)
	}
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: ifc.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	return forge(fd, to, packets), nil
}
