package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Command prepares a program that runs inside the rack, as the server does.
// Its pid is the program's own.
func (r *Rack) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return r.namespace().command(ctx, argv...)
}

// Start starts a command of [Rack.Command] and writes it down, so that Down
// ends it when this program dies before it could. The caller waits for it.
func (r *Rack) Start(c *exec.Cmd) error {
	if err := os.MkdirAll(filepath.Join(r.dir, programsDir), 0o700); err != nil {
		return fmt.Errorf("make directory of programs: %w", err)
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start a program in the rack: %w", err)
	}
	p, err := identify(c.Process.Pid)
	if errors.Is(err, errGone) {
		return nil // it has ended; Wait tells why
	}
	if err == nil {
		err = writeJSON(filepath.Join(r.dir, programsDir, strconv.Itoa(p.PID)+".json"), p)
	}
	if err != nil {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	return err
}

// Dial connects from outside to an address inside the rack. The address must
// be a literal one: there are no names inside.
func (r *Rack) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return r.namespace().dial(ctx, network, address)
}

func (ns namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	// A name would be looked up, and several addresses be tried, on threads
	// that are not inside.
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial into the rack: %w", err)
	}
	var conn net.Conn
	err := ns.do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Forward listens on an address of the host, such as 127.0.0.1:8080, and
// carries every TCP connection to an address inside the rack. It returns when
// ctx is done and all connections are closed.
func (r *Rack) Forward(ctx context.Context, listen, inside string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("forward to %s: %w", inside, err)
	}
	return r.ForwardListener(ctx, l, inside)
}

// ForwardListener is [Rack.Forward] for a listener that is open already. It
// closes it.
func (r *Rack) ForwardListener(ctx context.Context, l net.Listener, inside string) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, syscall.EMFILE) {
			pause(ctx, time.Second)
			continue
		}
		if err != nil {
			return fmt.Errorf("forward to %s: %w", inside, err)
		}
		wg.Go(func() { r.carry(ctx, conn, inside) })
	}
}

func (r *Rack) carry(ctx context.Context, outer net.Conn, inside string) {
	defer outer.Close()
	inner, err := r.Dial(ctx, "tcp", inside)
	if err != nil {
		return // the client sees the connection close, as from a server that is down
	}
	defer inner.Close()
	stop := context.AfterFunc(ctx, func() { outer.Close(); inner.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pour(inner, outer) })
	pour(outer, inner)
	wg.Wait()
}

// pour copies one direction to its end and passes the end on.
func pour(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
