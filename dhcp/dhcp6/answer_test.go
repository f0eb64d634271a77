package dhcp6

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"go.uber.org/goleak"

	"github.com/rackstage/provision/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOneCardHasOneAddressWhoeverSpeaksFromIt(t *testing.T) {
	b := newBench(t)
	beside := b.boot(t, side)
	first := b.boot(t, uefi)
	if beside == first {
		t.Errorf("UEFI's own IP stack has %s, and so has its boot client", first)
	}
	for name, v := range map[string]voice{"iPXE": ipxe, "the ramdisk": agent, "the installed system": linux, "UEFI once more": uefi} {
		if got := b.boot(t, v); got != first {
			t.Errorf("%s has %s, want %s as before", name, got, first)
		}
		if l, ok := b.LeaseByAddr(first); !ok || l.MAC != theMAC || l.DUID != v.duid {
			t.Errorf("%s: the lease of %s is %+v, want one of %s", name, first, l, theMAC)
		}
	}
	if got := b.boot(t, other); got == first || got == beside {
		t.Errorf("another machine has %s too", got)
	}
}

func TestAnAddressIsTheSameAfterEverythingIsForgotten(t *testing.T) {
	if one, two := newBench(t).boot(t, uefi), newBench(t).boot(t, agent); one != two {
		t.Errorf("%s, and %s from a server that knows nothing", one, two)
	}
}

func TestAReservationIsKeptForItsCard(t *testing.T) {
	n := rack6()
	n.Reservations = []fleet.Reservation{{MAC: theMAC, Addr: netip.MustParseAddr("fd98::42")}}
	b := newBench(t, n)
	m := other.say(t, dhcpv6.MessageTypeSolicit, nil, n.Reservations[0].Addr)
	if got := addressIn(b.hear(t, other, m)); got == n.Reservations[0].Addr {
		t.Error("another card was offered the reserved address")
	}
	if got := b.boot(t, agent); got != n.Reservations[0].Addr {
		t.Errorf("leased %s, want the reserved address", got)
	}
}

func TestWhoIsServedDependsOnTheSubnet(t *testing.T) {
	known := fleet.Node{State: fleet.Ready}
	tests := map[string]struct {
		mode fleet.DHCPMode
		node fleet.Node
		want bool
	}{
		"full serves everybody":             {fleet.Full, fleet.Node{}, true},
		"reserved serves known nodes":       {fleet.Reserved, known, true},
		"reserved serves no strangers":      {fleet.Reserved, fleet.Node{}, false},
		"reserved serves nobody unapproved": {fleet.Reserved, fleet.Node{State: fleet.Discovered}, false},
		"observe is silent":                 {fleet.Observe, known, false},
		"proxy means nothing here":          {fleet.Proxy, known, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rack6()
			n.Mode = tt.mode
			b := newBench(t, n)
			b.nodes[theMAC] = tt.node
			got := b.hear(t, uefi, uefi.say(t, dhcpv6.MessageTypeSolicit, nil))
			if (got != nil) != tt.want {
				t.Errorf("answer %v, want one: %v", got, tt.want)
			}
			if len(b.notes.seen) != 1 || b.notes.seen[0].MAC != theMAC {
				t.Errorf("evidence %v, want one line about %s", b.notes.seen, theMAC)
			}
		})
	}
}

