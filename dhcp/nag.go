package dhcp

import (
	"sync"
	"time"
)

const (
	nagEvery = 10 * time.Second // an alarm is raised so often at most
	nagQuiet = time.Minute      // and cleared when its cause was not seen for so long
	maxNags  = 256              // who makes more trouble is told of these
)

// nags are the alarms that packets raise. A million packets raise them no more
// often than a few.
type nags struct {
	mu   sync.Mutex
	seen map[nagKey]nag
}

type nagKey struct{ code, on string }

type nag struct{ seen, told time.Time }

// nag raises an alarm.
func (s *Server) nag(code, on, detail string) {
	now := s.o.Now()
	s.nagged.mu.Lock()
	key := nagKey{code, on}
	n, stands := s.nagged.seen[key]
	if !stands && len(s.nagged.seen) >= maxNags {
		s.nagged.mu.Unlock()
		return
	}
	if s.nagged.seen == nil {
		s.nagged.seen = make(map[nagKey]nag)
	}
	tell := !stands || now.Sub(n.told) >= nagEvery
	n.seen = now
	if tell {
		n.told = now
	}
	s.nagged.seen[key] = n
	s.nagged.mu.Unlock()
	if tell {
		s.o.Alarms.Raise(code, on, detail)
	}
}

// settle clears an alarm whose cause is over for sure.
func (s *Server) settle(code, on string) {
	s.nagged.mu.Lock()
	delete(s.nagged.seen, nagKey{code, on})
	s.nagged.mu.Unlock()
	s.o.Alarms.Clear(code, on)
}

// hush clears the alarms whose cause is over.
func (s *Server) hush() {
	now := s.o.Now()
	var over []nagKey
	s.nagged.mu.Lock()
	for key, n := range s.nagged.seen {
		if now.Sub(n.seen) >= nagQuiet {
			over = append(over, key)
			delete(s.nagged.seen, key)
		}
	}
	s.nagged.mu.Unlock()
	for _, key := range over {
		s.o.Alarms.Clear(key.code, key.on)
	}
}
