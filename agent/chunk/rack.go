package chunk

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/rackstage/provision/api"
)

// A Rack is the nodes of one rack that fetch the same image at the same time.
// They share the work: for each chunk all of them agree, without a word, on
// one node that gets it from the server (the highest hash of node and chunk),
// and ask that node for it. So the server sends a chunk once per rack, not
// once per node.
//
// A node that has more askers than it can feed sends some on to those that it
// fed before: a chunk spreads like a rumour, and not at the speed of one
// network card. Whatever goes wrong with a peer, the server remains.
//
// A peer is not believed: a chunk is used, kept and passed on only when its
// content is what its name says.
type Rack struct {
	server *Fetcher
	chunks map[string]api.Chunk
	kept   *kept
	flight singleflight.Group
	client *http.Client
	scope  context.Context // of what is fetched for others as well
	end    context.CancelFunc

	members atomic.Pointer[members]
	asked   atomic.Int32  // requests of peers that are here now
	sending chan struct{} // a place for each that is fed
	stats   rackCounters

	mu     sync.Mutex
	fed    map[string][]string // by chunk: members that got it from us, the last ones
	failed map[string]failure
}

// A failure is why a peer is left alone: how often it failed in a row, and
// until when.
type failure struct {
	times int
	until time.Time
}

// members are the nodes of the rack as of now.
type members struct {
	self string
	all  []string
}

// RackStats are bytes of packed chunks.
type RackStats struct{ FromServer, FromPeers, ToPeers int64 }

type rackCounters struct{ fromServer, fromPeers, toPeers atomic.Int64 }

const (
	askPeers   = 2               // how many are asked before the server
	peerWait   = time.Minute     // for one chunk of a peer, which may have to get it first
	firstPause = 2 * time.Second // one that failed is left alone so long, then twice as long
	peerPause  = 5 * time.Minute // at most, and at once if it hangs or what it sends is wrong
	sendsMost  = 4               // so many peers are fed at once; the others wait, or are sent on
	askedMost  = 8 * api.MaxRackPeers
	fedMost    = 8 // so many are remembered that got a chunk from us

	headerSelf = "X-Rack-Self" // who asks, as the members know it
	headerHop  = "X-Rack-Hop"  // "1" and up: was sent on so often; hopInsist: was sent on in vain
	headerNext = "X-Rack-Next" // in an answer: who is to be asked instead
	hopsMost   = 3
	hopInsist  = "insist"
)

// errElsewhere is for a peer that sends us to somebody of its own choice.
var errElsewhere = errors.New("sends on to somebody who is not in the rack")

// NewRack returns the rack of one that is alone in it, until [Rack.SetPeers].
// keep is how many bytes of chunks are kept in memory for others. The Fetcher
// stays the caller's.
func NewRack(server *Fetcher, ix api.ImageIndex, keep int64) *Rack {
	scope, end := context.WithCancel(context.Background())
	r := &Rack{
		server: server, chunks: make(map[string]api.Chunk, len(ix.Chunks)), kept: newKept(keep), scope: scope, end: end,
		sending: make(chan struct{}, sendsMost), fed: map[string][]string{}, failed: map[string]failure{},
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:           (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
				MaxIdleConnsPerHost:   2,
				DisableCompression:    true,
				ResponseHeaderTimeout: peerWait,
				IdleConnTimeout:       30 * time.Second,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return errElsewhere },
		},
	}
	for _, c := range ix.Chunks {
		if !c.Zero {
			r.chunks[c.ID] = c
		}
	}
	r.members.Store(&members{})
	return r
}

// Close ends what is under way for others.
func (r *Rack) Close() {
	r.end()
	r.client.CloseIdleConnections()
}

// SetPeers says who is in the rack, self among them.
func (r *Rack) SetPeers(self string, all []string) {
	m := &members{self: self}
	for _, p := range all[:min(len(all), api.MaxRackPeers)] {
		if ap, err := netip.ParseAddrPort(p); err == nil && ap.Port() != 0 {
			m.all = append(m.all, p)
		}
	}
	r.members.Store(m)
}

// Stats returns what came from where so far.
func (r *Rack) Stats() RackStats {
	return RackStats{r.stats.fromServer.Load(), r.stats.fromPeers.Load(), r.stats.toPeers.Load()}
}

