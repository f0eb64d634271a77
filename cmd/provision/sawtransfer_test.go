package main

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe/tftp"
)

func TestATransferIsToldInOneLine(t *testing.T) {
	base := tftp.Transfer{
		Client: netip.MustParseAddrPort("10.1.0.7:2070"), Local: netip.MustParseAddrPort("10.1.0.1:40123"),
		Name: "snponly.efi", Size: 284672, Sent: 284672, Block: 1468, Window: 4, Packets: 194, RTT: 1234567, Duration: 61 * time.Millisecond,
	}
	with := func(change func(*tftp.Transfer)) tftp.Transfer {
		t := base
		change(&t)
		return t
	}
	tests := map[string]struct {
		transfer tftp.Transfer
		want     string
	}{
		"all went well": {base, "snponly.efi by TFTP, 284672 bytes in 61ms, block 1468, window 4, round trip 1.23ms"},
		"with losses": {
			with(func(t *tftp.Transfer) { t.Resent = 3 }),
			"snponly.efi by TFTP, 284672 bytes in 61ms, block 1468, window 4, round trip 1.23ms, 3 of 194 packets sent again",
		},
		"the client broke off": {
			with(func(t *tftp.Transfer) {
				t.Sent, t.RTT, t.Err = 1468, 0, &tftp.AbortedError{Code: 3, Text: "disk\nfull"}
			}),
			`snponly.efi by TFTP failed: the client broke off: error 3 "disk\nfull"; 1468 bytes in 61ms, block 1468, window 4 of 284672`,
		},
		"the file could not be opened": {
			with(func(t *tftp.Transfer) { t.Block, t.Err = 0, errors.New("permission denied") }),
			"snponly.efi by TFTP failed: permission denied",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := transferText(tt.transfer); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestAFirewallThatDropsTheAnswersIsNamedWithItsFix(t *testing.T) {
	got := transferText(tftp.Transfer{
		Client: netip.MustParseAddrPort("10.1.0.7:2070"), Local: netip.MustParseAddrPort("10.1.0.1:40123"),
		Name: "snponly.efi", Size: 284672, Block: 1468, Window: 4, Packets: 6, Err: tftp.ErrUnheard,
	})
	for _, want := range []string{"none of 6 packets from our port 40123", "pass the firewall", "tftp.single_port: true", "anyone", "10.1.0.7"} {
		_, after, ok := strings.Cut(got, want) // the firewall first, and what the other way costs
		if !ok {
			t.Errorf("%q does not say %q after the others", got, want)
		}
		got = after
	}
}

// A logbook writes down what it is told.
type logbook struct{ lines []string }

func (l *logbook) Raise(code, on, _ string) { l.lines = append(l.lines, "raise "+code+" on "+on) }
func (l *logbook) Clear(code, on string)    { l.lines = append(l.lines, "clear "+code+" on "+on) }
func (l *logbook) observe(ev fleet.Evidence) {
	l.lines = append(l.lines, string(ev.Phase)+" of "+string(ev.MAC))
}

func TestTransfersBecomeEvidenceAndAlarms(t *testing.T) {
	const mac = "52:54:00:00:00:01"
	known, stranger := netip.MustParseAddrPort("10.1.0.7:2070"), netip.MustParseAddrPort("10.1.0.8:2070")
	aborted := &tftp.AbortedError{Code: 8, Text: "User aborted the transfer"}
	tests := map[string]struct {
		transfer tftp.Transfer
		want     []string
	}{
		"a loader was fetched": {
			tftp.Transfer{Client: known, Name: "snponly.efi", Size: 9, Sent: 9, Block: 512, Proved: true},
			[]string{"clear E-TFTP-UNHEARD on subnet rack", "loader of " + mac},
		},
		"only the last ACK was lost": {
			tftp.Transfer{Client: known, Name: "snponly.efi", Size: 900, Sent: 512, Block: 512, Err: tftp.ErrLastUnheard, Proved: true},
			[]string{"clear E-TFTP-UNHEARD on subnet rack", "loader of " + mac},
		},
		"from the port of all": { // which proves nothing, and there is no other
			tftp.Transfer{Client: known, Local: netip.MustParseAddrPort("10.1.0.1:69"), Name: "snponly.efi", Size: 9, Sent: 9, Block: 512},
			[]string{"clear E-TFTP-UNHEARD on subnet rack", "loader of " + mac},
		},
		"by ACKs that may be guessed": {
			tftp.Transfer{Client: known, Local: netip.MustParseAddrPort("10.1.0.1:40123"), Name: "snponly.efi", Size: 9, Sent: 9, Block: 512},
			[]string{"loader of " + mac},
		},
		"no answer was heard": {
			tftp.Transfer{Client: known, Name: "snponly.efi", Size: 9, Block: 512, Packets: 6, Err: tftp.ErrUnheard},
			[]string{"dhcp of " + mac}, // one packet, in whoever's name, is no alarm
		},
		"the machine fell silent": {
			tftp.Transfer{Client: known, Name: "snponly.efi", Size: 900, Sent: 512, Block: 512, Err: tftp.ErrSilent, Proved: true},
			[]string{"clear E-TFTP-UNHEARD on subnet rack", "dhcp of " + mac},
		},
		"it asked for the size":           {tftp.Transfer{Client: known, Name: "snponly.efi", Size: 9, Block: 512, Err: aborted}, nil},
		"it asked for what is not there":  {tftp.Transfer{Client: known, Name: "revocations.efi", Err: fs.ErrNotExist}, nil},
		"a loader of ours is not there":   {tftp.Transfer{Client: known, Name: "EFI//ipxe.efi", Err: fs.ErrNotExist}, []string{" of " + mac}},
		"nor is it for a stranger":        {tftp.Transfer{Client: stranger, Name: "ipxe.efi", Err: fs.ErrNotExist}, nil},
		"a stranger hears nothing":        {tftp.Transfer{Client: stranger, Name: "snponly.efi", Size: 9, Block: 512, Err: tftp.ErrUnheard}, nil},
		"a stranger fetched a loader":     {tftp.Transfer{Client: stranger, Name: "snponly.efi", Size: 9, Sent: 9, Block: 512}, nil},
		"a kernel that goes by HTTP only": {tftp.Transfer{Client: known, Name: "vmlinuz", Err: tftp.ErrNotByTFTP}, []string{"dhcp of " + mac}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var book logbook
			transferWatch{
				machine: func(a netip.Addr) (fleet.MAC, bool) { return mac, a == known.Addr() },
				subnet:  func(netip.Addr) (fleet.Subnet, bool) { return fleet.Subnet{Name: "rack"}, true },
				alarms:  &book, unheard: new(unheardTries), now: time.Now, observe: book.observe, absent: stationFor(t).absent,
			}.saw(tt.transfer)
			if !slices.Equal(book.lines, tt.want) {
				t.Errorf("got %q, want %q", book.lines, tt.want)
			}
		})
	}
}

func TestATransferThroughARelayIsTakenForOneOfOurs(t *testing.T) {
	var alarms []string
	var seen []fleet.Evidence
	now := time.Now()
	w := transferWatch{
		machine: func(netip.Addr) (fleet.MAC, bool) { return "52:54:00:00:00:77", true },
		subnet:  func(netip.Addr) (fleet.Subnet, bool) { return fleet.Subnet{Name: "far"}, true },
		alarms:  alarmList{&alarms}, unheard: new(unheardTries), observe: func(ev fleet.Evidence) { seen = append(seen, ev) }, relay: "west",
		now: func() time.Time { now = now.Add(time.Minute); return now },
	}
	f := api.RelayFetched{Addr: netip.MustParseAddr("10.78.0.50"), File: "boot/ipxe.efi", By: "TFTP", Transfer: &api.RelayTransfer{Port: 40123, Packets: 6, Err: api.TransferUnheard}}
	for range unheardOften {
		w.saw(transferOf(f))
	}
	f.Transfer = &api.RelayTransfer{Size: 10, Sent: 10, Block: 1468, Window: 1, Packets: 1, Proved: true}
	w.saw(transferOf(f))
	if want := []string{"+E-TFTP-UNHEARD subnet far", "-E-TFTP-UNHEARD subnet far"}; !slices.Equal(alarms, want) {
		t.Errorf("alarms %q, want %q", alarms, want)
	}
	if len(seen) != 4 || seen[2].Phase != fleet.PhaseDHCP || seen[3].Phase != fleet.PhaseLoader || seen[3].File != "ipxe.efi" || !strings.HasPrefix(seen[3].Detail, "relay west: boot/ipxe.efi by TFTP") {
		t.Errorf("evidence %+v", seen)
	}
}

// Who sends in a machine's name teaches nothing about loaders.
func TestATransferThatProvesNothingTeachesNothing(t *testing.T) {
	var seen []fleet.Evidence
	w := transferWatch{
		machine: func(netip.Addr) (fleet.MAC, bool) { return "52:54:00:00:00:77", true },
		subnet:  func(netip.Addr) (fleet.Subnet, bool) { return fleet.Subnet{}, false },
		observe: func(ev fleet.Evidence) { seen = append(seen, ev) },
	}
	blind := tftp.Transfer{Client: netip.MustParseAddrPort("10.1.0.7:2070"), Name: "boot/snponly.efi", Size: 9, Sent: 9, Block: 512}
	own := blind
	own.Proved = true
	w.saw(blind)
	w.saw(own)
	if len(seen) != 2 || seen[0].File != "" || seen[1].File != "snponly.efi" || seen[0].Detail != seen[1].Detail {
		t.Errorf("evidence %+v, want one without a file, and one with it", seen)
	}
}

type alarmList struct{ said *[]string }

func (a alarmList) Raise(code, on, _ string) { *a.said = append(*a.said, "+"+code+" "+on) }
func (a alarmList) Clear(code, on string)    { *a.said = append(*a.said, "-"+code+" "+on) }

func TestOnlyWhoIsProvedToAskTeachesOfBlocks(t *testing.T) {
	var stalls, flows int
	w := transferWatch{
		machine: func(netip.Addr) (fleet.MAC, bool) { return "52:54:00:00:00:01", true },
		subnet:  func(netip.Addr) (fleet.Subnet, bool) { return fleet.Subnet{}, false },
		alarms:  noAlarms{}, observe: func(fleet.Evidence) {}, stalled: func(fleet.MAC, int) { stalls++ }, flowed: func(fleet.MAC) { flows++ },
	}
	dropped := tftp.Transfer{Name: "ipxe.efi", Block: 1468, Packets: 5, Resent: 3, Err: tftp.ErrSilent}
	came := tftp.Transfer{Name: "ipxe.efi", Block: 1468, Size: 4096, Sent: 4096, Packets: 4}
	asked := tftp.Transfer{Name: "ipxe.efi", Block: 1468, Packets: 1, Err: &tftp.AbortedError{}, Proved: true}
	for _, x := range []tftp.Transfer{dropped, came, asked} {
		w.saw(x)
	}
	if stalls != 0 || flows != 0 {
		t.Errorf("%d and %d lessons of what somebody may have asked in its name, or only looked at", stalls, flows)
	}
	dropped.Proved, came.Proved = true, true
	w.saw(dropped)
	w.saw(came)
	came.Block = 512
	w.saw(came)
	if stalls != 1 || flows != 1 {
		t.Errorf("%d and %d lessons, want one of each", stalls, flows)
	}
}

type noAlarms struct{}

func (noAlarms) Raise(_, _, _ string) {}
func (noAlarms) Clear(_, _ string)    {}
