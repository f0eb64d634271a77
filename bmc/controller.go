package bmc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/bmc-toolbox/bmclib/v2"
	"github.com/go-logr/logr"
	"github.com/jacobweinstock/registrar"

	"github.com/rackstage/provision/fleet"
)

// Options say how a [Controller] treats BMCs. The zero value is usable.
type Options struct {
	Limit    int           // conversations at the same time, with all BMCs together; 256
	Interval time.Duration // pause between two conversations with one BMC; 500 ms
	Timeout  time.Duration // for one conversation; 10 s
	Settle   time.Duration // how long a change may take to become true; 60 s
	Pulse    time.Duration // between two questions to a BMC whose console is open; 20 s
	Dial     Dial          // how to reach BMCs; the host's own network when nil
	Log      *slog.Logger
}

// A Controller talks to BMCs. It is safe for concurrent use.
type Controller struct {
	o     Options
	slots chan struct{}

	mu    sync.Mutex
	gates map[string]*gate // by address
}

// New makes a controller.
func New(o Options) *Controller {
	if o.Limit <= 0 {
		o.Limit = 256
	}
	if o.Interval <= 0 {
		o.Interval = 500 * time.Millisecond
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Settle <= 0 {
		o.Settle = time.Minute
	}
	if o.Pulse <= 0 {
		o.Pulse = 20 * time.Second
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Controller{o: o, slots: make(chan struct{}, o.Limit), gates: map[string]*gate{}}
}

// gate returns the gate of a BMC. There are as many as BMCs were ever asked.
func (c *Controller) gate(t Target) (*gate, error) {
	host, port, err := t.hostPort()
	if err != nil {
		return nil, err
	}
	key := net.JoinHostPort(host, strconv.Itoa(port))
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.gates[key]
	if !ok {
		g = newGate()
		c.gates[key] = g
	}
	return g, nil
}

// A session is one conversation with a BMC that knows us.
type session struct {
	facade *bmclib.Client
	drv    *driver
}

// talk has one conversation. It returns in time even when a library below does
// not; the BMC's gate and our slot stay taken until that one has given up too.
func talk[T any](ctx context.Context, c *Controller, t Target, g *gate, f func(context.Context, *session) (T, error)) (T, error) {
	var none T
	if err := c.admit(ctx, g); err != nil {
		return none, err
	}
	timeout := c.o.Timeout
	if t.Timeout > 0 {
		timeout = t.Timeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w within %s", ErrNoAnswer, timeout))
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer cancel()
		defer c.leave(g)
		value, err := converse(ctx, c, t, g, f)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select { // it ends the context too, after it has told its result
	case r := <-done:
		return r.value, r.err
	default:
		return none, context.Cause(ctx)
	}
}

// admit waits for the BMC to be free and rested, and for a slot.
func (c *Controller) admit(ctx context.Context, g *gate) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Settle, ErrBusy)
	defer cancel()
	if err := take(ctx, g.talks); err != nil {
		return err
	}
	err := g.rest(ctx, c.o.Interval)
	if err == nil {
		err = take(ctx, c.slots)
	}
	if err != nil {
		<-g.talks
	}
	return err
}

func (c *Controller) leave(g *gate) {
	<-c.slots
	g.leave()
}

// converse signs in, lets f speak, and signs off.
func converse[T any](ctx context.Context, c *Controller, t Target, g *gate, f func(context.Context, *session) (T, error)) (none T, err error) {
	d := &driver{target: t, suites: g.suites(t.CipherSuite), dial: c.o.Dial}
	registry := registrar.NewRegistry()
	registry.Register(driverName, driverProtocol, driverFeatures, nil, d)
	// bmclib needs the account for drivers that it makes by itself: none here.
	facade := bmclib.NewClient(t.Address, "", "", bmclib.WithRegistry(registry), bmclib.WithLogger(logr.Discard()),
		bmclib.WithPerProviderTimeout(max(t.Timeout, c.o.Timeout)))
	if err := facade.Open(ctx); err != nil {
		g.learn(0)
		return none, d.reason(ctx, err)
	}
	defer func() { _ = facade.Close(ctx) }() // a session that is lost ends by itself
	g.learn(d.suite)
	value, err := f(ctx, &session{facade: facade, drv: d})
	if err != nil {
		return none, d.reason(ctx, err)
	}
	return value, nil
}

// reason returns the driver's own error in place of bmclib's text, and the
// reason for the deadline in place of the deadline.
func (d *driver) reason(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case d.err != nil:
		return d.err
	}
	return err
}

func (s *session) power(ctx context.Context) (fleet.PowerState, error) {
	state, err := s.facade.GetPowerState(ctx)
	if err != nil {
		return fleet.PowerIsUnknown, err
	}
	return fleet.PowerState(state), nil
}
