package chunk

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

// Tell tells the server that a node is in its rack, and returns who else is.
type Tell func(ctx context.Context, in api.RackRequest) (api.RackReply, error)

// ErrNoRack is what a [Tell] returns when there is no sense in trying again.
var ErrNoRack = errors.New("the server knows of no rack")

// A Share is this node among those of its rack that fetch the same image: for
// as long as it writes its own disk, it hands chunks to the others. That is
// the one time that a node listens for anybody but its server's answers.
type Share struct {
	rack   *Rack
	tell   Tell
	log    *slog.Logger
	digest string
	port   uint16
	stop   context.CancelFunc
	gone   chan struct{} // closed when the server is not told any more
	server *http.Server  // nil when we cannot listen
}

// firstWord is how long the server may take to say who else is there. Whoever
// begins without knowing gets from the server what others have.
const firstWord = 5 * time.Second

// Share begins to feed the rack, until [Share.Leave]. digest names the image.
// It waits a little for the server to name the others. When nothing comes of
// it, the node is alone in its rack and fetches everything from the server.
func (r *Rack) Share(ctx context.Context, digest string, tell Tell, log *slog.Logger) *Share {
	ctx, stop := context.WithCancel(ctx)
	s := &Share{rack: r, tell: tell, log: log, digest: digest, stop: stop, gone: make(chan struct{})}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":0")
	if err != nil {
		log.Warn("rack is not fed", "err", err)
		close(s.gone)
		return s
	}
	s.port = uint16(l.Addr().(*net.TCPAddr).Port) //nolint:gosec,forcetypeassert // a TCP listener's
	s.server = &http.Server{
		Handler: r, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 4096, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() { _ = s.server.Serve(doorman{l, r}) }() // ends with Leave
	told := make(chan struct{})
	go func() {
		defer close(s.gone)
		s.keepTelling(ctx, sync.OnceFunc(func() { close(told) }))
	}()
	late := time.NewTimer(firstWord)
	defer late.Stop()
	select {
	case <-told:
	case <-late.C:
	case <-ctx.Done():
	}
	return s
}

// keepTelling keeps the server told that we are there, and hears of the others.
// told is called after each try.
func (s *Share) keepTelling(ctx context.Context, told func()) {
	var delay retry.Delay
	for ctx.Err() == nil {
		reply, err := s.tell(ctx, api.RackRequest{Digest: s.digest, Port: s.port})
		pause := time.Duration(min(max(reply.Every, 1), 60)) * time.Second
		switch {
		case err == nil:
			s.rack.SetPeers(reply.Self, reply.Peers)
			delay = retry.Delay{}
		case errors.Is(err, ErrNoRack):
			s.log.Warn("server does not name the nodes of the rack", "err", err)
			told()
			return
		default:
			pause = delay.Next() // it is away; those that we know are still there
		}
		told()
		if retry.Pause(ctx, pause) != nil {
			return
		}
	}
}

// Leave ends the feeding. The others find out when they ask next; the server
// is told, if it answers at once.
func (s *Share) Leave() {
	s.stop()
	<-s.gone
	if s.server != nil {
		_ = s.server.Close() // whoever is being fed asks somebody else
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _ = s.tell(ctx, api.RackRequest{Digest: s.digest})
	}
	s.rack.Close()
}

// Memory is how much of this machine's memory chunks for the rack may take: a
// sixteenth, which is enough for a whole image from a handful of nodes on.
func Memory() int64 {
	const most = 256 << 20
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(min(info.Totalram*uint64(info.Unit)/16, most)) //nolint:gosec // bounded
}
