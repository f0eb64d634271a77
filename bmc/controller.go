package bmc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/rackstage/provision/fleet"
)

// Options say how a [Controller] treats BMCs. The zero value is usable.
type Options struct {
	Limit     int           // conversations at the same time, with all BMCs together; 256
	Interval  time.Duration // pause between two conversations with one BMC; 500 ms
	Timeout   time.Duration // for one conversation; 9 s, so that a BMC that does not answer is named within 10
	Settle    time.Duration // how long a change may take to become true; 60 s
	Pulse     time.Duration // between two questions to a BMC whose console is open; 20 s
	Discharge time.Duration // how long a machine stays without current when its outlets are switched off and on; 5 s
	IPMITool  string        // path of the program; the one on PATH
	Dial      Dial          // how to reach BMCs; the host's own network when nil
	Log       *slog.Logger

	TaskEvery   time.Duration // between two questions after an update; 5 s
	CheckSettle time.Duration // how long a change may take while that is measured; 4 min
}

// A Controller talks to BMCs. It is safe for concurrent use.
type Controller struct {
	o     Options
	slots chan struct{}
	tools chan struct{} // processes of ipmitool

	mu    sync.Mutex
	gates map[string]*gate // by [Target.key]
	swept time.Time        // when those were dropped that nobody uses
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
		o.Timeout = 9 * time.Second
	}
	if o.Settle <= 0 {
		o.Settle = time.Minute
	}
	if o.Discharge <= 0 {
		o.Discharge = 5 * time.Second
	}
	if o.Pulse <= 0 {
		o.Pulse = 20 * time.Second
	}
	if o.TaskEvery <= 0 {
		o.TaskEvery = 5 * time.Second
	}
	if o.CheckSettle <= 0 {
		o.CheckSettle = 4 * time.Minute
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Controller{o: o, slots: make(chan struct{}, o.Limit), tools: make(chan struct{}, ipmitools), gates: map[string]*gate{}}
}

// gate returns the gate of a BMC.
func (c *Controller) gate(t Target) *gate { return c.gateOf(t.key()) }

func (c *Controller) gateOf(key string) *gate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.swept) > idleAfter {
		c.swept = now
		maps.DeleteFunc(c.gates, func(_ string, g *gate) bool { return now.Sub(g.used) > idleAfter && g.idle() })
	}
	g, ok := c.gates[key]
	if !ok {
		g = newGate()
		c.gates[key] = g
	}
	g.used = now
	return g
}

// idleAfter is when the gate of a BMC that nobody asks is dropped: addresses come and
// go. Nobody waits at one for so long.
const idleAfter = time.Hour

// guard lets f have one conversation with a BMC, unless it is one that is left
// alone. It returns in time even when a library below f does not; the BMC's gate
// and our slot stay taken until that one has given up too.
func guard[T any](ctx context.Context, c *Controller, t Target, f func(context.Context) (T, error)) (value T, err error) {
	if contactOf(ctx) == nil { // else it is part of an operation that was let through
		b := &c.gate(t).breaker
		if err := b.allow(t, time.Now()); err != nil {
			return value, err
		}
		defer func() { b.untried(t); b.learn(err, time.Now()) }()
	}
	return converse(ctx, c, t, f)
}

func converse[T any](ctx context.Context, c *Controller, t Target, f func(context.Context) (T, error)) (T, error) {
	var none T
	g := c.gate(t)
	if err := c.admit(ctx, t, g); err != nil {
		return none, err
	}
	ctx, _ = withContact(ctx)
	ctx, taken := withLogin(ctx)
	ctx, stop := context.WithCancelCause(ctx)
	if t.leisure > 0 {
		g.politely(func() { stop(ErrGaveWay) })
	}
	timeout, end := c.patience(t)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, end)
	done := make(chan result[T], 1)
	ctx = context.WithValue(ctx, earlyKey{}, func(err error) {
		select {
		case done <- result[T]{none, t.legible(err)}:
		default:
		}
	})
	go func() {
		defer stop(nil)
		defer cancel()
		defer c.leave(g)
		value, err := f(ctx)
		err = t.legible(err)
		g.breaker.signed(t, err, taken.Load(), time.Now())
		select {
		case done <- result[T]{value, err}:
		default: // told already
		}
	}()
	return await(ctx, done)
}

