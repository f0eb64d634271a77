package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"

	"github.com/rackstage/provision/fleet"
)

// Found is what a first conversation with a BMC shows. What of it is to be
// known later is stored with the BMC and given in [Target].
type Found struct {
	Driver      fleet.BMCDriver
	CipherSuite int
	System      string // path of the Redfish system
	BasicAuth   bool
	Pin         string
	Power       fleet.PowerState
}

// Use returns the target as it is to be used from now on.
func (f Found) Use(t Target) Target {
	t.Driver, t.System, t.BasicAuth = f.Driver, f.System, f.BasicAuth
	if f.CipherSuite > 0 {
		t.CipherSuite = f.CipherSuite
	}
	if f.Pin != "" {
		t.Pin = f.Pin
	}
	return t
}

// Probe signs in to a BMC for the first time and finds out what is to be known
// about it: Redfish or IPMI, which is tried in this order when the target names
// no driver. A wrong password is tried once only, so that nobody is locked out.
// With [ErrMustChange] it returns what [Controller.ChangePassword] has to know.
func (c *Controller) Probe(ctx context.Context, t Target) (Found, error) {
	const op = "probe BMC of"
	if err := t.valid(); err != nil {
		return Found{}, invalid(op, t, err)
	}
	b := &c.gate(t).breaker
	if err := b.allow(t, time.Now()); err != nil {
		found := Found{Driver: t.Driver}
		if errors.Is(err, ErrLogin) {
			found.Driver = cmp.Or(t.Driver, fleet.DriverRedfish) // it is what is asked first
		}
		return found, trouble(op, t, err)
	}
	defer b.untried(t)
	ctx, _ = withContact(ctx)
	found, err := c.probe(ctx, t)
	b.learn(err, time.Now())
	return found, trouble(op, t, err)
}

// ProbeAnyway is [Controller.Probe] also of a BMC that is left alone because it
// did not answer, or has refused the account: a person asks for it, or knows that
// the account was changed.
func (c *Controller) ProbeAnyway(ctx context.Context, t Target) (Found, error) {
	t.insist = true
	return c.Probe(ctx, t)
}

func (c *Controller) probe(ctx context.Context, t Target) (Found, error) {
	switch {
	case t.Driver == "":
		return c.probeEither(ctx, t)
	case t.Driver == fleet.DriverRedfish || t.Driver == fleet.DriverSupermicro:
		found, err := c.probeRedfish(ctx, t, (*redfish).root)
		found.Driver = t.Driver
		return found, err
	case t.Driver == fleet.DriverIPMI:
		return c.probeIPMI(ctx, t)
	case vendors[t.Driver] != "":
		return c.probeVendor(ctx, t)
	}
	return talk(ctx, c, t, func(ctx context.Context, l line) (Found, error) {
		state, err := l.power(ctx)
		found := Found{Driver: t.Driver, CipherSuite: t.CipherSuite, Power: state}
		if tool, ok := l.(*ipmitoolLine); ok && err == nil {
			found.CipherSuite = int(tool.suites[0])
		}
		return found, err
	})
}

// How long a service may keep us waiting before we look whether there is IPMI, and
// before we turn to that.
const (
	besideAfter = 2 * time.Second
	turnAfter   = 4 * time.Second
	leastTime   = 500 * time.Millisecond // that is worth a try
)

// probeEither tries Redfish, then IPMI, both within the time of one conversation: a
// service that is slow is waited for where there is nothing else.
func (c *Controller) probeEither(ctx context.Context, t Target) (Found, error) {
	var beside rival
	found, err := c.probeRedfish(ctx, t, func(r *redfish, ctx context.Context) error { return beside.root(ctx, c, r) })
	if err == nil {
		return found, nil
	}
	if !elsewhere(err) {
		found.Driver = fleet.DriverRedfish
		return found, err // who said no
	}
	began, none := beside.seen()
	if none != nil {
		return found, fmt.Errorf("%w; by IPMI: %w", err, none)
	}
	if !began.IsZero() {
		if t.Timeout = c.timeout(t) - time.Since(began); t.Timeout < leastTime {
			return found, err
		}
	}
	found, second := c.probeIPMI(anew(ctx), t)
	if errors.Is(second, ErrNoAnswer) || errors.Is(second, ErrClosed) {
		return found, fmt.Errorf("%w; by Redfish: %w", second, err)
	}
	return found, second
}

// A rival is the IPMI of a BMC whose Redfish keeps us waiting.
type rival struct {
	mu    sync.Mutex // it is asked about by who has given up waiting, too
	began time.Time
	none  error // why there is none
}

func (v *rival) seen() (began time.Time, none error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.began, v.none
}

func (v *rival) see(began time.Time, none error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.began, v.none = began, none
}