func TestMessagesAreAnsweredByTheBook(t *testing.T) {
	elsewhere, free := netip.MustParseAddr("fd55::1"), netip.MustParseAddr("fd98::1777")
	mine := []byte{0, 4, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	tests := map[string]struct {
		leased bool // before
		kind   dhcpv6.MessageType
		server []byte
		addr   func(leased netip.Addr) netip.Addr
		want   iana.StatusCode // UnspecFail for silence
		gives  bool
	}{
		"a renewal":                                 {true, dhcpv6.MessageTypeRenew, mine, same, iana.StatusSuccess, true},
		"a renewal of what we have forgotten":       {false, dhcpv6.MessageTypeRenew, mine, just(free), iana.StatusSuccess, true},
		"a renewal of another network's":            {false, dhcpv6.MessageTypeRenew, mine, just(elsewhere), iana.StatusNoBinding, false},
		"rebinding":                                 {true, dhcpv6.MessageTypeRebind, nil, same, iana.StatusSuccess, true},
		"rebinding of another network's":            {false, dhcpv6.MessageTypeRebind, nil, just(elsewhere), iana.StatusSuccess, false},
		"a request for another network's":           {false, dhcpv6.MessageTypeRequest, mine, just(elsewhere), iana.StatusNotOnLink, false},
		"a request to another server":               {false, dhcpv6.MessageTypeRequest, []byte{0, 4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}, just(free), iana.StatusUnspecFail, false},
		"an address that is of this link":           {true, dhcpv6.MessageTypeConfirm, nil, same, iana.StatusSuccess, false},
		"one that is not":                           {false, dhcpv6.MessageTypeConfirm, nil, just(elsewhere), iana.StatusNotOnLink, false},
		"the release of a lease":                    {true, dhcpv6.MessageTypeRelease, mine, same, iana.StatusSuccess, false},
		"the release of what it does not have":      {false, dhcpv6.MessageTypeRelease, mine, just(free), iana.StatusNoBinding, false},
		"options alone":                             {false, dhcpv6.MessageTypeInformationRequest, nil, nil, iana.StatusSuccess, false},
		"a solicitation may not name a server":      {false, dhcpv6.MessageTypeSolicit, mine, nil, iana.StatusUnspecFail, false},
		"a request has to":                          {false, dhcpv6.MessageTypeRequest, nil, just(free), iana.StatusUnspecFail, false},
		"an answer of another server is no request": {false, dhcpv6.MessageTypeReply, mine, just(free), iana.StatusUnspecFail, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			var leased netip.Addr
			if tt.leased {
				leased = b.boot(t, agent)
			}
			var addrs []netip.Addr
			if tt.addr != nil {
				addrs = []netip.Addr{tt.addr(leased)}
			}
			got := b.hear(t, agent, agent.say(t, tt.kind, tt.server, addrs...))
			if s := statusIn(got); s != tt.want {
				t.Errorf("status %s, want %s", s, tt.want)
			}
			if a := addressIn(got); a.IsValid() != tt.gives {
				t.Errorf("gives %s, want an address: %v", a, tt.gives)
			}
		})
	}
}

func same(leased netip.Addr) netip.Addr { return leased }

func just(a netip.Addr) func(netip.Addr) netip.Addr { return func(netip.Addr) netip.Addr { return a } }

func TestAReleasedAddressGoesToOthersAndADeclinedOneToNobody(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last, n.UnknownShare = n.Ranges[0].First, 100
	for kind, want := range map[dhcpv6.MessageType]bool{dhcpv6.MessageTypeRelease: true, dhcpv6.MessageTypeDecline: false} {
		b := newBench(t, n)
		addr := b.boot(t, agent)
		if got := addressIn(b.hear(t, other, other.say(t, dhcpv6.MessageTypeSolicit, nil, addr))); got.IsValid() {
			t.Errorf("%s is offered to a second machine", got)
		}
		b.hear(t, agent, agent.say(t, kind, b.id, addr))
		b.clock = b.clock.Add(2 * time.Second)
		got := addressIn(b.hear(t, other, other.say(t, dhcpv6.MessageTypeSolicit, nil)))
		if got.IsValid() != want {
			t.Errorf("after %s the other machine is offered %v, want the address: %v", kind, got, want)
		}
		b.clock = b.clock.Add(quarantineTime)
		if got := addressIn(b.hear(t, other, other.say(t, dhcpv6.MessageTypeSolicit, nil))); !got.IsValid() {
			t.Errorf("after %s and the quarantine nothing is offered", kind)
		}
	}
}

func TestOnlyTheHolderCanGiveAnAddressUp(t *testing.T) {
	b := newBench(t)
	addr := b.boot(t, agent)
	b.hear(t, other, other.say(t, dhcpv6.MessageTypeRelease, b.id, addr))
	forged := agent
	forged.iaid++
	b.hear(t, forged, forged.say(t, dhcpv6.MessageTypeDecline, b.id, addr))
	if _, ok := b.LeaseByAddr(addr); !ok {
		t.Error("a stranger ended the lease")
	}
}

func TestRapidCommitIsOneExchange(t *testing.T) {
	b := newBench(t)
	m := agent.say(t, dhcpv6.MessageTypeSolicit, nil)
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	got := b.hear(t, agent, m)
	if got == nil || got.MessageType != dhcpv6.MessageTypeReply || got.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
		t.Fatalf("answer %v, want a REPLY with rapid commit", got)
	}
	if _, ok := b.LeaseByAddr(addressIn(got)); !ok || len(b.file.saved) != 1 {
		t.Errorf("saved %v, want the one lease", b.file.saved)
	}
}

