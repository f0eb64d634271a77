package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameServer answers for one name, on loopback.
type nameServer struct {
	conn net.PacketConn

	mu    sync.Mutex
	addrs []netip.Addr // none: there is no such name
	sick  bool         // it cannot tell
}

func newNameServer(t *testing.T, addrs ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn}
	s.says(addrs...)
	done := make(chan struct{})
	go func() { s.serve(); close(done) }()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return s
}

func (s *nameServer) serve() {
	buf := make([]byte, 512)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var q dnsmessage.Message
		if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
			continue
		}
		answer := s.answer(q)
		if raw, err := answer.Pack(); err == nil {
			_, _ = s.conn.WriteTo(raw, from)
		}
	}
}

func (s *nameServer) answer(q dnsmessage.Message) dnsmessage.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true}, Questions: q.Questions}
	switch ask := q.Questions[0]; {
	case s.sick:
		out.RCode = dnsmessage.RCodeServerFailure
	case len(s.addrs) == 0 || ask.Name.String() != "provision.example.":
		out.RCode = dnsmessage.RCodeNameError
	default:
		head := dnsmessage.ResourceHeader{Name: ask.Name, Type: ask.Type, Class: dnsmessage.ClassINET, TTL: 1}
		for _, a := range s.addrs {
			switch {
			case a.Is4() && ask.Type == dnsmessage.TypeA:
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && ask.Type == dnsmessage.TypeAAAA:
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	return out
}

// says has the name lead to these addresses from now on.
func (s *nameServer) says(addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs, s.sick = nil, false
	for _, a := range addrs {
		s.addrs = append(s.addrs, netip.MustParseAddr(a))
	}
}

// fails has it answer, from now on, that it cannot tell.
func (s *nameServer) fails() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sick = true
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", s.conn.LocalAddr().String())
	}}
}

// following is a relay of a server that is known by name.
func following(t *testing.T, names *nameServer) (*Relay, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	r := alone(t)
	r.o.Log, r.names = slog.New(slog.NewTextHandler(&log, nil)), names.resolver()
	r.id.Server = "https://provision.example:8443"
	four, six, err := r.dhcpServers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.rules = newRules("west", four, false, r.o.Now, &r.stats)
	r.rules6 = newRules6(six, false, r.o.Now, &r.stats)
	return r, &log
}

func TestAServerThatMovesIsFollowed(t *testing.T) {
	names := newNameServer(t, "192.0.2.7", "2001:db8::7")
	r, log := following(t, names)
	steps := []struct {
		what              string
		then              func()
		wantFour, wantSix string
		moves             bool
	}{
		{"nothing happens", func() {}, "192.0.2.7:67", "[2001:db8::7]:547", false},
		{"it moves", func() { names.says("192.0.2.9", "2001:db8::7") }, "192.0.2.9:67", "[2001:db8::7]:547", true},
		{"it is there still", func() {}, "192.0.2.9:67", "[2001:db8::7]:547", false},
		{"nobody can tell", names.fails, "192.0.2.9:67", "[2001:db8::7]:547", false},
		{"there is no such name", func() { names.says() }, "192.0.2.9:67", "[2001:db8::7]:547", false},
		{"another address comes first", func() { names.says("192.0.2.8", "192.0.2.9", "2001:db8::6", "2001:db8::7") }, "192.0.2.9:67", "[2001:db8::7]:547", false},
		{"it has no IPv6 any more", func() { names.says("192.0.2.9") }, "192.0.2.9:67", "invalid AddrPort", true},
		{"it has IPv6 again", func() { names.says("192.0.2.9", "2001:db8::9") }, "192.0.2.9:67", "[2001:db8::9]:547", true},
		{"it has IPv6 only", func() { names.says("2001:db8::9") }, "invalid AddrPort", "[2001:db8::9]:547", true},
	}
	told := 0
	for _, step := range steps {
		step.then()
		r.follow(t.Context())
		if four, six := r.rules.server().String(), r.rules6.server().String(); four != step.wantFour || six != step.wantSix {
			t.Errorf("when %s DHCP goes to %s and %s, want %s and %s", step.what, four, six, step.wantFour, step.wantSix)
		}
		if step.moves {
			told++
		}
		if got := strings.Count(log.String(), "server has moved"); got != told {
			t.Errorf("when %s the log says %d times that the server has moved, want %d", step.what, got, told)
		}
	}
	if got := strings.Count(log.String(), "not looked up"); got != 1 {
		t.Errorf("the log says %d times that the name leads nowhere, want once", got)
	}
}

