package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// goodClients boot while others attack. They have sockets and addresses of
// their own: who floods is answered less, and so is whoever shares its address.
type goodClients struct {
	server, relay netip.Addr
	four, six     *net.UDPConn
}

func newGoodClients(server, relay netip.Addr) (g *goodClients, err error) {
	g = &goodClients{server: server, relay: relay}
	if g.four, err = dialAsRelay(relay, server); err != nil {
		return nil, err
	}
	if g.six, err = listenAsClient6(goodLocal); err != nil {
		_ = g.four.Close()
		return nil, err
	}
	return g, nil
}

func (g *goodClients) close() {
	_ = g.four.Close()
	_ = g.six.Close()
}

func listenAsClient6(addr netip.Addr) (*net.UDPConn, error) {
	return net.ListenUDP("udp6", &net.UDPAddr{IP: addr.AsSlice(), Port: 546, Zone: clientIface})
}

// goodClient4 is the address at which they ask by TFTP and HTTP.
var goodClient4 = stormRange.Addr().Next()

// tries are what they do, at an address of their own, and how long they
// wait for their answer: by DHCP an address, by HTTP a file. By TFTP it is the
// first packet: they fetch the file then, but a second goes by whenever a packet is
// lost.
func (g *goodClients) tries() map[string]func(ctx context.Context, n uint32) (time.Duration, error) {
	return map[string]func(context.Context, uint32) (time.Duration, error){
		"dhcp4": func(_ context.Context, n uint32) (time.Duration, error) {
			return goodClient(g.four, g.relay, 1<<31+n)
		},
		"dhcp6": timed(func(_ context.Context, n uint32) error { return g.solicit(n) }),
		"tftp": func(ctx context.Context, n uint32) (time.Duration, error) {
			node := tftpNode{goodClient4, netip.AddrPortFrom(g.server, 69)}
			took, err := timed(func(ctx context.Context, _ uint32) error { _, err := node.size(ctx, mutantFile); return err })(ctx, n)
			if err != nil {
				return took, err
			}
			b, err := node.get(ctx, mutantFile, 1428, 0)
			if err == nil && len(b) != mutantFileSize {
				err = fmt.Errorf("%d bytes", len(b))
			}
			return took, err
		},
		"http": timed(func(ctx context.Context, _ uint32) error {
			c, err := dialHTTP(ctx, goodClient4, netip.AddrPortFrom(g.server, 80))
			if err != nil {
				return err
			}
			defer c.close()
			b, err := c.get("/boot/"+mutantFile, "")
			if err == nil && len(b) != mutantFileSize {
				err = fmt.Errorf("%d bytes", len(b))
			}
			return err
		}),
	}
}

// timed says how long something took.
func timed(do func(context.Context, uint32) error) func(context.Context, uint32) (time.Duration, error) {
	return func(ctx context.Context, n uint32) (time.Duration, error) {
		began := time.Now()
		err := do(ctx, n)
		return time.Since(began), err
	}
}

// A file that good clients fetch.
const (
	mutantFile     = "ipxe.efi"
	mutantFileSize = 20_000
)

// solicit asks for an IPv6 address until one is advertised.
func (g *goodClients) solicit(n uint32) error {
	mac := hallMAC(n)
	b := []byte{1, 0x5e, byte(n >> 8), byte(n), 0, 1, 0, 10, 0, 3, 0, 1}
	b = append(b, mac...)
	b = append(b, 0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 2, 0, 0)
	in := make([]byte, 1500)
	for range 50 {
		if _, err := g.six.WriteTo(b, allServers6); err != nil {
			return err
		}
		_ = g.six.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			k, err := g.six.Read(in)
			if err != nil {
				break
			}
			if k > 4 && in[0] == 2 && slices.Equal(in[1:4], b[1:4]) {
				return nil
			}
		}
	}
	return errors.New("nothing was advertised in 10 s")
}
