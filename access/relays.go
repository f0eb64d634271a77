package access

import (
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// RelayStore keeps relays.
type RelayStore interface {
	Relays(ctx context.Context) ([]fleet.Relay, error)
	SaveRelay(ctx context.Context, r fleet.Relay) error
	DeleteRelay(ctx context.Context, name string) error
}

// Relays are the relays that may speak for machines of some subnets. One is
// added by name, enrols once with its token, and is let in from then on by the
// key that it enrolled with, until it is removed.
type Relays struct {
	store     RelayStore
	authority *Authority
	now       func() time.Time

	// writing is held by whoever changes a relay, also while it is being
	// stored. Who only reads, as the packet path does, waits for mu alone, which
	// nobody holds over I/O.
	writing sync.Mutex
	mu      sync.Mutex
	relays  map[string]fleet.Relay
	status  map[string]fleet.RelayStatus
	changed chan struct{} // closed and replaced when an address or a relay changes
}

// relayTokenLife is long enough to walk to another site.
const relayTokenLife = 24 * time.Hour

// OpenRelays reads the relays that are in a store.
func OpenRelays(ctx context.Context, store RelayStore, authority *Authority) (*Relays, error) {
	list, err := store.Relays(ctx)
	if err != nil {
		return nil, err
	}
	r := &Relays{
		store: store, authority: authority, now: time.Now,
		relays: map[string]fleet.Relay{}, status: map[string]fleet.RelayStatus{}, changed: make(chan struct{}),
	}
	for _, relay := range list {
		r.relays[relay.Name] = relay
	}
	return r, nil
}

// List returns all relays, by name.
func (r *Relays) List() []fleet.Relay {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.relays), func(a, b fleet.Relay) int { return cmp.Compare(a.Name, b.Name) })
}

// Status returns what a relay said last; zero before it has said anything.
func (r *Relays) Status(name string) fleet.RelayStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status[name]
}

// RelayTotals are the counters of all relays together, each since that relay's
// start.
type RelayTotals struct {
	Served, Fetched, Requests, Relayed, BOOTP, Refused, Away, Strangers, Unsent, Panics int64

	TFTP fleet.RelayTFTP
	HTTP fleet.RelayHTTP

	Enrolled, Silent int64 `metric:"gauge"`
}

// Totals returns them.
func (r *Relays) Totals() (t RelayTotals) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, relay := range r.relays {
		s := r.status[name]
		t.Served, t.Fetched, t.Requests, t.Relayed = t.Served+s.Served, t.Fetched+s.Fetched, t.Requests+s.Requests, t.Relayed+s.Relayed
		t.BOOTP, t.Refused, t.Away = t.BOOTP+s.BOOTP, t.Refused+s.Refused, t.Away+s.Away
		t.Strangers, t.Unsent, t.Panics = t.Strangers+s.Strangers, t.Unsent+s.Unsent, t.Panics+s.Panics
		t.TFTP, t.HTTP = t.TFTP.Plus(s.TFTP), t.HTTP.Plus(s.HTTP)
		if !relay.Enrolled.IsZero() {
			t.Enrolled++
			if now.Sub(s.Seen) > fleet.RelaySilence {
				t.Silent++
			}
		}
	}
	return t
}

// AddrOn returns the address by which the machines of a subnet reach their
// relay. Of several relays it is the one that was heard last.
func (r *Relays) AddrOn(subnet string) (addr netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var seen time.Time
	for _, name := range slices.Sorted(maps.Keys(r.relays)) {
		relay := r.relays[name]
		at := relay.AddrOn(subnet)
		if !at.IsValid() || !relay.Serves(subnet) {
			continue
		}
		if !addr.IsValid() || r.status[name].Seen.After(seen.Add(time.Minute)) {
			addr, seen = at, r.status[name].Seen
		}
	}
	return addr
}

// Known reports whether an address is a relay's.
func (r *Relays) Known(addr netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, relay := range r.relays {
		if slices.ContainsFunc(relay.Places, func(p fleet.RelayAt) bool { return p.Addr == addr }) {
			return true
		}
	}
	return false
}

// AddrsOn returns the addresses on a subnet of all relays that speak for it, in
// the order of their names.
func (r *Relays) AddrsOn(subnet string) (addrs []netip.Addr) {
	for _, relay := range r.List() {
		if at := relay.AddrOn(subnet); at.IsValid() && relay.Serves(subnet) {
			addrs = append(addrs, at)
		}
	}
	return addrs
}

