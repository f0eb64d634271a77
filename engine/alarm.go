package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	// Each kind has its own room: somebody who makes up a thousand DHCP servers
	// does not keep a full disk from being shown.
	maxAlarms = 64

	// Alarms that come and go become events, which are stored: so many at once,
	// and then one every newsEvery.
	maxNews   = 100
	newsEvery = 10 * time.Second

	expireEvery = 10 * time.Second
)

// alarms is the trouble that lasts. It is in memory only: after a restart
// whoever sees the trouble raises it again.
type alarms struct {
	mu       sync.Mutex
	standing map[alarmKey]fleet.Alarm
	kinds    map[string]int // how many stand, by code
	news     []fleet.Event  // not stored yet
	room     float64        // for further news
	roomAt   time.Time

	wake    chan struct{} // has news
	refused atomic.Int64  // raised, and there was no room
	untold  atomic.Int64  // came or went without an event
}

type alarmKey struct{ code, on string }

func newAlarms() *alarms {
	return &alarms{standing: map[alarmKey]fleet.Alarm{}, kinds: map[string]int{}, room: maxNews, wake: make(chan struct{}, 1)}
}

// AlarmStats are counters since the start.
type AlarmStats struct {
	Refused int64 // raised, but too many of that code stood already
	Untold  int64 // came or went too often to become an event
}

// AlarmStats returns the counters of the alarms.
func (e *Engine) AlarmStats() AlarmStats {
	return AlarmStats{Refused: e.alarms.refused.Load(), Untold: e.alarms.untold.Load()}
}

// Raise says that there is trouble of a kind (a code of [fleet.Diagnoses])
// with a thing, or that there still is. Who sees it raises it more often than
// every [fleet.AlarmHold]. It never blocks. What it is told may come from the
// wire.
func (e *Engine) Raise(code, on, detail string) {
	e.alarms.raise(code, fleet.CleanText(on), fleet.CleanText(detail), time.Now())
}

// Clear says that the trouble is over. It never blocks.
func (e *Engine) Clear(code, on string) {
	e.alarms.clear(alarmKey{code, fleet.CleanText(on)}, time.Now())
}

// Alarms returns the trouble that there is now, newest first.
func (e *Engine) Alarms() []fleet.Alarm {
	now := time.Now()
	e.alarms.mu.Lock()
	list := slices.Collect(maps.Values(e.alarms.standing))
	e.alarms.mu.Unlock()
	list = slices.DeleteFunc(list, func(a fleet.Alarm) bool { return expired(a, now) })
	slices.SortFunc(list, func(a, b fleet.Alarm) int {
		return cmp.Or(b.Since.Compare(a.Since), strings.Compare(a.Code, b.Code), strings.Compare(a.On, b.On))
	})
	return list
}

func expired(a fleet.Alarm, now time.Time) bool { return now.Sub(a.Seen) > fleet.AlarmHold }

func (s *alarms) raise(code, on, detail string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := alarmKey{code, on}
	a, stands := s.standing[key]
	if !stands {
		if s.kinds[code] >= maxAlarms {
			s.refused.Add(1)
			return
		}
		a = fleet.Alarm{Code: code, On: on, Since: now}
		s.kinds[code]++
	}
	a.Detail, a.Seen = detail, now
	a.Count++
	s.standing[key] = a
	if !stands {
		s.tell(fleet.EventAlarm, a, now)
	}
}

func (s *alarms) clear(key alarmKey, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, stands := s.standing[key]; stands {
		s.remove(a, now)
	}
}

// expire clears what nobody has raised again.
func (s *alarms) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.standing {
		if expired(a, now) {
			s.remove(a, now)
		}
	}
}

// remove takes a standing alarm away; the caller holds mu.
func (s *alarms) remove(a fleet.Alarm, now time.Time) {
	delete(s.standing, alarmKey{a.Code, a.On})
	if s.kinds[a.Code]--; s.kinds[a.Code] == 0 {
		delete(s.kinds, a.Code)
	}
	s.tell(fleet.EventAlarmOver, a, now)
}

// tell makes an event of what came or went, while there is room for it; the
// caller holds mu.
func (s *alarms) tell(typ fleet.EventType, a fleet.Alarm, now time.Time) {
	s.room = min(maxNews, s.room+float64(now.Sub(s.roomAt))/float64(newsEvery))
	s.roomAt = now
	if s.room < 1 || len(s.news) >= maxNews {
		s.untold.Add(1)
	} else {
		s.room--
		s.news = append(s.news, fleet.Event{Type: typ, Actor: "engine", Text: alarmText(a)})
	}
	select {
	case s.wake <- struct{}{}:
	default: // told already
	}
}

func alarmText(a fleet.Alarm) string {
	text := a.Code + " " + fleet.Diagnose(a.Code).Title + ": " + a.On
	if a.Detail != "" {
		text += " (" + a.Detail + ")"
	}
	return text
}

func (s *alarms) takeNews() []fleet.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.news
	s.news = nil
	return news
}

// reportAlarms stores what became of the alarms. Whoever watches is woken even
// when that fails: a full disk is one of the alarms.
func (e *Engine) reportAlarms(ctx context.Context) {
	err := e.update(ctx, func(t *tx) error {
		t.events = append(t.events, e.alarms.takeNews()...)
		return nil
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "alarms not stored", "err", err)
	}
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	e.world.wake()
}
