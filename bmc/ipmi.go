package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	resendLogin = 3 * time.Second // the second of two greetings makes the first void
	resendOrder = 3 * time.Second
	resends     = 9 // the conversation's deadline comes first
	closeWithin = 2 * time.Second

	operator      = types.PrivilegeLevelOperator // enough for power and boot device
	administrator = types.PrivilegeLevelAdministrator
)

// An ipmiSession is one that a BMC has opened for us.
type ipmiSession struct {
	client *client.Client
	conn   *ear
	suite  types.CipherSuiteID // the one that worked
}

// hangUp ends the session. A BMC has few, and keeps a lost one for a minute.
func (s *ipmiSession) hangUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = s.client.Close(ctx) // a session that is lost ends by itself
	_ = s.conn.Close()      // the library leaves it open when the BMC says nothing
}

// once has the next command sent once, and waited for as long as the
// conversation lasts: there are BMCs that carry out an order as often as they
// get it. What is returned is for after the answer; without one, nothing more is
// said in this conversation.
func (s *ipmiSession) once(ctx context.Context) (answered func()) {
	wait := resendOrder * resends
	if at, limited := ctx.Deadline(); limited {
		wait = time.Until(at)
	}
	s.client.WithTimeout(wait).WithRetry(0)
	return func() { s.client.WithTimeout(resendOrder).WithRetry(resends) }
}

// talkIPMI has one conversation in IPMI, signed in at a level of privilege. It
// passes the BMC's gate, has our deadline, and ends the session.
func talkIPMI[T any](ctx context.Context, c *Controller, t Target, level types.PrivilegeLevel, f func(context.Context, *client.Client) (T, error)) (T, error) {
	return guard(ctx, c, t, func(ctx context.Context) (none T, err error) {
		s, err := c.signIn(ctx, t, level)
		if err != nil {
			return none, reason(ctx, err)
		}
		defer s.hangUp(ctx)
		value, err := f(ctx, s.client)
		if err != nil {
			return none, reason(ctx, err)
		}
		return value, nil
	})
}

// signIn opens a session with the first cipher suite that the BMC accepts.
// Who calls it is inside the BMC's gate, and hangs up.
func (c *Controller) signIn(ctx context.Context, t Target, level types.PrivilegeLevel) (*ipmiSession, error) {
	err := ErrCipher
	g := c.gate(t)
	for _, suite := range g.suites(t.suite()) {
		var s *ipmiSession
		s, err = c.login(ctx, t, suite, level)
		if err == nil {
			g.learn(suite)
			return s, nil
		}
		if err = classify(err); !errors.Is(err, ErrCipher) {
			break
		}
	}
	g.learn(0)
	return nil, err
}

// login goes through the handshake of IPMI 2.0 step by step. go-ipmi's own
// Connect does the same and folds the steps' errors into text, which leaves a
// wrong password, a wrong cipher suite and a full BMC looking alike.
func (c *Controller) login(ctx context.Context, t Target, suite types.CipherSuiteID, level types.PrivilegeLevel) (_ *ipmiSession, err error) {
	host, port, err := t.hostPort()
	if err != nil {
		return nil, err
	}
	raw, err := c.o.Dial(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	conn := &ear{Conn: raw}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := greet(ctx, conn); err != nil {
		return nil, fmt.Errorf("greet: %w", err)
	}
	reached(ctx)
	ipmi, err := client.NewClient(host, port, t.Username, string(t.Password))
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	conn.client = ipmi
	ipmi.WithUDPProxy(socket{conn}).WithTimeout(resendLogin).WithRetry(resends).
		WithCipherSuiteID(suite).WithMaxPrivilegeLevel(level)
	if err := conn.shakeHands(ctx, suite, string(t.Password)); err != nil {
		return nil, err
	}
	admitted(ctx)
	// Switching takes a second or two, and a BMC does what it is told again one
	// after the other.
	session := &ipmiSession{client: ipmi.WithTimeout(resendOrder), conn: conn, suite: suite}
	if _, err := ipmi.SetSessionPrivilegeLevel(ctx, level); err != nil {
		session.hangUp(ctx) // what went wrong before says more
		return nil, fmt.Errorf("become %s: %w", strings.ToLower(level.String()), privilege(err))
	}
	return session, nil
}

// shakeHands opens a session, in which only what the BMC has sealed is heard.
func (e *ear) shakeHands(ctx context.Context, suite types.CipherSuiteID, password string) error {
	e.filter.await(types.PayloadTypeRmcpOpenSessionResponse)
	opened, err := e.client.OpenSession(ctx)
	if err != nil {
		return fmt.Errorf("open session: %w", e.status(err))
	}
	if !agreed(opened, suite) {
		return fmt.Errorf("open session: %w: it takes other algorithms than those of suite %d", ErrCipher, suite)
	}
	e.filter.await(types.PayloadTypeRAKPMessage2)
	said, err := e.client.RAKPMessage1(ctx)
	if err != nil {
		return fmt.Errorf("authenticate: %w", e.status(err))
	}
	e.filter.await(types.PayloadTypeRAKPMessage4)
	if _, err := e.client.RAKPMessage3(ctx); err != nil {
		return fmt.Errorf("authenticate: %w", e.status(err))
	}
	s, err := newSeal(suite, opened.RemoteConsoleSessionID, e.filter.half(), said, password)
	if err != nil {
		return err
	}
	e.filter.close(s)
	return nil
}

// agreed reports whether a session is of the suite that we asked for. Who
// answers in the BMC's name could choose none.
func agreed(opened *rmcpplus.OpenSessionResponse, suite types.CipherSuiteID) bool {
	auth, integrity, secrecy, ok := types.GetCipherSuiteAlgorithms(suite)
	return ok && types.AuthAlg(opened.AuthAlg) == auth && types.IntegrityAlg(opened.IntegrityAlg) == integrity && types.CryptAlg(opened.CryptAlg) == secrecy
}

// privilege translates what only this one command says so: above the limit of
// the user or of the channel.
func privilege(err error) error {
	if _, ok := errors.AsType[*types.ResponseError](err); ok {
		return fmt.Errorf("%w (%v)", ErrDenied, err)
	}
	return err
}