func TestWhoWritesToOneServerIsToldToWriteToAll(t *testing.T) {
	b := newBench(t)
	addr := b.boot(t, agent)
	a := direct(machine)
	a.to = serverIP
	got, _ := b.ask(t, agent.say(t, dhcpv6.MessageTypeRenew, b.id, addr).ToBytes(), a).(*dhcpv6.Message)
	if s := statusIn(got); s != iana.StatusUseMulticast {
		t.Errorf("status %s, want UseMulticast", s)
	}
	if got := b.ask(t, agent.say(t, dhcpv6.MessageTypeSolicit, nil).ToBytes(), a); got != nil {
		t.Errorf("a SOLICIT to one server was answered: %v", got)
	}
}

func TestTheBootFileIsNamedOnlyWhereItIsAskedFor(t *testing.T) {
	b := newBench(t)
	if got := b.hear(t, side, side.say(t, dhcpv6.MessageTypeSolicit, nil)); got.Options.BootFileURL() != "" {
		t.Errorf("the firmware's IP stack was told %q", got.Options.BootFileURL())
	}
	m := uefi.say(t, dhcpv6.MessageTypeSolicit, nil)
	m.UpdateOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer))
	if got := b.hear(t, uefi, m); got.Options.BootFileURL() != "" {
		t.Errorf("firmware that asks for no boot file was told %q", got.Options.BootFileURL())
	}
	active := fleet.Node{State: fleet.Active, MAC: theMAC}
	b.nodes[theMAC] = active
	if got := b.hear(t, ipxe, ipxe.say(t, dhcpv6.MessageTypeSolicit, nil)).Options.BootFileURL(); !strings.HasPrefix(got, "http://[fd98::1]/boot/ipxe?mac=52-54-00-7e-f7-34&") {
		t.Errorf("iPXE was told %q, want its script", got)
	}
}

func TestWhoAsksForAPrefixTooIsToldThatThereIsNone(t *testing.T) {
	mine := []byte{0, 4, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	tests := map[string]struct {
		kind   dhcpv6.MessageType
		server []byte
		want   iana.StatusCode // UnspecFail for nothing about it
	}{
		"a solicitation": {dhcpv6.MessageTypeSolicit, nil, iana.StatusNoPrefixAvail},
		"a request":      {dhcpv6.MessageTypeRequest, mine, iana.StatusNoPrefixAvail},
		"a renewal":      {dhcpv6.MessageTypeRenew, mine, iana.StatusNoBinding},
		"rebinding":      {dhcpv6.MessageTypeRebind, nil, iana.StatusUnspecFail},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			m := agent.say(t, tt.kind, tt.server, b.boot(t, agent))
			m.AddOption(&dhcpv6.OptIAPD{IaId: [4]byte{0, 0, 0, 7}})
			got := b.hear(t, agent, m)
			if !addressIn(got).IsValid() {
				t.Fatalf("no address beside it: %v", got)
			}
			code := iana.StatusUnspecFail
			if pds := got.Options.IAPD(); len(pds) == 1 && pds[0].IaId == [4]byte{0, 0, 0, 7} && pds[0].Options.Status() != nil {
				code = pds[0].Options.Status().StatusCode
			}
			if code != tt.want {
				t.Errorf("status of the prefix %s, want %s", code, tt.want)
			}
		})
	}
}

func TestUEFIHTTPBootGetsAnHTTPSURLWhereTheSubnetSaysSo(t *testing.T) {
	web := voice{duid: uefi.duid, iaid: uefi.iaid, from: machine, more: pxeOptions("HTTPClient:Arch:00016:UNDI:003001")}
	web.more[1] = dhcpv6.OptClientArchType(iana.EFI_X86_64_HTTP)
	tests := map[string]struct {
		who   voice
		https bool
		port  uint16
		want  string
	}{
		"as declared":             {web, true, 4443, "https://[fd98::1]:4443/"},
		"the usual port":          {web, true, 443, "https://[fd98::1]/"},
		"not declared":            {web, false, 4443, "http://[fd98::1]/"},
		"there is no such server": {web, true, 0, "http://[fd98::1]/"},
		"PXE knows no HTTPS":      {uefi, true, 4443, "tftp://[fd98::1]/"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := rack6()
			n.BootHTTPS = tt.https
			b := newBench(t, n)
			b.o.HTTPSPort = tt.port
			if got := b.hear(t, tt.who, tt.who.say(t, dhcpv6.MessageTypeSolicit, nil)).Options.BootFileURL(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("told %q, want %s…", got, tt.want)
			}
		})
	}
}

// theRelay is the router that sends to us, theSwitch one behind it.
var (
	theRelay  = netip.MustParseAddr("fd98::fe")
	theSwitch = netip.MustParseAddr("fd99::99")
)

