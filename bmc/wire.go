package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Dial opens a socket to a BMC.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// greeting is Get Channel Authentication Capabilities in an IPMI 1.5 message
// without a session, the one message that every BMC answers to everybody. All
// clients begin with it.
var greeting = [...]byte{
	0x06, 0x00, 0xff, 0x07, // RMCP, class IPMI
	0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0x09, // no authentication, no session; 9 bytes follow
	0x20, 0x18, 0xc8, 0x81, 0x00, 0x38, 0x8e, 0x04, 0xb5, // this channel, as administrator, IPMI 2.0 too
}

// patience is how long each greeting is waited for. Their sum is when a BMC
// counts as dead.
var patience = [...]time.Duration{500 * time.Millisecond, time.Second, time.Second, 2 * time.Second}

// greet finds out whether a BMC is there at all, before any login is counted.
func greet(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 512)
	for _, wait := range patience {
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := conn.Write(greeting[:]); err != nil {
			return err
		}
		n, err := conn.Read(buf)
		if err == nil && isIPMI(buf[:n]) {
			return conn.SetReadDeadline(time.Time{})
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return ErrNoAnswer
}

// isIPMI tells a BMC's answer from anything else that may come.
func isIPMI(b []byte) bool {
	const shortest = 4 + 10 + 7 // RMCP, session, message with a completion code
	return len(b) >= shortest && b[0] == 0x06 && b[3] == 0x07
}

// An ear is a connection that remembers the last datagram that came in, and
// passes over those that are not the BMC's, and those that go-ipmi would panic
// at.
type ear struct {
	net.Conn
	client *client.Client // nil: nobody reads what comes in yet
	filter filter
	mu     sync.Mutex
	last   []byte
}

func (e *ear) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	for err == nil && !e.readable(b[:n]) {
		n, err = e.Conn.Read(b)
	}
	if n > 0 {
		e.mu.Lock()
		e.last = append(e.last[:0], b[:n]...)
		e.mu.Unlock()
	}
	return n, err
}

// Write sends a datagram.
func (e *ear) Write(b []byte) (int, error) {
	e.filter.sent(b)
	return e.Conn.Write(b)
}

// readable tries whether a datagram is the BMC's, and go-ipmi can read it: what
// does not decrypt makes the library panic, in a goroutine of its own.
func (e *ear) readable(b []byte) (yes bool) {
	if e.client == nil {
		return true
	}
	if !e.filter.passes(b) {
		return false
	}
	defer func() { yes = recover() == nil }()
	_ = e.client.ParseRmcpResponse(context.Background(), b, types.Command{}, nothing{}) // whoever waits for it will see what is wrong
	return true
}

// nothing is an answer whose content does not matter.
type nothing struct{}

// Unpack reads nothing.
func (nothing) Unpack([]byte) error { return nil }

// Format says nothing.
func (nothing) Format() string { return "" }

// Where the status of an RMCP+ handshake message stands: RMCP header (4),
// session header (12), tag (1).
const statusAt = 4 + 12 + 1

// status finds the BMC's own word in an answer that go-ipmi finds too short.
// A BMC that refuses may leave out all but the status, and ipmi_sim does.
func (e *ear) status(err error) error {
	if !errors.Is(err, types.ErrUnpackedDataTooShort) {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.last) <= statusAt || e.last[statusAt] == 0 {
		return err
	}
	return types.NewRmcpStatusError(types.RmcpStatusCode(e.last[statusAt]))
}

// A socket hands go-ipmi the connection that we have opened already.
type socket struct{ conn net.Conn }

// Dial is what go-ipmi calls.
func (s socket) Dial(string, string) (net.Conn, error) { return s.conn, nil }
