package http

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/labstack/echo/v4"
)

// A tunnel is a machine's TCP connection to our TLS listener that came to a
// relay. The relay carries its bytes and cannot read them: the machine's own
// TLS goes on inside. What the relay adds is whose connection it is, which
// tickets and nodes' addresses depend on, and it is believed as it is a relay.
func (s *Server) tunnel(c echo.Context) error {
	req := c.Request()
	machine, local, err := s.spokenFor(req)
	if err != nil {
		return err
	}
	if req.ProtoMajor < 2 {
		return newProblem(http.StatusHTTPVersionNotSupported, "E-RELAY-TUNNEL", "a tunnel takes HTTP/2", "")
	}
	outer, inner := net.Pipe()
	defer outer.Close()
	if !s.tunnels.offer(tunnelled{
		Conn: inner, remote: net.TCPAddrFromAddrPort(machine), local: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, s.o.AgentPort)),
	}) {
		_ = inner.Close()
		return newProblem(http.StatusServiceUnavailable, "E-RELAY-TUNNEL", "the server takes no more connections now", "try again")
	}
	c.Response().WriteHeader(http.StatusOK)
	c.Response().Flush()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(outer, req.Body)
		_ = outer.Close()
	})
	pourOut(c.Response(), outer)
	_ = req.Body.Close() // so that the other direction ends too
	up.Wait()
	return nil
}

// pourOut sends what comes as soon as it comes.
func pourOut(w *echo.Response, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			w.Flush()
		}
		if err != nil {
			return
		}
	}
}

// tunnelled is a connection with the addresses that its ends really have.
type tunnelled struct {
	net.Conn
	remote, local net.Addr
}

// RemoteAddr returns the machine's address.
func (t tunnelled) RemoteAddr() net.Addr { return t.remote }

// LocalAddr returns the address of the relay that the machine connected to.
func (t tunnelled) LocalAddr() net.Addr { return t.local }

// tunnels is a listener that gets its connections from relays.
type tunnels struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// maxWaiting is how many connections wait to be accepted.
const maxWaiting = 256

func newTunnels() *tunnels {
	return &tunnels{conns: make(chan net.Conn, maxWaiting), closed: make(chan struct{})}
}

func (t *tunnels) offer(c net.Conn) bool {
	select {
	case <-t.closed:
		return false
	default:
	}
	select {
	case t.conns <- c:
		return true
	default:
		return false
	}
}

// Accept returns the next connection.
func (t *tunnels) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. Connections that wait are closed.
func (t *tunnels) Close() error {
	t.once.Do(func() { close(t.closed) })
	for {
		select {
		case c := <-t.conns:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// Addr returns where the tunnels come in.
func (t *tunnels) Addr() net.Addr { return &net.UnixAddr{Name: "relays", Net: "tunnel"} }