func TestWithoutAStoreNobodyGetsAnythingNewAndOldLeasesAreRenewed(t *testing.T) {
	b := newBench(t)
	b.nodes[theMAC] = fleet.Node{State: fleet.Ready}
	addr := b.boot(t, agent)
	b.file.full = true
	b.clock = b.clock.Add(20 * time.Minute)
	if got := b.hear(t, other, other.say(t, dhcpv6.MessageTypeRequest, b.id)); got != nil {
		t.Errorf("a new client was answered: %v", got)
	}
	got := b.hear(t, agent, agent.say(t, dhcpv6.MessageTypeRenew, b.id, addr))
	if addressIn(got) != addr {
		t.Fatalf("the renewal was answered with %v, want %s", got, addr)
	}
	if life := got.Options.OneIANA().Options.OneAddress().ValidLifetime; life != 40*time.Minute {
		t.Errorf("renewed for %s, want what is left on disk: 40m", life)
	}
	if l, _ := b.LeaseByAddr(addr); !l.Expires.Equal(start.Add(time.Hour)) {
		t.Errorf("the lease ends at %s, want as on disk", l.Expires)
	}
}

func TestStrangersCannotTakeAllAddresses(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last = netip.MustParseAddr("fd98::1009") // ten
	b := newBench(t, n)
	given := 0
	for i := range 50 {
		v := strangerNo(i)
		if addressIn(b.hear(t, v, v.say(t, dhcpv6.MessageTypeSolicit, nil))).IsValid() {
			given++
		}
	}
	if given != 5 {
		t.Errorf("%d of 10 addresses went to strangers, want 5", given)
	}
	b.nodes[theMAC] = fleet.Node{State: fleet.Ready}
	b.boot(t, agent)
	if b.Stats().NoAddress != 45 {
		t.Errorf("counted %d refusals, want 45", b.Stats().NoAddress)
	}
}

func TestAFullPoolIsAnAlarmUntilItIsNot(t *testing.T) {
	n := rack6()
	n.Ranges[0].Last, n.UnknownShare = n.Ranges[0].First, 100
	b := newBench(t, n)
	b.boot(t, agent)
	b.clock = b.clock.Add(countEvery)
	b.takeStock(false)
	low := fleet.CodePoolForecast + " subnet rack6"
	if want := []string{low}; !slices.Equal(b.notes.raised, want) {
		t.Errorf("alarms %q, want %q", b.notes.raised, want)
	}
	b.hear(t, other, other.say(t, dhcpv6.MessageTypeSolicit, nil))
	if want := []string{low, fleet.CodePoolExhausted + " subnet rack6"}; !slices.Equal(b.notes.raised, want) {
		t.Errorf("alarms %q, want %q: one got nothing", b.notes.raised, want)
	}
	b.clock = b.clock.Add(time.Hour)
	b.takeStock(false)
	if len(b.notes.raised) != 0 {
		t.Errorf("alarms %q after the lease ended", b.notes.raised)
	}
}

func TestAClientThatHidesItsCardsGetsAFewAddresses(t *testing.T) {
	b := newBench(t)
	v := linux
	v.from = netip.MustParseAddr("fe80::dead:beef:1:2")
	seen := map[netip.Addr]bool{}
	for i := range uint32(3 * maxHidden) {
		v.iaid = i
		if a := addressIn(b.hear(t, v, v.say(t, dhcpv6.MessageTypeSolicit, nil))); a.IsValid() {
			seen[a] = true
		}
	}
	if len(seen) != maxHidden {
		t.Errorf("%d addresses went to one DUID, want %d", len(seen), maxHidden)
	}
}

// A watch over other servers, and what it was told.
type watchman struct {
	chosen []string
	asks   fleet.MAC // as this machine
}

func (w *watchman) Imaginary(mac fleet.MAC) bool { return mac == w.asks }

func (w *watchman) ChosenDUID(duid []byte, subnet string) {
	w.chosen = append(w.chosen, fmt.Sprintf("%x on %s", duid, subnet))
}

func TestWhoLooksForOtherServersHearsOfThem(t *testing.T) {
	b, w := newBench(t), &watchman{}
	b.o.Others = w
	other := []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 9}
	b.hear(t, agent, agent.say(t, dhcpv6.MessageTypeRequest, other))
	b.hear(t, agent, agent.say(t, dhcpv6.MessageTypeRenew, other)) // it did not choose that now
	if want := []string{"00030001020000000009 on rack6"}; !slices.Equal(w.chosen, want) || b.Stats().ForeignServers != 1 {
		t.Errorf("told of %q, want %q", w.chosen, want)
	}
	w.asks = theMAC
	if r := b.hear(t, agent, agent.say(t, dhcpv6.MessageTypeSolicit, nil)); r != nil {
		t.Errorf("our own question got %v", r)
	}
}