// Changed returns a channel that is closed when a relay comes, goes, or gets
// another address.
func (r *Relays) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Add makes a relay and returns the token that it enrols with, once. The
// token holds the fingerprint of the server's CA as well: it is all that a
// relay has to be told.
func (r *Relays) Add(ctx context.Context, by, name string, subnets []string) (token string, expires time.Time, err error) {
	const op = "add relay"
	if !fleet.ValidName(name) {
		return "", time.Time{}, &fleet.Error{Kind: fleet.Invalid, Op: op, Err: fmt.Errorf("%.80q is not a name", name), Hint: "use lower-case letters, digits and dashes"}
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	if _, there := r.byName(name); there {
		return "", time.Time{}, &fleet.Error{Kind: fleet.Conflict, Op: op, On: name, Err: errors.New("there is one already"), Hint: "remove it first: provision relays remove " + name}
	}
	secret, hash := fleet.NewSecret()
	now := r.now()
	relay := fleet.Relay{Name: name, Subnets: slices.Clone(subnets), Created: now, By: by, Token: hash, TokenExpires: now.Add(relayTokenLife)}
	if err := r.keep(ctx, relay); err != nil {
		return "", time.Time{}, err
	}
	return secret + "." + r.authority.Fingerprint()[len("sha256:"):], relay.TokenExpires, nil
}

// Remove takes a relay's rights away, at once. Its certificate is worthless
// from then on.
func (r *Relays) Remove(ctx context.Context, name string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if _, there := r.byName(name); !there {
		return r.noSuchRelay(name)
	}
	if err := r.store.DeleteRelay(ctx, name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.relays, name)
	delete(r.status, name)
	r.wake()
	return nil
}

func (r *Relays) noSuchRelay(name string) error {
	err := &fleet.Error{Kind: fleet.NotFound, Err: fmt.Errorf("no relay %.80q", name), Hint: "see: provision relays list"}
	var known []string
	for _, relay := range r.List() {
		known = append(known, relay.Name)
	}
	if near := fleet.Nearest(name, known); near != "" {
		err.Hint = fmt.Sprintf("did you mean %q?", near)
	}
	return err
}

func (r *Relays) byName(name string) (fleet.Relay, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	relay, ok := r.relays[name]
	return relay, ok
}

// Enrol redeems a token for a relay's certificate. The relay whose answer got
// lost may ask again with the same key.
func (r *Relays) Enrol(ctx context.Context, secret string, csrPEM []byte) (fleet.Relay, []byte, error) {
	r.writing.Lock()
	defer r.writing.Unlock()
	relay, ok := r.byToken(fleet.HashSecret(secret))
	if !ok {
		return fleet.Relay{}, nil, &fleet.Error{
			Kind: fleet.Denied, Code: "E-RELAY-TOKEN", Op: "enrol relay", Err: errors.New("the token is unknown, used or too old"),
			Hint: "make another one on the server: provision relays remove NAME, then provision relays add NAME",
		}
	}
	cert, key, err := r.authority.SignRelay(csrPEM, relay.Name)
	if err != nil {
		return fleet.Relay{}, nil, err
	}
	if !relay.Enrolled.IsZero() && relay.Key != key {
		return fleet.Relay{}, nil, &fleet.Error{Kind: fleet.Denied, Code: "E-RELAY-TOKEN", Op: "enrol relay", On: relay.Name, Err: errors.New("the token was used by another machine"), Hint: "if that was not you: provision relays remove " + relay.Name}
	}
	relay.Key, relay.Enrolled = key, r.now()
	return relay, cert, r.keep(ctx, relay)
}

// byToken finds the relay that a token is for. The token stays until it
// expires, for the relay whose answer got lost.
func (r *Relays) byToken(hash [32]byte) (fleet.Relay, bool) {
	for _, relay := range r.List() {
		if relay.Token != ([32]byte{}) && subtle.ConstantTimeCompare(relay.Token[:], hash[:]) == 1 && r.now().Before(relay.TokenExpires) {
			return relay, true
		}
	}
	return fleet.Relay{}, false
}

// Renew gives a relay that is known another certificate for its key.
func (r *Relays) Renew(name string, csrPEM []byte) ([]byte, error) {
	relay, ok := r.byName(name)
	if !ok {
		return nil, unknownRelay(errors.New("it was removed"))
	}
	cert, key, err := r.authority.SignRelay(csrPEM, name)
	if err != nil {
		return nil, err
	}
	if key == relay.Key {
		return cert, nil
	}
	return nil, &fleet.Error{Kind: fleet.Invalid, Code: "E-CSR", Op: "renew certificate", On: "relay " + name, Err: errors.New("the key is not the one that it enrolled with")}
}

// Identify returns the relay that a chain of certificates belongs to, leaf
// first. One that was removed is nobody.
func (r *Relays) Identify(chain []*x509.Certificate) (fleet.Relay, error) {
	name, key, err := r.authority.identifyRelay(chain)
	if err != nil {
		return fleet.Relay{}, unknownRelay(err)
	}
	relay, ok := r.byName(name)
	if !ok || relay.Key != key {
		return fleet.Relay{}, unknownRelay(fmt.Errorf("relay %s was removed, or enrolled again with another key", name))
	}
	return relay, nil
}

func unknownRelay(err error) error {
	return &fleet.Error{Kind: fleet.Denied, Code: "E-RELAY", Op: "identify relay", Err: err, Hint: "enrol it again: provision relays add NAME"}
}

// Report keeps what a relay says about itself. Its addresses are stored: the
// DHCP server names them also after a restart.
func (r *Relays) Report(ctx context.Context, name string, s fleet.RelayStatus) error {
	relay, ok := r.hear(name, s)
	if !ok {
		return unknownRelay(errors.New("it was removed"))
	}
	if slices.Equal(placesOf(relay, s), relay.Places) {
		return nil
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	if relay, ok = r.byName(name); !ok { // in between
		return unknownRelay(errors.New("it was removed"))
	}
	relay.Places = placesOf(relay, s)
	return r.keep(ctx, relay)
}

// hear notes what a relay says about itself, and that it says something.
func (r *Relays) hear(name string, s fleet.RelayStatus) (fleet.Relay, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	relay, ok := r.relays[name]
	if ok {
		s.Seen = r.now()
		r.status[name] = s
	}
	return relay, ok
}

// placesOf are those addresses of a report that are on the relay's own subnets.
func placesOf(relay fleet.Relay, s fleet.RelayStatus) []fleet.RelayAt {
	return slices.DeleteFunc(slices.Clone(s.Places), func(p fleet.RelayAt) bool { return !relay.Serves(p.Subnet) || !p.Addr.IsValid() })
}

// keep stores a relay and makes it visible; the caller holds writing.
func (r *Relays) keep(ctx context.Context, relay fleet.Relay) error {
	if err := r.store.SaveRelay(ctx, relay); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.relays[relay.Name] = relay
	r.wake()
	return nil
}

// wake tells who waits for a change; the caller holds mu.
func (r *Relays) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}
