package tftp

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// What is bigger is no first stage: it goes by HTTP, which a loader can speak.
const mostByTFTP = 4 << 20

// SlowLoaders are the machines whose loader can only speak TFTP: GRUB 2.06 as
// Debian 12 signs it has no HTTP. They alone get kernel and ramdisk this way.
//
// A request for such a loader's script costs nothing, and may come in anybody's
// name. So those that have only asked, and those that have fetched what they
// asked for, are kept apart: however many ask, they push out none of the
// others.
type SlowLoaders struct {
	mu            sync.Mutex
	asked, proved roll
}

const (
	slowFor    = 15 * time.Minute // from a script to the last file that it names
	mostAsked  = 4096
	mostProved = 1 << 16
)

// Add notes a machine that asked for a script for such a loader.
func (s *SlowLoaders) Add(client netip.Addr, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proved.has(client) {
		s.proved.add(client, now, mostProved)
		return
	}
	s.asked.add(client, now, mostAsked)
}

// Done notes that a transfer is over: a client that proved its address, and has
// asked for a script before, is who it says it is.
func (s *SlowLoaders) Done(t Transfer) {
	client := t.Client.Addr()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Proved && s.asked.has(client) {
		s.proved.add(client, s.asked.remove(client), mostProved)
	}
}

// May reports whether a machine may have a file of that size.
func (s *SlowLoaders) May(client netip.Addr, size int64, now time.Time) bool {
	if size <= mostByTFTP {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proved.fresh(client, now) || s.asked.fresh(client, now)
}

// A roll remembers clients, and when each was noted last. When it is full, who
// was noted longest ago gives way.
type roll struct {
	at    map[netip.Addr]*list.Element
	order list.List // of noted, the oldest first
}

type noted struct {
	client netip.Addr
	when   time.Time
}

func (r *roll) add(client netip.Addr, now time.Time, most int) {
	if r.at == nil {
		r.at = make(map[netip.Addr]*list.Element)
	}
	if e := r.at[client]; e != nil {
		e.Value = noted{client, now}
		r.order.MoveToBack(e)
		return
	}
	if len(r.at) >= most {
		r.remove(r.order.Front().Value.(noted).client)
	}
	r.at[client] = r.order.PushBack(noted{client, now})
}

func (r *roll) has(client netip.Addr) bool { return r.at[client] != nil }

// remove forgets a client that it has, and returns when it was noted.
func (r *roll) remove(client netip.Addr) time.Time {
	e := r.at[client]
	delete(r.at, client)
	return r.order.Remove(e).(noted).when
}

func (r *roll) fresh(client netip.Addr, now time.Time) bool {
	e := r.at[client]
	return e != nil && now.Sub(e.Value.(noted).when) <= slowFor
}
