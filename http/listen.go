package http

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/throttle"
)

// Listeners are the doors of a server; those that are nil stay shut. Run
// closes them.
type Listeners struct {
	Boot  []net.Listener // plain HTTP for firmware
	TLS   []net.Listener // agents, API, console; plain TCP: Run adds TLS
	Plain []net.Listener // API and console without TLS; on loopback addresses only
	Local []net.Listener // the administrator's Unix socket, see [ListenLocal]
}

// Limits of connections.
const (
	headerTime    = 10 * time.Second
	idleTime      = 2 * time.Minute
	maxHeaders    = 64 << 10
	bootHeaders   = 8 << 10 // firmware says little
	connsPerAddr  = 128
	bootsPerAddr  = 1024             // a hall may be behind one router that translates addresses
	agentsPerAddr = 2 * bootsPerAddr // and a machine that was reset leaves its poll behind
	connsInAll    = 20_000
	drainTime     = 5 * time.Second

	// More than the 100 that clients begin with before they have heard of a
	// limit: what is refused then, a relay's tunnel say, waits for another to end.
	connStreams = 128
)

// Run serves until ctx is done, then lets requests end for a moment.
func (s *Server) Run(ctx context.Context, l Listeners) error {
	if err := checkLoopback(l.Plain); err != nil {
		return err
	}
	if len(l.TLS) > 0 && s.o.TLS == nil {
		return errors.New("serve TLS: no certificate")
	}
	group, ctx := errgroup.WithContext(ctx)
	stopStreams := sync.OnceFunc(func() { close(s.closing) })
	start := func(listeners []net.Listener, handler http.Handler, d door, secure bool) {
		for _, listener := range listeners {
			server := s.httpServer(handler, d)
			if secure {
				server.TLSConfig = s.o.TLS.Clone()
			}
			group.Go(func() error { return serve(server, listener, secure) })
			group.Go(func() error {
				<-ctx.Done()
				stopStreams()
				return drain(ctx, server)
			})
		}
	}
	for i, listener := range l.Boot {
		door := s.newQuickDoor(listener) //nolint:contextcheck // it has none: only a panic is told there
		l.Boot[i] = door
		group.Go(func() error { door.wait(); return nil }) // until its server closes it
	}
	start(l.Boot, s.BootHandler(), doorBoot, false)
	start(l.TLS, s.echo, doorTLS, true)
	if len(l.TLS) > 0 && s.o.Relays != nil {
		start([]net.Listener{s.tunnels}, s.echo, doorTLS, true)
	}
	start(l.Plain, s.echo, doorPlain, false)
	start(l.Local, s.echo, doorLocal, false)
	group.Go(func() error { <-ctx.Done(); return nil })
	err := group.Wait()
	return errors.Join(err, s.bootDir.Close(), s.links.close())
}

func (s *Server) httpServer(handler http.Handler, d door) *http.Server {
	perAddr := connsPerAddr
	if d == doorTLS {
		perAddr = agentsPerAddr
	}
	keeper := throttle.NewDoorkeeper(perAddr, connsInAll)
	keeper.Subnets(s.isDeclared)
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug), // handshakes and bad requests of strangers
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: connStreams},
		// No WriteTimeout: files, polls and streams are long. Every handler
		// sets deadlines of its own.
	}
	switch d {
	case doorBoot:
		server.MaxHeaderBytes = bootHeaders
		server.ConnState = s.bootDoor.WatchAdmitted // by their quick doors; one keeper for all boot listeners
	case doorTLS, doorPlain:
		server.ConnState = keeper.Watch
	case doorLocal:
	}
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return peerContext(context.WithValue(ctx, keyDoor, d), conn)
	}
	return server
}

func serve(server *http.Server, listener net.Listener, secure bool) error {
	var err error
	if secure {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", listener.Addr(), err)
}

func drain(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close() // polls that are still held: their agents ask again
	}
	return nil
}

// isDeclared reports whether an address is of a network where we boot machines.
func (s *Server) isDeclared(addr netip.Addr) bool {
	return slices.ContainsFunc(s.o.Engine.Site().Subnets, func(n fleet.Subnet) bool { return n.CIDR.Contains(addr.WithZone("")) })
}

// caDigest is the fingerprint that agents pin: of the certificate itself.
func caDigest(caPEM []byte) (string, error) {
	block, _ := pem.Decode(caPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", errors.New("the authority's CA certificate is not PEM")
	}
	sum := sha256.Sum256(block.Bytes)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func checkLoopback(listeners []net.Listener) error {
	for _, l := range listeners {
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok || !addr.IP.IsLoopback() {
			return fmt.Errorf("listen on %s: without TLS the console is served on loopback addresses only", l.Addr())
		}
	}
	return nil
}

// ListenLocal listens on the administrator's socket. A socket that nobody
// serves any more is replaced; one that is served is left alone.
func ListenLocal(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	dialer := net.Dialer{Timeout: time.Second}
	if conn, err := dialer.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %s: another server answers there", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		_ = os.Remove(path)
	}
	listener, err := net.Listen("unix", path) //nolint:noctx // a listening socket has no context
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("guard socket: %w", err), listener.Close())
	}
	return listener, nil
}