// The address that a server had is nobody's whose answers are believed.
func TestOnlyWhereTheServerIsNowIsBelieved(t *testing.T) {
	names := newNameServer(t, "192.0.2.7")
	r, _ := following(t, names)
	names.says("192.0.2.9")
	r.follow(t.Context())
	if r.rules.isServer(netip.MustParseAddrPort("192.0.2.7:67")) || !r.rules.isServer(netip.MustParseAddrPort("192.0.2.9:67")) {
		t.Error("a stranger is believed, or the server is not")
	}
	if !r.isFriend(netip.MustParseAddr("192.0.2.9")) || r.isFriend(netip.MustParseAddr("192.0.2.7")) {
		t.Error("the server is taken for another one")
	}
	if id, err := readIdentity(r.id.dir); err != nil || id.At.Four.String() != "192.0.2.9" {
		t.Errorf("kept for the next start is %v, %v", id, err)
	}
}

func TestAServerThatWasToldByAddressIsNotLookedUp(t *testing.T) {
	names := newNameServer(t, "192.0.2.7")
	r, _ := following(t, names)
	r.o.DHCPServer = netip.MustParseAddrPort("192.0.2.1:67")
	r.rules.moved(r.o.DHCPServer)
	names.says("192.0.2.9", "2001:db8::9")
	r.follow(t.Context())
	if four, six := r.rules.server(), r.rules6.server(); four != r.o.DHCPServer || six.String() != "[2001:db8::9]:547" {
		t.Errorf("DHCP goes to %s and %s, want the one that was told and the one that was found", four, six)
	}
}

// What was confirmed while the server was away is handed over to where it is now.
func TestAServerThatComesBackElsewhereIsFoundAtOnce(t *testing.T) {
	names := newNameServer(t, "192.0.2.7")
	r, _ := following(t, names)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(struct{}{}) }))
	defer server.Close()
	r.link.base, r.link.control = server.URL, server.Client()
	names.says("192.0.2.9")
	if err := r.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.rules.server().String(); got != "192.0.2.9:67" || r.away.Load() {
		t.Errorf("DHCP goes to %s, away: %v", got, r.away.Load())
	}
}

// Who cannot be looked up is there all the same.
func TestAServerIsReachedWithoutItsName(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	names := newNameServer(t, "127.0.0.1")
	dialer := &net.Dialer{Resolver: names.resolver()}
	tests := map[string]struct {
		at      whereabouts
		names   func()
		reached bool
	}{
		"its name is known":            {whereabouts{}, func() { names.says("127.0.0.1") }, true},
		"it moved here":                {whereabouts{"provision.example", netip.MustParseAddr("127.0.0.2"), netip.Addr{}}, func() { names.says("127.0.0.1") }, true},
		"nobody can tell":              {whereabouts{"provision.example", netip.MustParseAddr("127.0.0.1"), netip.Addr{}}, names.fails, true},
		"its name is gone":             {whereabouts{"provision.example", netip.MustParseAddr("127.0.0.1"), netip.Addr{}}, func() { names.says() }, true},
		"nobody ever could":            {whereabouts{}, names.fails, false},
		"another server was found":     {whereabouts{"other.example", netip.MustParseAddr("127.0.0.1"), netip.Addr{}}, names.fails, false},
		"it had two, and one is there": {whereabouts{"provision.example", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, names.fails, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.names()
			conn, err := (&identity{At: tt.at}).dial(dialer)(t.Context(), "tcp", "provision.example:"+port)
			if err == nil {
				defer conn.Close()
			}
			if (err == nil) != tt.reached {
				t.Errorf("reached: %v", err)
			}
			if failed, ok := errors.AsType[*net.DNSError](err); !tt.reached && !ok {
				t.Errorf("error %v, want that of the look-up (%v)", err, failed)
			}
		})
	}
}
