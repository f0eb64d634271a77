package engine

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"net/netip"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

const helloLife = 15 * time.Minute // from the script to the agent's hello, on slow machines

// Tickets make the boot tickets and know them again.
//
// A boot script is fetched far more often than its ticket is redeemed, by
// firmware that asks twice and by whole racks at once, so that a ticket costs
// no write and no memory when it is made: it is a place in the order of
// things, its end, and a seal (HMAC-SHA256 cut to 128 bits) over both, the
// MAC address and the IP address that it is for. What is written, before the
// answer leaves, is its redemption. That is what makes it good only once:
//
//   - The last redemption of each MAC address is kept until no ticket from
//     before it can be valid any more, across restarts too.
//   - Every ticket and every redemption has its place in one order. A ticket
//     made before the last redemption is either that very ticket in the hands
//     of the one who redeemed it, whose answer was lost; or somebody holds
//     what another machine used, and the node goes into quarantine. A machine
//     that boots again has a ticket from after its last hello.
//   - A ticket from a place that has not been reached is refused: the clock
//     was set back between two lives of the server.
type tickets struct {
	macs sync.Pool // of hash.Hash

	mu   sync.Mutex
	last int64 // place that was given out last
}

const (
	ticketBody = 16 // place and end
	ticketTag  = 16
)

// newTickets takes the key of the seals. Without one, tickets end with the
// process.
func newTickets(key []byte) *tickets {
	if len(key) == 0 {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails since Go 1.24
	}
	t := &tickets{}
	t.macs.New = func() any { return hmac.New(sha256.New, key) }
	return t
}

// place returns the next place in the order: the time, as far as it goes on.
func (t *tickets) place() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = max(t.last+1, time.Now().UnixNano())
	return t.last
}

// reached notes a place that was given out in an earlier life.
func (t *tickets) reached(place int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = max(t.last, place)
}

func (t *tickets) isReached(place int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = max(t.last, time.Now().UnixNano())
	return place <= t.last
}

// make returns a new ticket for a machine at an address.
func (t *tickets) make(mac fleet.MAC, addr netip.Addr) string {
	return t.write(t.place(), time.Now().Add(helloLife), mac, addr)
}

