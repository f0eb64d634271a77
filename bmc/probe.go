package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
		found, err := c.probeRedfish(ctx, t)
		if err == nil {
			return found, nil
		}
		if !elsewhere(err) {
			found.Driver = fleet.DriverRedfish
			return found, err // who said no
		}
		found, second := c.probeIPMI(anew(ctx), t)
		if errors.Is(second, ErrNoAnswer) || errors.Is(second, ErrClosed) {
			return found, fmt.Errorf("%w; by Redfish: %w", second, err)
		}
		return found, second
	case t.Driver == fleet.DriverRedfish || t.Driver == fleet.DriverSupermicro:
		found, err := c.probeRedfish(ctx, t)
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

// elsewhere reports whether a BMC that failed so by Redfish may do by IPMI. One
// that knows us not, or is not the one it was, is left alone.
func elsewhere(err error) bool {
	for _, no := range []error{ErrLogin, ErrDenied, ErrMustChange, ErrPin, ErrSeveral, ErrBusy, ErrNoRoute, context.Canceled} {
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
func (c *Controller) probeRedfish(ctx context.Context, t Target) (Found, error) {
	return guard(ctx, c, t, func(ctx context.Context) (none Found, err error) {
		r, err := c.newRedfish(t)
		if err != nil {
			return none, err
		}
		defer r.hangUp(ctx)
		found, err := r.probe(ctx)
		if errors.Is(err, ErrMustChange) {
			return Found{Driver: fleet.DriverRedfish, BasicAuth: r.target.BasicAuth, Pin: r.tls.seen}, reason(ctx, err)
		}
		if err != nil {
			return none, reason(ctx, err)
		}
		return found, nil
	})
}

func (r *redfish) probe(ctx context.Context) (Found, error) {
	r.target.BasicAuth = false
	var root struct {
		Version string `json:"RedfishVersion"`
		Systems link   `json:"Systems"`
	}
	if err := r.get(ctx, rootPath, &root); err != nil {
		return Found{}, err
	}
	if root.Version == "" {
		return Found{}, fmt.Errorf("%w: no Redfish service is there", ErrUnsupported)
	}
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
