package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/internal/throttle"
)

// Limits of the machines' connections to the server.
const (
	agentsPerAddr = 32
	agentsInAll   = 10_000
	tunnelTime    = 10 * time.Second // until the server has taken it
)

// carryAgents carries machines' TLS connections to the server, byte by byte.
// It can read none of them: agents know the server by its CA.
func (r *Relay) carryAgents(ctx context.Context, l net.Listener, keeper *throttle.Doorkeeper) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil // we closed it
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			r.o.Log.WarnContext(ctx, "connection not accepted", "err", err)
			select { // others have to end first
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		case err != nil:
			return err
		}
		place := keeper.Admit(conn)
		if place == nil {
			_ = conn.Close()
			continue
		}
		place.Busy(time.Now()) // what goes on in a tunnel is not seen from here
		all.Go(func() {
			defer keeper.Release(conn)
			defer conn.Close()
			r.carry(ctx, conn)
		})
	}
}

// carry opens a tunnel for one connection. Without a server the connection is
// closed: agents try again.
func (r *Relay) carry(ctx context.Context, conn net.Conn) {
	if r.away.Load() {
		return
	}
	machine, err1 := netip.ParseAddrPort(conn.RemoteAddr().String())
	local, err2 := netip.ParseAddrPort(conn.LocalAddr().String())
	if errors.Join(err1, err2) != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	body := &gated{conn: conn, ctx: ctx, open: make(chan struct{})}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.link.base+api.PathRelayTunnel, body)
	if err != nil {
		return
	}
	req.GetBody = func() (io.ReadCloser, error) { return body, nil }
	speaker{netip.AddrPortFrom(machine.Addr().Unmap(), machine.Port()), local.Addr().Unmap()}.sign(req)
	watch := time.AfterFunc(tunnelTime, cancel)
	defer watch.Stop()
	res, err := r.link.machines.Do(req)
	if err != nil || !watch.Stop() {
		r.o.Log.DebugContext(ctx, "connection not carried", "addr", machine, "err", err)
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		r.o.Log.WarnContext(ctx, "connection not carried", "addr", machine, "err", refused(res))
		return
	}
	close(body.open)
	_, _ = io.Copy(conn, res.Body) // ends when either end does
}

// gated is what a machine sends, from when the server has taken the tunnel on.
// Before that nothing is read: a server that has too many streams on one
// connection refuses some, and they are asked for again on another.
type gated struct {
	conn net.Conn
	ctx  context.Context //nolint:containedctx // the life of the connection
	open chan struct{}
}

// Read waits for the gate.
func (g *gated) Read(p []byte) (int, error) {
	select {
	case <-g.open:
		return g.conn.Read(p)
	case <-g.ctx.Done():
		return 0, g.ctx.Err()
	}
}

// Close does nothing: the connection is closed by whoever accepted it.
func (*gated) Close() error { return nil }
