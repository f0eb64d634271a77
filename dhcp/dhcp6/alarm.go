package dhcp6

import (
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

const (
	nagEvery  = 10 * time.Second // an alarm is raised so often at most, however many packets raise it
	maxAlarms = 256              // who makes more trouble is told of these
)

// alarms is when each was raised last. One that is not raised again ends by
// itself after [fleet.AlarmHold].
type alarms struct {
	mu   sync.Mutex
	told map[alarmKey]time.Time
}

type alarmKey struct{ code, on string }

// nag raises an alarm, or raises it again.
func (s *Server) nag(code, on, detail string) {
	if s.alarms.due(alarmKey{code, on}, s.o.Now()) {
		s.o.Alarms.Raise(code, on, detail)
	}
}

// alarm raises one for as long as it is on, and clears it when it is not.
func (s *Server) alarm(on bool, code, what, detail string) {
	if on {
		s.nag(code, what, detail)
		return
	}
	if s.alarms.drop(alarmKey{code, what}) {
		s.o.Alarms.Clear(code, what)
	}
}

func (a *alarms) due(k alarmKey, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, told := a.told[k]
	if told && now.Sub(last) < nagEvery || !told && len(a.told) >= maxAlarms {
		return false
	}
	if a.told == nil {
		a.told = make(map[alarmKey]time.Time)
	}
	a.told[k] = now
	return true
}

func (a *alarms) drop(k alarmKey) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, told := a.told[k]
	delete(a.told, k)
	return told
}

// dropAll drops the alarms with a code that are not about what is kept, and
// returns what they were about.
func (a *alarms) dropAll(code string, keep func(on string) bool) (over []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.told {
		if k.code == code && !keep(k.on) {
			over = append(over, k.on)
			delete(a.told, k)
		}
	}
	return over
}

// forget makes room: what was raised long ago has ended by itself.
func (a *alarms) forget(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, last := range a.told {
		if now.Sub(last) > fleet.AlarmHold {
			delete(a.told, k)
		}
	}
}