// patience is how long a conversation may take, and what is said of one that
// took longer.
func (c *Controller) patience(t Target) (time.Duration, error) {
	switch timeout := c.timeout(t); {
	case t.leisure > 0:
		return t.leisure, fmt.Errorf("%w within %s", ErrNoAnswer, t.leisure)
	case t.Driver.Web(): // each request has an end of its own: who comes so far has answered
		timeout *= 3
		return timeout, fmt.Errorf("%w: it was not done within %s", ErrSlow, timeout)
	default:
		return timeout, fmt.Errorf("%w within %s", ErrNoAnswer, timeout)
	}
}

// A result is what a conversation came to.
type result[T any] struct {
	value T
	err   error
}

// await returns what a conversation tells, or that it is late.
func await[T any](ctx context.Context, done <-chan result[T]) (T, error) {
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select { // it ends the context too, after it has told its result
	case r := <-done:
		return r.value, r.err
	default:
		var none T
		return none, late(ctx)
	}
}

type earlyKey struct{}

// early tells an error to who waits for a conversation before it signs off, which
// takes its time where a BMC has fallen silent.
func early(ctx context.Context, err error) error {
	if tell, ok := ctx.Value(earlyKey{}).(func(error)); ok && (errors.Is(err, ErrHangs) || errors.Is(err, ErrSlow)) {
		tell(err)
	}
	return err
}

func (c *Controller) timeout(t Target) time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return c.o.Timeout
}

// admit waits for the BMC to be free and rested, and for a slot.
func (c *Controller) admit(ctx context.Context, t Target, g *gate) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Settle, ErrBusy)
	defer cancel()
	if t.leisure == 0 {
		defer g.hurry()()
	}
	if err := take(ctx, g.talks); err != nil {
		return err
	}
	err := g.rest(ctx, max(c.o.Interval, t.Quirks.Interval))
	if err == nil {
		err = g.breaker.still(t, time.Now())
	}
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

// A line is an open conversation with what switches a machine.
type line interface {
	power(ctx context.Context) (fleet.PowerState, error)
	order(ctx context.Context, a action) error
	setBoot(ctx context.Context, b Boot) error
	boots(ctx context.Context, b Boot) (bool, error) // whether b is what is set
	hangUp(ctx context.Context)
}

// An action is an order about the power, without any reading back.
type action string

const (
	turnOn   action = "on"
	turnOff  action = "off"
	softOff  action = "soft"
	reset    action = "reset"
	diagnose action = "nmi"
)

// repeatable reports whether giving the order twice is the same as giving it
// once. Those that are not are sent once, whatever becomes of the answer.
func (a action) repeatable() bool { return a == turnOn || a == turnOff }

// deeds are what orders that are given once do, for people.
var deeds = map[action]string{
	softOff: "has asked the system to shut down", reset: "has reset the machine", diagnose: "has sent the interrupt",
}

// errUnknown says of an order that is given once that the BMC may have carried it out.
var errUnknown = errors.New("it is not known whether it")

// unanswered says of an order that is given once that nobody knows what became
// of it, when the BMC has not said, or not in time.
func (a action) unanswered(err error) error {
	unsaid := errors.Is(err, ErrHangs) || errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrSlow)
	if !unsaid || errors.Is(err, errUnknown) {
		return err
	}
	return fmt.Errorf("%w; %w %s", err, errUnknown, deeds[a])
}

// talk has one conversation by the target's driver.
func talk[T any](ctx context.Context, c *Controller, t Target, f func(context.Context, line) (T, error)) (T, error) {
	return guard(ctx, c, t, func(ctx context.Context) (none T, err error) {
		l, err := c.open(ctx, t)
		if err != nil {
			return none, reason(ctx, err)
		}
		defer l.hangUp(ctx)
		value, err := f(ctx, l)
		if err != nil {
			return none, early(ctx, reason(ctx, err))
		}
		return value, nil
	})
}

// open signs in by the target's driver.
func (c *Controller) open(ctx context.Context, t Target) (line, error) {
	switch t.Driver {
	case fleet.DriverIPMI, "":
		return c.openLibrary(ctx, t)
	case fleet.DriverRedfish, fleet.DriverSupermicro:
		return c.openSystem(ctx, t)
	case fleet.DriverDell, fleet.DriverOpenBMC, fleet.DriverASRockRack, fleet.DriverAMT:
		return c.openVendor(ctx, t)
	case fleet.DriverPDU:
		return c.openPDU(ctx, t)
	case fleet.DriverWOL:
		return c.openWake(t)
	case fleet.DriverIPMITool:
		return c.openIPMITool(ctx, t)
	default:
		return nil, fmt.Errorf("%w: driver %q", ErrUnsupported, t.Driver)
	}
}
