package chunk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/api"
)

// An image is random chunks and a server that counts what it sends.
type image struct {
	index  api.ImageIndex
	raw    map[string][]byte
	server *httptest.Server
	sent   atomic.Int64
	asked  sync.Map // by chunk: *atomic.Int32
	packed int64
}

func newImage(t *testing.T, chunks int) *image {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	im := &image{raw: map[string][]byte{}}
	files := map[string][]byte{}
	for range chunks {
		raw := make([]byte, 20_000+random.IntN(20_000))
		for i := range raw {
			raw[i] = byte(random.IntN(16))
		}
		c := named(raw)
		c.Offset = im.index.Size
		im.index.Size += c.Size
		im.index.Chunks = append(im.index.Chunks, c)
		im.raw[c.ID] = raw
		files[api.PathChunks+fileOf(c.ID)] = packed(t, raw)
		im.packed += int64(len(files[api.PathChunks+fileOf(c.ID)]))
	}
	im.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := files[r.URL.Path]
		n, _ := im.asked.LoadOrStore(r.URL.Path, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		im.sent.Add(int64(len(b)))
		_, _ = w.Write(b)
	}))
	t.Cleanup(im.server.Close)
	return im
}

// A node fetches the image as one of a rack.
type node struct {
	rack    *Rack
	fetcher *Fetcher
	server  *httptest.Server
	addr    string
}

func (im *image) node(t *testing.T, keep int64, handler func(*Rack) http.Handler) *node {
	t.Helper()
	f := New([]string{im.server.URL + api.PathChunks}, 4, nil)
	r := NewRack(f, im.index, keep)
	var h http.Handler = r
	if handler != nil {
		h = handler(r)
	}
	s := httptest.NewServer(h)
	n := &node{rack: r, fetcher: f, server: s, addr: strings.TrimPrefix(s.URL, "http://")}
	t.Cleanup(n.close)
	return n
}

func (n *node) close() {
	n.rack.Close()
	n.server.CloseClientConnections()
	n.server.Close()
	n.fetcher.Close()
}

func introduce(nodes []*node) {
	var all []string
	for _, n := range nodes {
		all = append(all, n.addr)
	}
	for _, n := range nodes {
		n.rack.SetPeers(n.addr, all)
	}
}

// fetchAll fetches the image as a writer does: in order, several at once.
func (n *node) fetchAll(ctx context.Context, im *image) error {
	jobs := make(chan api.Chunk)
	errs := make(chan error, 4)
	for range 4 {
		go func() {
			var err error
			for c := range jobs {
				p := make([]byte, c.Size)
				if e := n.rack.Fetch(ctx, c, p); e != nil {
					err = e
				} else if !bytes.Equal(p, im.raw[c.ID]) {
					err = fmt.Errorf("chunk %s has another content", c.ID)
				}
			}
			errs <- err
		}()
	}
	for _, c := range im.index.Chunks {
		jobs <- c
	}
	close(jobs)
	var last error
	for range 4 {
		if err := <-errs; err != nil {
			last = err
		}
	}
	return last
}

func everybody(t *testing.T, im *image, nodes []*node) {
	t.Helper()
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			if err := n.fetchAll(t.Context(), im); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func TestTheServerSendsEachChunkOncePerRack(t *testing.T) {
	im := newImage(t, 150)
	var nodes []*node
	for range 20 {
		nodes = append(nodes, im.node(t, 64<<20, nil))
	}
	introduce(nodes)
	everybody(t, im, nodes)
	if sent := im.sent.Load(); sent > im.packed*11/10 {
		t.Errorf("the server sent %d bytes to 20 nodes, the image has %d", sent, im.packed)
	}
	var got RackStats
	for _, n := range nodes {
		s := n.rack.Stats()
		got.FromServer += s.FromServer
		got.FromPeers += s.FromPeers
		got.ToPeers += s.ToPeers
	}
	if got.FromServer != im.sent.Load() || got.FromServer+got.FromPeers < 20*im.packed {
		t.Errorf("the nodes count %+v, the server sent %d", got, im.sent.Load())
	}
}

func TestANodeAloneAsksTheServer(t *testing.T) {
	im := newImage(t, 10)
	n := im.node(t, 1<<20, nil)
	everybody(t, im, []*node{n})
	if got := n.rack.Stats(); got.FromServer != im.packed || got.FromPeers != 0 {
		t.Errorf("it got %+v, want all %d bytes from the server", got, im.packed)
	}
}

// Whatever a peer does, the image gets whole, and in time.
func TestBadPeersDoNoHarm(t *testing.T) {
	tests := map[string]func(*Rack) http.Handler{
		"sends something else": func(*Rack) http.Handler { return body(packed(t, data)) },
		"sends no zstd":        func(*Rack) http.Handler { return body(data) },
		"sends without end": func(*Rack) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					_, _ = w.Write(data)
				}
			})
		},
		"breaks off":  func(*Rack) http.Handler { return http.HandlerFunc(dropped) },
		"has nothing": func(*Rack) http.Handler { return status(404) },
		"is busy":     func(*Rack) http.Handler { return status(503) },
		"sends on to a stranger": func(*Rack) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(headerNext, "127.0.0.1:1")
				w.WriteHeader(http.StatusMultipleChoices)
			})
		},
		"sends on to itself": func(*Rack) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(headerNext, r.Host)
				w.WriteHeader(http.StatusMultipleChoices)
			})
		},
		"redirects to where it likes": func(*Rack) http.Handler {
			return http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			im := newImage(t, 20)
			good, other, bad := im.node(t, 1<<20, nil), im.node(t, 1<<20, nil), im.node(t, 1<<20, handler)
			introduce([]*node{good, other, bad})
			everybody(t, im, []*node{good, other})
		})
	}
}

