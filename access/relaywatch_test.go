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
