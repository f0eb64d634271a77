package access

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// alarmBoard holds the alarms that stand.
type alarmBoard struct {
	mu    sync.Mutex
	stand map[string]string // detail by what it is on
}

func (b *alarmBoard) Raise(code, on, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stand[code+" "+on] = detail
}

func (b *alarmBoard) Clear(code, on string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.stand, code+" "+on)
}

func (b *alarmBoard) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(b.stand)), "; ")
}

func TestASilentRelayIsAnAlarmUntilItIsHeardAgain(t *testing.T) {
	const west = "E-RELAY-AWAY relay west (west-boot)"
	synctest.Test(t, func(t *testing.T) {
		r, board := relaysNamed("west"), &alarmBoard{stand: map[string]string{}}
		r.relays["new"] = fleet.Relay{Name: "new"} // has not enrolled
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = r.Watch(ctx, board) }()
		stands := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := board.all(); got != want {
				t.Errorf("%s the alarms are %q, want %q", when, got, want)
			}
		}
		says := fleet.RelayStatus{From: netip.MustParseAddr("192.0.2.7")}

		stands("at the start", "")
		<-time.After(fleet.RelaySilence + watchEvery)
		stands("a minute after a start without a word", west)
		must(t, r.Report(ctx, "west", says))
		<-time.After(watchEvery)
		stands("after a word", "")
		<-time.After(fleet.RelaySilence - 2*watchEvery)
		stands("nearly a minute later", "")
		<-time.After(3 * watchEvery)
		stands("after a minute of silence", west)
		if got := board.stand[west]; !strings.Contains(got, "192.0.2.7") {
			t.Errorf("the detail is %q, want where it was heard from", got)
		}
		must(t, r.Report(ctx, "west", says))
		<-time.After(watchEvery)
		stands("when it is back", "")
		<-time.After(2 * fleet.RelaySilence)
		stands("after the next silence", west)
		must(t, r.Remove(ctx, "west"))
		<-time.After(watchEvery)
		stands("after it was removed", "")
	})
}

func TestWhatARelaySaysIsWrongWithItIsAnAlarmUntilItEnds(t *testing.T) {
	const noSix, disk = "E-RELAY-NO-IPV6 relay west (west-boot)", "E-RELAY-DISK relay west (west-boot)"
	synctest.Test(t, func(t *testing.T) {
		r, board := relaysNamed("west"), &alarmBoard{stand: map[string]string{}}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = r.Watch(ctx, board) }()
		says := func(want string, trouble ...fleet.RelayTrouble) {
			t.Helper()
			must(t, r.Report(ctx, "west", fleet.RelayStatus{Trouble: trouble}))
			<-time.After(watchEvery)
			synctest.Wait()
			if got := board.all(); got != want {
				t.Errorf("after %v the alarms are %q, want %q", trouble, got, want)
			}
		}
		six := fleet.RelayTrouble{Code: fleet.CodeRelayNoIPv6, Detail: "DHCPv6: port 547 is taken"}
		says("")
		says(noSix, six)
		says(disk+"; "+noSix, fleet.RelayTrouble{Code: fleet.CodeRelayDisk, Detail: "cache: full"}, six, fleet.RelayTrouble{Code: fleet.CodeRelayNoIPv6, Detail: "addresses: fd78::1"})
		if got := board.stand[noSix]; got != "DHCPv6: port 547 is taken; addresses: fd78::1" {
			t.Errorf("the detail is %q, want both", got)
		}
		says(noSix, six)
		says("")
		says(noSix, six)
		<-time.After(fleet.RelaySilence)
		synctest.Wait()
		if got := board.all(); got != "E-RELAY-AWAY relay west (west-boot)" {
			t.Errorf("of a relay that is not heard the alarms are %q", got)
		}
		says(noSix, six)
		must(t, r.Remove(ctx, "west"))
		<-time.After(watchEvery)
		synctest.Wait()
		if got := board.all(); got != "" {
			t.Errorf("of a relay that was removed the alarms are %q", got)
		}
	})
}

// relaysNamed are relays that have enrolled.
func relaysNamed(names ...string) *Relays {
	shelf := relayShelf{}
	r := &Relays{
		store: shelf, now: time.Now,
		relays: map[string]fleet.Relay{}, status: map[string]fleet.RelayStatus{}, changed: make(chan struct{}),
	}
	for _, name := range names {
		r.relays[name] = fleet.Relay{Name: name, Subnets: []string{name + "-boot"}, Enrolled: time.Now()}
	}
	return r
}