// write returns the ticket of a place and an end, which is the same each time.
func (t *tickets) write(place int64, end time.Time, mac fleet.MAC, addr netip.Addr) string {
	var raw [ticketBody + ticketTag]byte
	binary.BigEndian.PutUint64(raw[:], uint64(place))
	binary.BigEndian.PutUint64(raw[8:], uint64(end.UnixNano()))
	t.seal(raw[ticketBody:], raw[:ticketBody], mac, addr)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// open returns the ticket that a machine at an address shows. cd says that it
// stood on a CD image, which was made before the machine had an address.
func (t *tickets) open(secret string, mac fleet.MAC, addr netip.Addr) (ticket fleet.Ticket, cd bool, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(raw) != ticketBody+ticketTag {
		return fleet.Ticket{}, false, badTicket(errors.New("it is none"))
	}
	var tag, cdTag [ticketTag]byte
	t.seal(tag[:], raw[:ticketBody], mac, addr)
	t.seal(cdTag[:], raw[:ticketBody], mac, netip.Addr{})
	cd = hmac.Equal(cdTag[:], raw[ticketBody:])
	if !cd && !hmac.Equal(tag[:], raw[ticketBody:]) {
		return fleet.Ticket{}, false, badTicket(errors.New("it was not made for this machine at this address"))
	}
	ticket = fleet.Ticket{
		Hash: fleet.HashSecret(secret), Purpose: fleet.TicketHello, MAC: mac, Addr: addr,
		Made: int64(binary.BigEndian.Uint64(raw)), Expires: time.Unix(0, int64(binary.BigEndian.Uint64(raw[8:]))),
	}
	if time.Now().After(ticket.Expires) || !t.isReached(ticket.Made) {
		return fleet.Ticket{}, false, badTicket(errors.New("it has expired"))
	}
	return ticket, cd, nil
}

// seal writes the tag of a ticket's body into tag.
func (t *tickets) seal(tag, body []byte, mac fleet.MAC, addr netip.Addr) {
	var buf [128]byte
	m := append(buf[:0], "hello\x00"...)
	m = append(m, mac...)
	m = append(m, 0)
	m = addr.AppendTo(m)
	m = append(m, 0)
	m = append(m, body...)
	h := t.macs.Get().(hash.Hash)
	h.Reset()
	h.Write(m)
	var sum [sha256.Size]byte
	copy(tag, h.Sum(sum[:0]))
	t.macs.Put(h)
}

// MintHello makes the ticket with which the machine that boots with this MAC
// from this address may say hello, once.
func (e *Engine) MintHello(_ context.Context, mac fleet.MAC, addr netip.Addr) (string, error) {
	if !addr.IsValid() {
		return "", badTicket(errors.New("it would be for no address"))
	}
	return e.tickets.make(mac, addr), nil
}

// redeemHello redeems a boot ticket. stolen says that another one did so
// before with what was this machine's, or the other way round; disc, that there
// is a CD image for this machine, whether it has booted that or something else:
// it ends with the hello.
func (e *Engine) redeemHello(t *tx, h fleet.Hello) (stolen, disc bool, err error) {
	ticket, cd, err := e.openHello(h)
	if err != nil {
		return false, cd, err
	}
	t.w.forgetTickets(t.now)
	last, used := t.w.lastHello(ticket.MAC)
	switch {
	case used && ticket.Made < last.Used && last.Key != h.Key:
		return true, cd, nil
	case used && ticket.Hash == last.Hash:
		return false, cd, nil
	case used && ticket.Made < last.Used:
		return false, cd, badTicket(errors.New("a later one was redeemed"))
	}
	m, _ := t.w.media(ticket.MAC)
	disc = t.endMedia(ticket.MAC, m.Made)
	if cd && (!disc || m.Made != ticket.Made) {
		return false, false, badTicket(errors.New("its CD image has ended, or a later one was made"))
	}
	ticket.Redeemed, ticket.Key, ticket.Used = t.now, h.Key, e.tickets.place()
	t.tickets[ticket.Hash] = ticket
	return false, disc, nil
}

// openHello returns the ticket of a hello. One that stood on a CD image is for
// the node, whichever of its cards has the cable: only one that booted from the
// network is known to have it.
func (e *Engine) openHello(h fleet.Hello) (fleet.Ticket, bool, error) {
	ticket, cd, err := e.tickets.open(h.Ticket, h.MAC, h.Addr)
	n, known := e.NodeByMAC(h.MAC)
	if err == nil || !known || n.MAC == h.MAC {
		return ticket, cd, err
	}
	if of, cd, otherwise := e.tickets.open(h.Ticket, n.MAC, h.Addr); otherwise == nil && cd {
		return of, true, nil
	}
	return ticket, cd, err
}

func badTicket(err error) error {
	return &fleet.Error{Kind: fleet.Denied, Code: "E-TICKET", Op: "redeem ticket", Err: err, Hint: "boot the machine again"}
}

// ticket returns a ticket that was kept when it was made.
func (w *world) ticket(hash [32]byte, p fleet.Purpose, now time.Time) (fleet.Ticket, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	t, ok := w.tickets[hash]
	if !ok || t.Purpose != p || now.After(t.Expires) {
		return fleet.Ticket{}, badTicket(errors.New("it is unknown or has expired"))
	}
	return t, nil
}

// lastHello returns the ticket that was redeemed last for a MAC address.
func (w *world) lastHello(mac fleet.MAC) (fleet.Ticket, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	t, ok := w.hellos[mac]
	return t, ok
}

// keepTicket puts a stored ticket where it is looked for; the caller holds mu.
func (w *world) keepTicket(t fleet.Ticket) {
	switch {
	case t.Purpose == fleet.TicketMedia:
		w.tickets[t.Hash] = t
		if t.Made >= w.medias[t.MAC].Made {
			w.medias[t.MAC] = t
		}
	case t.Purpose != fleet.TicketHello:
		w.tickets[t.Hash] = t
	case t.Redeemed.IsZero(): // of an earlier version, which kept them from the start
	case t.Used >= w.hellos[t.MAC].Used:
		w.hellos[t.MAC] = t
	}
}

// forgetTickets drops from memory, once a minute, what can't matter any more.
// The store forgets when it is loaded.
func (w *world) forgetTickets(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.swept).Abs() < time.Minute {
		return
	}
	w.swept = now
	for h, t := range w.tickets {
		if now.After(t.Expires) {
			delete(w.tickets, h)
		}
	}
	for mac, t := range w.medias {
		if now.After(t.Expires) {
			delete(w.medias, mac)
		}
	}
	for mac, t := range w.hellos {
		if now.Sub(t.Expires) > helloLife { // every ticket from before it has expired
			delete(w.hellos, mac)
		}
	}
}
