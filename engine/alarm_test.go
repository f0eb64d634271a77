package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// watched runs a test with an engine and the events that it publishes.
func watched(t *testing.T, fn func(e *Engine, s *memoryStore, events func() []string)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		store := &memoryStore{onCut: func() {}}
		e, kill := newRack(ctx, t, 0).serve(store)
		live, done := e.Subscribe()
		fn(e, store, func() (got []string) {
			synctest.Wait()
			for {
				select {
				case ev := <-live:
					got = append(got, string(ev.Type)+" "+ev.Text)
				default:
					return got
				}
			}
		})
		done()
		kill()
		stop()
		synctest.Wait()
	})
}

func TestAnAlarmStandsWhileItIsRaised(t *testing.T) {
	watched(t, func(e *Engine, _ *memoryStore, events func() []string) {
		begin := time.Now()
		for range 4 {
			e.Raise(fleet.CodeRogueDHCP, "subnet rack", "10.20.0.254")
			time.Sleep(fleet.AlarmHold - time.Second) //nolint:forbidigo // fake time: synctest
		}
		got := e.Alarms()
		if len(got) != 1 || got[0].Count != 4 || !got[0].Since.Equal(begin) || got[0].Detail != "10.20.0.254" {
			t.Errorf("Alarms = %+v, want one, raised four times since %v", got, begin)
		}
		want := []string{"alarm.raised E-DHCP-ROGUE another DHCP server answers: subnet rack (10.20.0.254)"}
		if got := events(); !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
		time.Sleep(2*time.Second + expireEvery) //nolint:forbidigo // fake time: synctest
		if got := e.Alarms(); len(got) != 0 {
			t.Errorf("Alarms = %+v after nobody raised it for %v, want none", got, fleet.AlarmHold)
		}
		if got := events(); len(got) != 1 || !strings.HasPrefix(got[0], "alarm.cleared E-DHCP-ROGUE") {
			t.Errorf("events = %q, want that it is over", got)
		}
	})
}

func TestAnAlarmIsOverWhenItIsCleared(t *testing.T) {
	watched(t, func(e *Engine, _ *memoryStore, events func() []string) {
		e.Clear(fleet.CodeLeasesUnsaved, "leases") // nothing stands: no news
		e.Raise(fleet.CodeLeasesUnsaved, "leases", "no space left on device")
		e.Raise(fleet.CodePoolExhausted, "leases", "")
		changed := e.Changed()
		e.Clear(fleet.CodeLeasesUnsaved, "leases")
		<-changed
		if got := e.Alarms(); len(got) != 1 || got[0].Code != fleet.CodePoolExhausted {
			t.Errorf("Alarms = %+v, want the other one only", got)
		}
		if got := events(); len(got) != 3 {
			t.Errorf("events = %q, want two raised and one cleared", got)
		}
	})
}

func TestAlarmsThatCannotBeStoredAreShown(t *testing.T) {
	watched(t, func(e *Engine, s *memoryStore, events func() []string) {
		s.mu.Lock()
		s.pull = s.saves + 1
		s.mu.Unlock()
		changed := e.Changed()
		e.Raise(fleet.CodeLeasesUnsaved, "leases", "no space left on device")
		<-changed // or the test hangs, and synctest says so
		if got := e.Alarms(); len(got) != 1 {
			t.Errorf("Alarms = %+v, want one", got)
		}
		if got := events(); len(got) != 0 {
			t.Errorf("events = %q, want none: they were not stored", got)
		}
	})
}

func TestAFloodOfAlarmsIsBounded(t *testing.T) {
	watched(t, func(e *Engine, s *memoryStore, events func() []string) {
		for i := range 10_000 {
			e.Raise(fleet.CodeRogueDHCP, fmt.Sprintf("10.20.%d.%d\x1b[31m\n", i/256, i%256), strings.Repeat("x", 1000))
		}
		e.Raise(fleet.CodeLeasesUnsaved, "leases", "")
		got := e.Alarms()
		if len(got) != maxAlarms+1 || !slices.ContainsFunc(got, func(a fleet.Alarm) bool { return a.Code == fleet.CodeLeasesUnsaved }) {
			t.Errorf("%d alarms stand, want %d and the other kind's one", len(got), maxAlarms)
		}
		for _, a := range got {
			if strings.ContainsAny(a.On, "\x1b\n") || len(a.Detail) > 256 {
				t.Errorf("alarm %+v is not clean", a)
			}
		}
		for i := range 500 {
			on := fmt.Sprintf("10.20.%d.%d\x1b[31m\n", i/256, i%256)
			e.Clear(fleet.CodeRogueDHCP, on)
			e.Raise(fleet.CodeRogueDHCP, on, "")
		}
		if got := events(); len(got) == 0 || len(got) > maxNews {
			t.Errorf("%d events of a flood, want some and at most %d", len(got), maxNews)
		}
		if st := e.AlarmStats(); st.Refused < 9000 || st.Untold == 0 {
			t.Errorf("AlarmStats = %+v, want what was left out", st)
		}
	})
}