// Fetch fills p with the chunk: from memory, from a peer, or from the server.
func (r *Rack) Fetch(ctx context.Context, c api.Chunk, p []byte) error {
	m := r.members.Load()
	if len(m.all) < 2 {
		return r.fromServer(ctx, c, p)
	}
	if packed, ok := r.kept.get(c.ID); ok && r.unpack(c, p, packed) == nil {
		return nil
	}
	for _, peer := range r.ranked(m, c.ID) {
		if peer == m.self {
			break // it is for us to get it
		}
		if r.fromPeer(ctx, m, peer, c, p) == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return r.fromServer(ctx, c, p)
}

// ranked returns the members that are to be asked for a chunk, in order. All
// members come to the same order.
func (r *Rack) ranked(m *members, id string) []string {
	type scored struct {
		peer  string
		score uint64
	}
	scores := make([]scored, 0, len(m.all))
	now := time.Now()
	r.mu.Lock()
	for _, p := range m.all {
		if now.Before(r.failed[p].until) {
			continue
		}
		sum := sha256.Sum256([]byte(id + " " + p))
		scores = append(scores, scored{p, binary.BigEndian.Uint64(sum[:])})
	}
	r.mu.Unlock()
	slices.SortFunc(scores, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	var out []string
	for _, s := range scores[:min(len(scores), askPeers)] {
		out = append(out, s.peer)
	}
	return out
}

// fromServer gets a chunk from the server, once for us and for whoever asks
// for it at the same moment.
func (r *Rack) fromServer(ctx context.Context, c api.Chunk, p []byte) error {
	if len(r.members.Load().all) < 2 {
		return r.server.fetch(ctx, c, p, func(b []byte) { r.stats.fromServer.Add(int64(len(b))) })
	}
	got := r.flight.DoChan(c.ID, func() (any, error) {
		raw := make([]byte, c.Size) // not p: its owner may go before the others that wait here
		if packed, ok := r.kept.get(c.ID); ok && r.unpack(c, raw, packed) == nil {
			return raw, nil // it came while we got here
		}
		err := r.server.fetch(r.scope, c, raw, func(b []byte) {
			r.stats.fromServer.Add(int64(len(b)))
			r.kept.put(c.ID, bytes.Clone(b))
		})
		return raw, err
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case res := <-got:
		if res.Err != nil {
			return res.Err
		}
		copy(p, res.Val.([]byte)) //nolint:forcetypeassert // what the function above returns
		return nil
	}
}

func (r *Rack) unpack(c api.Chunk, p, packed []byte) error {
	u, err := r.server.unpacker()
	if err != nil {
		return err
	}
	defer r.server.unpackers.Put(u)
	u.packed.Reset()
	u.packed.Write(packed)
	return u.unpack(c, p)
}

var errBusy = errors.New("has more to do than it can")

// fromPeer gets a chunk from a peer, or from those that it is sent on to. When
// they have it no more, it insists.
func (r *Rack) fromPeer(ctx context.Context, m *members, peer string, c api.Chunk, p []byte) error {
	asked := peer
	next, err := r.ask(ctx, m, peer, "", c, p)
	for hop := 1; err == nil && next != "" && hop <= hopsMost; hop++ {
		asked = next
		next, err = r.ask(ctx, m, next, strconv.Itoa(hop), c, p)
	}
	if asked != peer && (err != nil || next != "") && ctx.Err() == nil {
		r.blame(asked, err)
		asked = peer
		next, err = r.ask(ctx, m, peer, hopInsist, c, p)
	}
	if next != "" {
		err = errBusy // it did not want to
	}
	switch {
	case err == nil:
		r.praise(asked)
	case ctx.Err() == nil:
		r.blame(asked, err)
	}
	return err
}

// ask makes one request. next is another member that has the chunk.
func (r *Rack) ask(ctx context.Context, m *members, peer, hop string, c api.Chunk, p []byte) (next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+peer+api.PathChunks+fileOf(c.ID), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(headerSelf, m.self)
	req.Header.Set(headerHop, hop)
	resp, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() // read to its end or given up
	switch resp.StatusCode {
	case http.StatusOK:
		return "", r.read(resp.Body, c, p)
	case http.StatusMultipleChoices:
		next = resp.Header.Get(headerNext)
		if !slices.Contains(m.all, next) || next == m.self {
			return "", errMissing // it knows others than we do
		}
		return next, nil
	case http.StatusServiceUnavailable:
		return "", errBusy
	case http.StatusNotFound:
		return "", errMissing
	default:
		return "", fmt.Errorf("%s answered %s", peer, resp.Status)
	}
}

func (r *Rack) read(body io.Reader, c api.Chunk, p []byte) error {
	var packed bytes.Buffer
	if _, err := packed.ReadFrom(io.LimitReader(body, mostPacked(c))); err != nil {
		return err
	}
	if err := r.unpack(c, p, packed.Bytes()); err != nil {
		return err
	}
	r.stats.fromPeers.Add(int64(packed.Len()))
	r.kept.put(c.ID, packed.Bytes())
	return nil
}

// blame leaves a peer alone for a while, unless it has merely nothing for us
// or too much to do. At first that is not long: one that has not heard of us
// yet hangs up on us, and whoever leaves it alone asks somebody else to get
// from the server what it has.
func (r *Rack) blame(peer string, err error) {
	if err == nil || errors.Is(err, errMissing) || errors.Is(err, errBusy) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.failed[peer]
	if time.Now().Before(f.until) {
		return // for what it was asked before
	}
	pause := min(firstPause<<min(f.times, 10), peerPause)
	if errors.Is(err, errCorrupt) || hung(err) {
		pause = peerPause
	}
	r.failed[peer] = failure{f.times + 1, time.Now().Add(pause)}
}

// hung reports whether a peer took our request and our time.
func hung(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	timeout, late := errors.AsType[net.Error](err)
	return late && timeout.Timeout() && (!ok || op.Op != "dial")
}

// praise forgets that a peer failed before.
func (r *Rack) praise(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failed, peer)
}
