package access

import (
	"context"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// relayShelf is a RelayStore in a map.
type relayShelf map[string]fleet.Relay

func (s relayShelf) Relays(context.Context) (list []fleet.Relay, err error) {
	for _, r := range s {
		list = append(list, r)
	}
	return list, nil
}
func (s relayShelf) SaveRelay(_ context.Context, r fleet.Relay) error { s[r.Name] = r; return nil }
func (s relayShelf) DeleteRelay(_ context.Context, name string) error { delete(s, name); return nil }

func openRelays(t *testing.T) (*Relays, *Authority, relayShelf) {
	t.Helper()
	a, shelf := authority(t, t.TempDir()), relayShelf{}
	r, err := OpenRelays(t.Context(), shelf, a)
	must(t, err)
	return r, a, shelf
}

func TestARelayEnrolsOnceAndIsKnownByItsKey(t *testing.T) {
	r, a, _ := openRelays(t)
	token, _, err := r.Add(t.Context(), "anna", "west", []string{"west-boot"})
	must(t, err)
	secret, pin, _ := strings.Cut(token, ".")
	if "sha256:"+pin != a.Fingerprint() {
		t.Errorf("the token holds the fingerprint %s, want %s", pin, a.Fingerprint())
	}
	key := ecKey(t)
	_, cert, err := r.Enrol(t.Context(), secret, request(t, key))
	must(t, err)
	got, err := r.Identify([]*x509.Certificate{parse(t, cert)})
	if err != nil || got.Name != "west" || !got.Serves("west-boot") || got.Serves("prd-boot") {
		t.Errorf("Identify = %+v, %v", got, err)
	}
	if _, _, err := r.Enrol(t.Context(), secret, request(t, key)); err != nil {
		t.Errorf("the same machine, whose answer got lost, was refused: %v", err)
	}
	if _, _, err := r.Enrol(t.Context(), secret, request(t, ecKey(t))); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("another machine with the same token: %v, want denied", err)
	}
	if _, err := r.Renew("west", request(t, key)); err != nil {
		t.Errorf("Renew: %v", err)
	}
	if _, err := r.Renew("west", request(t, ecKey(t))); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("Renew with another key: %v, want invalid", err)
	}
}

func TestATokenOfARelayExpires(t *testing.T) {
	r, _, _ := openRelays(t)
	token, _, err := r.Add(t.Context(), "anna", "west", nil)
	must(t, err)
	secret, _, _ := strings.Cut(token, ".")
	r.now = func() time.Time { return time.Now().Add(relayTokenLife + time.Minute) }
	for _, s := range []string{secret, "", "nonsense"} {
		if _, _, err := r.Enrol(t.Context(), s, request(t, ecKey(t))); fleet.CodeOf(err) != "E-RELAY-TOKEN" {
			t.Errorf("Enrol(%q): %v, want E-RELAY-TOKEN", s, err)
		}
	}
}

func TestARelayIsNobodyOnceItIsRemoved(t *testing.T) {
	r, _, shelf := openRelays(t)
	token, _, err := r.Add(t.Context(), "anna", "west", nil)
	must(t, err)
	secret, _, _ := strings.Cut(token, ".")
	_, cert, err := r.Enrol(t.Context(), secret, request(t, ecKey(t)))
	must(t, err)
	must(t, r.Remove(t.Context(), "west"))
	if _, err := r.Identify([]*x509.Certificate{parse(t, cert)}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("Identify: %v, want denied", err)
	}
	if len(shelf) != 0 {
		t.Errorf("the store still has %v", shelf)
	}
	if err := r.Remove(t.Context(), "west"); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("removed twice: %v, want not found", err)
	}
}

// TestARelaysCertificateIsGoodForNothingElse keeps the kinds apart: a relay
// is no node, and a node no relay.
func TestARelaysCertificateIsGoodForNothingElse(t *testing.T) {
	r, a, _ := openRelays(t)
	token, _, err := r.Add(t.Context(), "anna", "west", nil)
	must(t, err)
	secret, _, _ := strings.Cut(token, ".")
	_, cert, err := r.Enrol(t.Context(), secret, request(t, ecKey(t)))
	must(t, err)
	if _, _, err := a.Identify([]*x509.Certificate{parse(t, cert)}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("as a node: %v, want denied", err)
	}
	for name, sign := range map[string]func() ([]byte, error){
		"boot":  func() ([]byte, error) { return a.SignBoot(request(t, ecKey(t)), "west") },
		"stage": func() ([]byte, error) { return a.SignStage(request(t, ecKey(t)), "west", "prd") },
	} {
		cert, err := sign()
		must(t, err)
		if _, err := r.Identify([]*x509.Certificate{parse(t, cert)}); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("a %s certificate as a relay: %v, want denied", name, err)
		}
	}
}

