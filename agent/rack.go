package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/chunk"
	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

// A rackmate is this node among those of its rack that fetch the same image:
// for as long as it writes its own disk, it hands chunks to the others. That
// is the one time that a node listens for anybody but its server's answers.
type rackmate struct {
	*chunk.Rack
	client *client
	log    *slog.Logger
	digest string
	port   uint16
	stop   context.CancelFunc
	gone   chan struct{} // closed when the server is not told any more
	server *http.Server
}

// joinRack begins to feed the rack. When that cannot be, the node is alone in
// it and fetches everything from the server.
func (in *installer) joinRack(ctx context.Context, digest string, rack *chunk.Rack) *rackmate {
	ctx, stop := context.WithCancel(ctx)
	m := &rackmate{Rack: rack, client: in.client, log: in.log, digest: digest, stop: stop, gone: make(chan struct{})}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":0")
	if err != nil {
		in.log.Warn("rack is not fed", "err", err)
		close(m.gone)
		return m
	}
	m.port = uint16(l.Addr().(*net.TCPAddr).Port) //nolint:gosec,forcetypeassert // a TCP listener's
	m.server = &http.Server{
		Handler: rack, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		MaxHeaderBytes: 4096, ErrorLog: slog.NewLogLogger(in.log.Handler(), slog.LevelDebug),
	}
	go func() { _ = m.server.Serve(l) }() // ends with leave
	go func() {
		defer close(m.gone)
		m.tell(ctx)
	}()
	return m
}

// tell keeps the server told that we are there, and hears of the others.
func (m *rackmate) tell(ctx context.Context) {
	var delay retry.Delay
	for ctx.Err() == nil {
		var reply api.RackReply
		err := m.client.call(ctx, api.PathRack, api.RackRequest{Digest: m.digest, Port: m.port}, &reply, 10*time.Second)
		pause := time.Duration(min(max(reply.Every, 1), 60)) * time.Second
		switch {
		case err == nil:
			m.SetPeers(reply.Self, reply.Peers)
			delay = retry.Delay{}
		case final(err):
			m.log.Warn("server does not name the nodes of the rack", "err", err)
			return
		default:
			pause = delay.Next() // it is away; those that we know are still there
		}
		if retry.Pause(ctx, pause) != nil {
			return
		}
	}
}

// leave ends the feeding. The others find out when they ask next; the server
// is told if it answers at once.
func (m *rackmate) leave() {
	m.stop()
	<-m.gone
	if m.server != nil {
		_ = m.server.Close() // whoever is being fed asks somebody else
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m.client.call(ctx, api.PathRack, api.RackRequest{Digest: m.digest}, &api.RackReply{}, time.Second)
	}
	m.Close()
}

// rackMemory is how much of the memory chunks for the rack may take: a
// sixteenth, which is enough for a whole image from a handful of nodes on.
func rackMemory() int64 {
	const most = 256 << 20
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(min(info.Totalram*uint64(info.Unit)/16, most)) //nolint:gosec // bounded
}
