package http

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A hall of machines may have one address only, for others.
func TestAThousandNodesBehindOneAddressBootAtOnce(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	base, e := serveBoot(t, func(o *Options) { o.Now = func() time.Time { return now } })
	macs := make([]string, 1000)
	for i := range macs {
		macs[i] = fmt.Sprintf("52:54:00:01:%02x:%02x", i>>8, i&255)
		e.nodes = append(e.nodes, fleet.Node{ID: fleet.NodeID(fmt.Sprintf("n-%010d", 1000+i)), MAC: fleet.MAC(macs[i]), State: fleet.Ready})
	}
	ask := func(mac string) int {
		res, _ := fetch(t, base, "GET", "/boot/ipxe?mac="+mac)
		return res.StatusCode
	}
	for range strangerBurst { // somebody else there takes all that strangers may have
		ask("52:54:00:00:00:99")
	}
	if code := ask("52:54:00:00:00:99"); code != 429 {
		t.Errorf("a stranger beyond its share: status %d, want 429", code)
	}
	for _, mac := range macs {
		if code := ask(mac); code != 200 {
			t.Fatalf("%s: status %d, want 200", mac, code)
		}
	}
}

func TestAQuotaIsUsedUpByNobodyElse(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	node := func(i int) fleet.Node { return fleet.Node{ID: fleet.NodeID(fmt.Sprint("n-", i)), State: fleet.Ready} }
	q := newQuota(func() time.Time { return now })
	count := func(addr netip.Addr, n func(int) fleet.Node) (allowed int) {
		for i := range 5000 {
			if q.allow(n(i), addr) {
				allowed++
			}
		}
		return allowed
	}
	same := func(int) fleet.Node { return node(1) }
	stranger := func(i int) fleet.Node { return fleet.Node{ID: node(i).ID, State: fleet.Discovered} }
	for _, tt := range []struct {
		what string
		addr netip.Addr
		node func(int) fleet.Node
		want int
	}{
		{"strangers", one, stranger, strangerBurst},
		{"one node", one, same, nodeBurst},
		{"all nodes of an address", one, node, hallBurst - nodeBurst},
		{"the same node elsewhere", other, same, nodeBurst},
	} {
		if got := count(tt.addr, tt.node); got != tt.want {
			t.Errorf("%s: %d acts at once, want %d", tt.what, got, tt.want)
		}
	}
	now = now.Add(10 * time.Second)
	if got := count(one, node); got != 10*hallRate {
		t.Errorf("10 s later: %d acts of nodes, want %d", got, int(10*hallRate))
	}
}

// So do they come to the door of their agents: each holds a poll there.
func TestAThousandAgentsBehindOneAddressHoldTheirPolls(t *testing.T) {
	s, _ := newTestServer(t)
	held := 0
	watch := s.httpServer(nil, doorTLS).ConnState
	for range 1100 {
		conn := &agentConn{}
		watch(conn, http.StateNew)
		watch(conn, http.StateActive)
		if !conn.closed {
			held++
		}
	}
	if held != 1100 {
		t.Errorf("%d agents of one address are let in, want 1100", held)
	}
}

type agentConn struct {
	net.Conn
	closed bool
}

func (c *agentConn) Close() error { c.closed = true; return nil }
func (c *agentConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1000}
}
