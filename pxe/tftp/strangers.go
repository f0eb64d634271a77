package tftp

import (
	"cmp"
	"container/list"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// A machine that hears nothing asks again: iPXE after 0.25 s and then each
	// time after twice as long, UEFI six times after 4 s each, BIOS ROMs after
	// up to 32 s. What comes faster than strangerApart is of one try.
	strangerApart = time.Second
	strangerAgain = time.Minute // it has asked again by then
	strangerOften = 3           // so often, and it is no packet that got lost, or was made up

	strangerFor  = 15 * time.Minute // from its last request until it is forgotten
	mostStrange  = 4096             // of each kind
	mostOfName   = 64               // bytes
	mostToldWith = 2                // of the others, by address
)

// StrangersEvery is how often to look at strangers: a machine is seen while it
// still asks.
const StrangersEvery = 10 * time.Second

// A Stranger is a client that asks and may not, as [Options.Serves] says.
type Stranger struct {
	Client      netip.Addr
	Card        string // its hardware address; "": not known
	Name        string // of the file that it asked for last; hostile text
	Asked       int    // how often, as machines do
	First, Last time.Time

	counted time.Time // when it asked in a way that counts
}

// Strangers are those who ask and hear nothing. A machine that boots asks again
// and again, and somebody wants to know why it is not answered. One packet is
// no machine.
//
// A request costs nothing, and may come in anybody's name. So those whose
// hardware address the kernel knows, as each machine on our link has asked for
// ours, are kept apart from all others: however many ask, they push out none
// of them.
type Strangers struct {
	mu        sync.Mutex
	cards     map[netip.Addr]string
	near, far crowd
}

// Ask notes a request of who may not ask.
func (s *Strangers) Ask(client netip.Addr, name string, now time.Time) {
	client = client.WithZone("")
	s.mu.Lock()
	defer s.mu.Unlock()
	if card := s.cards[client]; card != "" || s.near.has(client) {
		s.near.ask(client, name, now)
		return
	}
	s.far.ask(client, name, now)
}

// Look returns those who asked again and again and may not ask now either, each
// with its hardware address and the name of the node that this is of. Cards
// returns the hardware addresses of all neighbours; without them strangers are
// known by address. They are read for somebody only.
func (s *Strangers) Look(
	now time.Time, cards func() (map[netip.Addr]string, error), may func(netip.Addr) bool, node func(card string) (name string),
) []Stranger {
	if s.some() {
		known, _ := cards()
		s.recognise(known)
	}
	found := slices.DeleteFunc(s.list(now), func(g Stranger) bool { return may(g.Client) })
	for i, g := range found {
		if g.Card == "" {
			continue
		}
		if name := node(g.Card); name != "" {
			found[i].Card += ", node " + name
		}
	}
	return found
}

func (s *Strangers) some() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.near.at)+len(s.far.at) > 0
}

// recognise takes in whose hardware addresses are known now, and which they are.
func (s *Strangers) recognise(cards map[netip.Addr]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cards = cards
	for client := range s.far.at {
		if cards[client] != "" {
			s.near.put(s.far.remove(client))
		}
	}
	for client, e := range s.near.at {
		if card := cards[client]; card != "" {
			e.Value.(*Stranger).Card = card //nolint:forcetypeassert // a crowd is of these
		}
	}
}

// list returns those who asked again and again, and forgets who has not asked
// for long. Whose hardware address is known comes first, and then who asks for
// longest.
func (s *Strangers) list(now time.Time) []Stranger {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := append(s.near.often(now), s.far.often(now)...)
	slices.SortFunc(found, func(a, b Stranger) int {
		return cmp.Or(cmp.Compare(min(1, len(b.Card)), min(1, len(a.Card))), a.First.Compare(b.First), a.Client.Compare(b.Client))
	})
	return found
}

// TellStrangers says in one line who asks and hears nothing, and why that may
// be, if somebody knows.
func TellStrangers(all []Stranger, why string) string {
	if len(all) == 0 {
		return ""
	}
	first := all[0]
	text := fmt.Sprintf("%s asked %d times in %s, for %.40q last", first.who(), first.Asked, first.Last.Sub(first.First).Round(time.Second), first.Name)
	if why != "" {
		text += "; " + why
	}
	others := all[1:]
	var names []string
	for _, o := range others[:min(len(others), mostToldWith)] {
		names = append(names, o.who())
	}
	if len(names) > 0 {
		text += "; so did " + strings.Join(names, ", ")
	}
	if more := len(others) - mostToldWith; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (g Stranger) who() string {
	if g.Card == "" {
		return g.Client.String()
	}
	return g.Client.String() + " (" + g.Card + ")"
}

// asks counts a request, if it is more than a packet that came twice.
func (g *Stranger) asks(name string, now time.Time) {
	switch gap := now.Sub(g.counted); {
	case g.Asked == 0, g.Asked < strangerOften && gap > strangerAgain:
		g.Asked, g.First, g.counted = 1, now, now
	case gap >= strangerApart:
		g.Asked++
		g.counted = now
	}
	g.Last = now
	if name = name[:min(len(name), mostOfName)]; g.Name != name {
		g.Name = strings.Clone(name)
	}
}

// A crowd is a bounded number of strangers. When it is full, who asked longest
// ago gives way.
type crowd struct {
	at    map[netip.Addr]*list.Element
	order list.List // of *Stranger, who asked longest ago first
}

func (c *crowd) has(client netip.Addr) bool { return c.at[client] != nil }

func (c *crowd) ask(client netip.Addr, name string, now time.Time) {
	if !c.has(client) {
		c.put(&Stranger{Client: client})
	}
	e := c.at[client]
	e.Value.(*Stranger).asks(name, now) //nolint:forcetypeassert // a crowd is of these
	c.order.MoveToBack(e)
}

func (c *crowd) put(g *Stranger) {
	if c.at == nil {
		c.at = make(map[netip.Addr]*list.Element)
	}
	if len(c.at) >= mostStrange {
		c.remove(c.order.Front().Value.(*Stranger).Client) //nolint:forcetypeassert // a crowd is of these
	}
	c.at[g.Client] = c.order.PushBack(g)
}

// remove forgets a stranger that is there.
func (c *crowd) remove(client netip.Addr) *Stranger {
	e := c.at[client]
	delete(c.at, client)
	return c.order.Remove(e).(*Stranger) //nolint:forcetypeassert // a crowd is of these
}

// often lists who asked again and again, and forgets who has not for long.
func (c *crowd) often(now time.Time) (found []Stranger) {
	for client, e := range c.at {
		switch g := e.Value.(*Stranger); { //nolint:forcetypeassert // a crowd is of these
		case now.Sub(g.Last) >= strangerFor:
			c.remove(client)
		case g.Asked >= strangerOften:
			found = append(found, *g)
		}
	}
	return found
}