func TestARelayNamesAddressesOfItsOwnSubnetsOnly(t *testing.T) {
	r, a, shelf := openRelays(t)
	_, _, err := r.Add(t.Context(), "anna", "west", []string{"west-boot"})
	must(t, err)
	changed := r.Changed()
	addr := netip.MustParseAddr("10.78.0.1")
	must(t, r.Report(t.Context(), "west", fleet.RelayStatus{Places: []fleet.RelayAt{{Subnet: "west-boot", Addr: addr}, {Subnet: "prd-boot", Addr: addr}}}))
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the address")
	}
	again, err := OpenRelays(t.Context(), shelf, a)
	must(t, err)
	for name, r := range map[string]*Relays{"now": r, "after a restart": again} {
		if got := r.AddrOn("west-boot"); got != addr {
			t.Errorf("%s: AddrOn(west-boot) = %v, want %v", name, got, addr)
		}
		if got := r.AddrsOn("west-boot"); len(got) != 1 || got[0] != addr || len(r.AddrsOn("prd-boot")) != 0 {
			t.Errorf("%s: AddrsOn(west-boot) = %v, want %v; and AddrsOn(prd-boot) = %v, want none", name, got, addr, r.AddrsOn("prd-boot"))
		}
		if got := r.AddrOn("prd-boot"); got.IsValid() {
			t.Errorf("%s: AddrOn(prd-boot) = %v, want none", name, got)
		}
	}
	if err := r.Report(t.Context(), "east", fleet.RelayStatus{}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("a relay that nobody knows reports: %v, want denied", err)
	}
}

// slowShelf is a RelayStore whose disk hangs until somebody lets it go on.
type slowShelf struct {
	relayShelf
	saving, goOn chan struct{}
}

func (s slowShelf) SaveRelay(ctx context.Context, r fleet.Relay) error {
	s.saving <- struct{}{}
	<-s.goOn
	return s.relayShelf.SaveRelay(ctx, r)
}

// TestADiskThatHangsHoldsUpNoPacket asks what the packet path asks, while a
// relay's new address is being stored.
func TestADiskThatHangsHoldsUpNoPacket(t *testing.T) {
	r, _, shelf := openRelays(t)
	_, _, err := r.Add(t.Context(), "anna", "west", []string{"west-boot"})
	must(t, err)
	old, moved := netip.MustParseAddr("10.78.0.1"), netip.MustParseAddr("10.78.0.2")
	at := func(a netip.Addr) fleet.RelayStatus {
		return fleet.RelayStatus{Places: []fleet.RelayAt{{Subnet: "west-boot", Addr: a}}}
	}
	must(t, r.Report(t.Context(), "west", at(old)))
	slow := slowShelf{shelf, make(chan struct{}), make(chan struct{})}
	r.store = slow
	reported := make(chan error, 1)
	go func() { reported <- r.Report(t.Context(), "west", at(moved)) }()
	<-slow.saving
	answered := make(chan netip.Addr, 1)
	go func() {
		_, _ = r.Identify(nil)
		_, _, _ = r.List(), r.Status("west"), r.Changed()
		if err := r.Report(t.Context(), "west", at(old)); err != nil || !r.Known(old) {
			t.Errorf("Report = %v, Known = %v", err, r.Known(old))
		}
		answered <- r.AddrOn("west-boot")
	}()
	select {
	case addr := <-answered:
		if addr != old {
			t.Errorf("the relay is at %v before that is stored, want %v", addr, old)
		}
	case <-time.After(10 * time.Second):
		t.Error("who only asks waits for the disk")
	}
	close(slow.goOn)
	must(t, <-reported)
	if got := r.AddrOn("west-boot"); got != moved {
		t.Errorf("AddrOn = %v, want %v", got, moved)
	}
}
