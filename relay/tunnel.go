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

	"golang.org/x/sync/errgroup"

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
func (r *Relay) carryAgents(ctx context.Context, listeners []net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	keeper := throttle.NewDoorkeeper(agentsPerAddr, agentsInAll)
	for _, l := range listeners {
		group.Go(func() error { return r.acceptAgents(ctx, l, keeper) })
	}
	return group.Wait()
}

func (r *Relay) acceptAgents(ctx context.Context, l net.Listener, keeper *throttle.Doorkeeper) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // we closed it
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
		if !keeper.Admit(conn) {
			_ = conn.Close()
			continue
		}
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
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.link.base+api.PathRelayTunnel, io.NopCloser(conn))
	if err != nil {
		return
	}
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
	_, _ = io.Copy(conn, res.Body) // ends when either end does
}