func TestPeersThatVanishAreReplacedByTheServer(t *testing.T) {
	im := newImage(t, 40)
	nodes := []*node{im.node(t, 1<<20, nil), im.node(t, 1<<20, nil), im.node(t, 1<<20, nil)}
	introduce(nodes)
	nodes[1].server.Close()
	nodes[2].server.Close()
	everybody(t, im, nodes[:1])
}

// A node that has no room still finds every chunk; the server sends more.
func TestARackWithoutMemoryWorks(t *testing.T) {
	im := newImage(t, 30)
	nodes := []*node{im.node(t, 0, nil), im.node(t, 0, nil), im.node(t, 40_000, nil)}
	introduce(nodes)
	everybody(t, im, nodes)
}

func TestPeersGetChunksOfTheImageOnly(t *testing.T) {
	im := newImage(t, 3)
	n := im.node(t, 1<<20, nil)
	introduce([]*node{n, im.node(t, 1<<20, nil)})
	good := fileOf(im.index.Chunks[0].ID)
	tests := map[string]struct {
		method, path string
		want         int
	}{
		"a chunk of the image":      {"GET", api.PathChunks + good, 200},
		"a chunk that is not of it": {"GET", api.PathChunks + fileOf(named(data).ID), 404},
		"a chunk elsewhere":         {"GET", "/x/" + good, 404},
		"a file":                    {"GET", "/etc/passwd", 404},
		"a path upwards":            {"GET", "/chunks/../../etc/passwd", 404},
		"nothing":                   {"GET", "/", 404},
		"another method":            {"DELETE", api.PathChunks + good, 404},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			n.rack.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, "http://x"+tt.path, nil))
			if w.Code != tt.want {
				t.Errorf("status %d, want %d", w.Code, tt.want)
			}
		})
	}
}

// Who asks while others are being fed is sent to one that has been.
func TestManyAskersAreSentOn(t *testing.T) {
	im := newImage(t, 1)
	owner := im.node(t, 1<<20, nil)
	fed, asker := "127.0.0.1:1001", "127.0.0.1:1002"
	owner.rack.SetPeers(owner.addr, []string{owner.addr, fed, asker})
	c := im.index.Chunks[0]
	owner.rack.noteFed(owner.rack.members.Load(), c.ID, fed)
	for range sendsMost {
		owner.rack.sending <- struct{}{}
	}
	free := time.AfterFunc(50*time.Millisecond, func() { <-owner.rack.sending })
	defer free.Stop()
	ask := func(hop string) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+api.PathChunks+fileOf(c.ID), nil)
		req.Header.Set(headerSelf, asker)
		req.Header.Set(headerHop, hop)
		w := httptest.NewRecorder()
		owner.rack.ServeHTTP(w, req)
		return w
	}
	if w := ask(""); w.Code != http.StatusMultipleChoices || w.Header().Get(headerNext) != fed {
		t.Errorf("answer %d to %q, want to be sent on to %s", w.Code, w.Header().Get(headerNext), fed)
	}
	if w := ask(hopInsist); w.Code != http.StatusOK {
		t.Errorf("who insists gets %d, want the chunk", w.Code)
	}
	if w := ask("1"); w.Code != http.StatusOK {
		t.Errorf("who was sent on to us gets %d, want the chunk that we have", w.Code)
	}
}

func TestFetchFromARackEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts and never answers
	im := newImage(t, 1)
	f := New([]string{"http://" + l.Addr().String()}, 1, nil)
	defer f.Close()
	r := NewRack(f, im.index, 1<<20)
	defer r.Close()
	r.SetPeers("127.0.0.1:9", []string{"127.0.0.1:9", l.Addr().String()})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := r.Fetch(ctx, im.index.Chunks[0], make([]byte, im.index.Chunks[0].Size)); err == nil {
		t.Error("a chunk came out of nowhere")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it ended after %v", took)
	}
}