// root asks for the service's root, and gives up when that keeps us waiting and
// there is IPMI.
func (v *rival) root(ctx context.Context, c *Controller, r *redfish) error {
	began := time.Now()
	v.see(began, nil)
	asking, turn := context.WithCancelCause(ctx)
	var greeting sync.WaitGroup
	greeting.Go(func() {
		if pause(asking, besideAfter) != nil {
			return
		}
		if _, err := c.greetIPMI(asking, r.target); err != nil {
			if asking.Err() == nil {
				v.see(began, err)
			}
			return
		}
		if pause(asking, turnAfter-time.Since(began)) == nil {
			turn(fmt.Errorf("%w within %s", ErrNoAnswer, turnAfter))
		}
	})
	err := r.root(asking)
	if cause := context.Cause(asking); err != nil && cause != nil {
		err = cause
	}
	turn(nil)
	greeting.Wait()
	return err
}

// elsewhere reports whether a BMC that failed so by Redfish may do by IPMI. One
// that knows us not, or is not the one it was, is left alone.
func elsewhere(err error) bool {
	for _, no := range []error{ErrLogin, ErrDenied, ErrMustChange, ErrPin, ErrSeveral, ErrBusy, ErrSlow, ErrNoRoute, context.Canceled} {
		if errors.Is(err, no) {
			return false
		}
	}
	return true
}

func (c *Controller) probeIPMI(ctx context.Context, t Target) (Found, error) {
	found := Found{Driver: fleet.DriverIPMI}
	t.Driver = fleet.DriverIPMI
	return guard(ctx, c, t, func(ctx context.Context) (Found, error) {
		s, err := c.signIn(ctx, t, operator)
		if err != nil {
			return Found{}, reason(ctx, err)
		}
		defer s.hangUp(ctx)
		found.CipherSuite = int(s.suite)
		found.Power, err = chassisPower(ctx, s.client)
		if err != nil {
			return Found{}, reason(ctx, err)
		}
		return found, nil
	})
}

func chassisPower(ctx context.Context, ipmi *client.Client) (fleet.PowerState, error) {
	s, err := ipmi.GetChassisStatus(ctx)
	switch {
	case err != nil:
		return fleet.PowerIsUnknown, fmt.Errorf("read power: %w", err)
	case s.PowerIsOn:
		return fleet.PowerIsOn, nil
	}
	return fleet.PowerIsOff, nil
}

// probeRedfish looks at the root, which needs no login, and signs in. A session
// is tried first: it tells a wrong password from a service without Basic
// authentication. With a password that is right, Basic is what is used from
// then on where it works: it leaves no sessions behind.
func (c *Controller) probeRedfish(ctx context.Context, t Target, root func(*redfish, context.Context) error) (Found, error) {
	t.Driver = cmp.Or(t.Driver, fleet.DriverRedfish)
	return guard(ctx, c, t, func(ctx context.Context) (none Found, err error) {
		r, err := c.newRedfish(t)
		if err != nil {
			return none, err
		}
		defer r.hangUp(ctx)
		r.target.BasicAuth = false
		if err := root(r, ctx); err != nil {
			return none, reason(ctx, err)
		}
		found, err := r.probe(ctx)
		if errors.Is(err, ErrMustChange) {
			return Found{Driver: fleet.DriverRedfish, BasicAuth: r.target.BasicAuth, Pin: r.tls.seen}, reason(ctx, err)
		}
		if err != nil {
			return none, early(ctx, reason(ctx, err))
		}
		return found, nil
	})
}

// root sees that there is a service.
func (r *redfish) root(ctx context.Context) error {
	var root struct {
		Version string `json:"RedfishVersion"`
		Systems link   `json:"Systems"`
	}
	if err := r.get(ctx, rootPath, &root); err != nil {
		return err
	}
	if root.Version == "" {
		return fmt.Errorf("%w: no Redfish service is there", ErrUnsupported)
	}
	return nil
}

func (r *redfish) probe(ctx context.Context) (Found, error) {
	err := r.login(ctx)
	if errors.Is(err, ErrUnsupported) { // it has no sessions
		r.target.BasicAuth, err = true, nil
	}
	if err != nil {
		return Found{}, err
	}
	s, err := r.findSystem(ctx)
	if err != nil {
		return Found{}, err
	}
	state, err := s.power(ctx)
	if err != nil {
		return Found{}, err
	}
	return Found{
		Driver: fleet.DriverRedfish, System: s.path, BasicAuth: r.target.BasicAuth || r.takesBasic(ctx, s.path), Pin: r.tls.seen, Power: state,
	}, nil
}

// takesBasic reports whether the service takes our account, known to be right,
// without a session.
func (r *redfish) takesBasic(ctx context.Context, path string) bool {
	token := r.token
	defer func() { r.token, r.target.BasicAuth = token, false }()
	r.token, r.target.BasicAuth = "", true
	_, err := r.send(ctx, "GET", path, nil)
	return err == nil
}
