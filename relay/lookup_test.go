package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
)

// looking is a relay of a server, without anybody to ask for names.
func looking(t *testing.T, server string, at whereabouts) *Relay {
	t.Helper()
	return &Relay{
		o: Options{Log: slog.New(slog.DiscardHandler)}, id: &identity{Server: server, At: at, dir: t.TempDir()},
		names: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way there") }},
	}
}

// A site whose power comes back while the way to the server, and to its names,
// is broken has to boot its nodes all the same.
func TestAServerIsWhereItWasWhileNobodyKnowsNames(t *testing.T) {
	host, four, six := "provision.example", netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	tests := map[string]struct {
		server            string
		at                whereabouts
		wantFour, wantSix string // "invalid AddrPort": none
	}{
		"it was found before":             {"https://provision.example:8443", whereabouts{host, four, six}, "192.0.2.7:67", "[2001:db8::7]:547"},
		"it had one family only":          {"https://provision.example:8443", whereabouts{host, four, netip.Addr{}}, "192.0.2.7:67", "invalid AddrPort"},
		"it has another name now":         {"https://other.example:8443", whereabouts{host, four, six}, "invalid AddrPort", "invalid AddrPort"},
		"it was never found":              {"https://provision.example:8443", whereabouts{}, "invalid AddrPort", "invalid AddrPort"},
		"it has no name, but an address":  {"https://192.0.2.9:8443", whereabouts{host, four, six}, "192.0.2.9:67", "invalid AddrPort"},
		"it has no name, and one of IPv6": {"https://[2001:db8::9]:8443", whereabouts{}, "invalid AddrPort", "[2001:db8::9]:547"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			gotFour, gotSix, err := looking(t, tt.server, tt.at).dhcpServers(t.Context())
			if gotFour.String() != tt.wantFour || gotSix.String() != tt.wantSix {
				t.Errorf("DHCP goes to %s and %s, want %s and %s", gotFour, gotSix, tt.wantFour, tt.wantSix)
			}
			if (err == nil) != (gotFour.IsValid() || gotSix.IsValid()) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestWhereTheServerWasFoundIsKeptForTheNextStart(t *testing.T) {
	dir := t.TempDir()
	r := looking(t, "https://192.0.2.9:8443", whereabouts{})
	r.id.dir = dir
	if _, _, err := r.dhcpServers(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := readIdentity(dir)
	if want := (whereabouts{"192.0.2.9", netip.MustParseAddr("192.0.2.9"), netip.Addr{}}); err != nil || id == nil || id.At != want {
		t.Errorf("kept is %+v, %v; want %+v", id, err, want)
	}
}