// The server of the rack is away at first; then it names both.
func TestNodesFindEachOtherThroughTheServer(t *testing.T) {
	im := newImage(t, 60)
	var mu sync.Mutex
	members := map[string]bool{}
	calls := 0
	tell := func(_ context.Context, in api.RackRequest) (api.RackReply, error) {
		mu.Lock()
		defer mu.Unlock()
		self := fmt.Sprint("127.0.0.1:", in.Port)
		if calls++; calls < 3 {
			return api.RackReply{}, errors.New("away")
		}
		if in.Port == 0 {
			return api.RackReply{}, nil
		}
		members[self] = true
		reply := api.RackReply{Self: self, Every: 1}
		for m := range members {
			reply.Peers = append(reply.Peers, m)
		}
		return reply, nil
	}
	var nodes []*node
	for range 2 {
		n := im.node(t, 1<<22, nil)
		share := n.rack.Share(t.Context(), "sha256:aa", tell, slog.New(slog.DiscardHandler))
		t.Cleanup(share.Leave)
		nodes = append(nodes, n)
	}
	await(t, func() bool {
		return len(nodes[0].rack.members.Load().all) == 2 && len(nodes[1].rack.members.Load().all) == 2
	})
	everybody(t, im, nodes)
	if sent := im.sent.Load(); sent > im.packed*11/10 {
		t.Errorf("the server sent %d bytes to 2 nodes, the image has %d", sent, im.packed)
	}
}

func TestAPeerIsLeftAloneForAsLongAsItDeserves(t *testing.T) {
	tests := map[string]struct {
		err   error
		after []time.Duration // pauses, one after the other
	}{
		"it hangs up":            {io.EOF, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second}},
		"it is not reached":      {&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, []time.Duration{2 * time.Second, 4 * time.Second}},
		"it hangs":               {context.DeadlineExceeded, []time.Duration{5 * time.Minute, 5 * time.Minute}},
		"it sends what is wrong": {errCorrupt, []time.Duration{5 * time.Minute}},
		"it has nothing for us":  {errMissing, []time.Duration{0, 0}},
		"it has too much to do":  {errBusy, []time.Duration{0}},
		"it has fed us":          {nil, []time.Duration{0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewRack(New(nil, 1, nil), api.ImageIndex{}, 1)
				defer r.Close()
				both := &members{all: []string{"a:1"}}
				for i, want := range tt.after {
					r.blame("a:1", tt.err)
					r.blame("a:1", tt.err) // of a request at the same time
					began := time.Now()
					for len(r.ranked(both, "chunk")) == 0 {
						<-time.After(time.Second)
					}
					if got := time.Since(began); got != want {
						t.Errorf("after failure %d it is left alone for %v, want %v", i+1, got, want)
					}
				}
				r.blame("a:1", io.EOF)
				r.praise("a:1")
				if len(r.failed) != 0 {
					t.Error("it has fed us since, and its failures count")
				}
			})
		})
	}
}

func TestANodeKnowsItsRackBeforeItFetches(t *testing.T) {
	im := newImage(t, 1)
	tests := map[string]struct {
		answer func(ctx context.Context) error // of the server, to the first word
		want   int                             // peers are known
	}{
		"the server is slow":   {func(context.Context) error { <-time.After(200 * time.Millisecond); return nil }, 2},
		"the server is away":   {func(context.Context) error { return errors.New("away") }, 0},
		"the server is silent": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			n := im.node(t, 1<<20, nil)
			share := n.rack.Share(ctx, "sha256:aa", func(ctx context.Context, in api.RackRequest) (api.RackReply, error) {
				self := fmt.Sprint("127.0.0.1:", in.Port)
				return api.RackReply{Self: self, Peers: []string{self, "127.0.0.1:1"}, Every: 60}, tt.answer(ctx)
			}, slog.New(slog.DiscardHandler))
			if got := len(n.rack.members.Load().all); got != tt.want {
				t.Errorf("%d are known, want %d", got, tt.want)
			}
			cancel()
			share.Leave()
		})
	}
}

func TestAServerThatKnowsNoRackIsAskedOnce(t *testing.T) {
	im := newImage(t, 3)
	n := im.node(t, 1<<20, nil)
	var told atomic.Int32
	share := n.rack.Share(t.Context(), "sha256:aa", func(context.Context, api.RackRequest) (api.RackReply, error) {
		told.Add(1)
		return api.RackReply{}, ErrNoRack
	}, slog.New(slog.DiscardHandler))
	everybody(t, im, []*node{n})
	<-share.gone
	share.Leave()
	if got := told.Load(); got != 2 {
		t.Errorf("the server was told %d times, want once at first and once at the end", got)
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("it did not come to pass within 20 s")
		}
	}
}

func TestOnlyMembersOfTheRackAreLetIn(t *testing.T) {
	im := newImage(t, 1)
	n := im.node(t, 1<<20, nil)
	tests := map[string]struct {
		members []string
		want    bool
	}{
		"it is one":                       {[]string{"127.0.0.1:1", "10.0.0.1:1"}, true},
		"another is":                      {[]string{"127.0.0.2:1", "10.0.0.1:1"}, false},
		"it is alone in the world":        {nil, false},
		"another has a name beginning so": {[]string{"127.0.0.10:1"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n.rack.SetPeers("127.0.0.9:9", tt.members)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan bool, 1)
			go func() {
				conn, err := doorman{l, n.rack}.Accept()
				if err == nil {
					_ = conn.Close()
				}
				got <- err == nil
			}()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _ = conn.Read(make([]byte, 1)) // it is closed, let in or not
			_ = l.Close()
			if in := <-got; in != tt.want {
				t.Errorf("let in: %v, want %v", in, tt.want)
			}
		})
	}
}
