package tftp

import (
	"net/netip"
	"sync"
	"time"
)

// What is bigger is no first stage: it goes by HTTP, which a loader can speak.
const mostByTFTP = 4 << 20

// SlowLoaders are the machines whose loader can only speak TFTP: GRUB 2.06 as
// Debian 12 signs it has no HTTP. They alone get kernel and ramdisk this way.
type SlowLoaders struct {
	mu   sync.Mutex
	seen map[netip.Addr]time.Time
}

const (
	slowFor     = 15 * time.Minute // from a script to the last file that it names
	mostSlowers = 4096
)

// Add notes a machine that fetched a script for such a loader.
func (s *SlowLoaders) Add(client netip.Addr, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) >= mostSlowers {
		for a, at := range s.seen {
			if now.Sub(at) > slowFor {
				delete(s.seen, a)
			}
		}
		if len(s.seen) >= mostSlowers {
			return // it asks again, and there are no racks of so many
		}
	}
	if s.seen == nil {
		s.seen = make(map[netip.Addr]time.Time)
	}
	s.seen[client] = now
}

// May reports whether a machine may have a file of that size.
func (s *SlowLoaders) May(client netip.Addr, size int64, now time.Time) bool {
	if size <= mostByTFTP {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.seen[client]
	return ok && now.Sub(at) <= slowFor
}
