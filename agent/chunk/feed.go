package chunk

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rackstage/provision/api"
)

// feedTime is how long a peer may take to read a chunk: others wait for its
// place.
const feedTime = 15 * time.Second

// ServeHTTP feeds the peers: with chunks of this image and nothing else. One
// that we do not have is fetched from the server first, since all of the rack
// think that it is ours to get.
func (r *Rack) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	id, _ := strings.CutSuffix(path.Base(req.URL.Path), ".cacnk")
	c, ok := r.chunks[id]
	if !ok || req.Method != http.MethodGet || req.URL.Path != api.PathChunks+fileOf(id) {
		http.NotFound(w, req)
		return
	}
	if r.asked.Add(1); r.asked.Load() > askedMost {
		r.asked.Add(-1)
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	defer r.asked.Add(-1)
	m, asker, hop := r.members.Load(), req.Header.Get(headerSelf), req.Header.Get(headerHop)
	packed, ok := r.have(c, hop == "" || hop == hopInsist) // before it takes a place: the server may be slow
	if !ok {
		http.NotFound(w, req)
		return
	}
	at := r.place(req.Context())
	if at == nowhere {
		return // the asker went away
	}
	defer func() { <-r.sending }()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(feedTime))
	if next := r.fedBefore(m, id, asker); at == afterWaiting && hop != hopInsist && next != "" {
		w.Header().Set(headerNext, next)
		w.WriteHeader(http.StatusMultipleChoices)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(packed)))
	sent, err := w.Write(packed)
	r.stats.toPeers.Add(int64(sent))
	if err == nil {
		r.noteFed(m, id, asker)
	}
}

// placing says how a request got its place among those that are fed.
type placing int

const (
	nowhere placing = iota
	atOnce
	afterWaiting // there are more askers than we can feed
)

func (r *Rack) place(ctx context.Context) placing {
	select {
	case r.sending <- struct{}{}:
		return atOnce
	default:
	}
	select {
	case r.sending <- struct{}{}:
		return afterWaiting
	case <-ctx.Done():
		return nowhere
	case <-r.scope.Done():
		return nowhere
	}
}

// have returns a chunk from memory or, if it is for us to get, from the server.
func (r *Rack) have(c api.Chunk, get bool) ([]byte, bool) {
	if packed, ok := r.kept.get(c.ID); ok || !get {
		return packed, ok
	}
	if r.fromServer(r.scope, c, make([]byte, c.Size)) != nil {
		return nil, false
	}
	return r.kept.get(c.ID)
}

// fedBefore returns one of the members that got a chunk from us, but the asker.
func (r *Rack) fedBefore(m *members, id, asker string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	fed := r.fed[id]
	if len(fed) == 0 {
		return ""
	}
	next := fed[rand.IntN(len(fed))]
	if next == asker || !slices.Contains(m.all, next) {
		return ""
	}
	return next
}

// noteFed remembers who got a chunk from us: the last few of them.
func (r *Rack) noteFed(m *members, id, asker string) {
	if !slices.Contains(m.all, asker) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fed := r.fed[id]
	if slices.Contains(fed, asker) {
		return
	}
	if len(fed) >= fedMost {
		fed = fed[1:]
	}
	r.fed[id] = append(fed, asker)
}

// A doorman lets in the members of the rack and nobody else.
type doorman struct {
	net.Listener
	rack *Rack
}

// Accept implements [net.Listener].
func (d doorman) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil || d.rack.knows(conn.RemoteAddr()) {
			return conn, err
		}
		_ = conn.Close()
	}
}

// knows reports whether an address is that of a member.
func (r *Rack) knows(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap()
	return slices.ContainsFunc(r.members.Load().all, func(p string) bool {
		ap, err := netip.ParseAddrPort(p)
		return err == nil && ap.Addr() == addr
	})
}
