package bmc

import (
	"context"

	"github.com/bmc-toolbox/bmclib/v2"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/go-logr/logr"
	"github.com/jacobweinstock/registrar"

	"github.com/rackstage/provision/fleet"
)

// An ipmiLine is IPMI through bmclib with our driver in it.
type ipmiLine struct {
	bootFlagger
	facade *bmclib.Client
	drv    *driver
}

// openLibrary opens bmclib with nothing but our driver: it would ask all that
// it has, and wait for the slowest.
func (c *Controller) openLibrary(ctx context.Context, t Target) (*ipmiLine, error) {
	d := &driver{c: c, target: t}
	registry := registrar.NewRegistry()
	registry.Register(driverName, driverProtocol, driverFeatures, nil, d)
	// bmclib needs the account for drivers that it makes by itself: none here.
	facade := bmclib.NewClient(t.Address, "", "", bmclib.WithRegistry(registry), bmclib.WithLogger(logr.Discard()),
		bmclib.WithPerProviderTimeout(c.timeout(t)))
	if err := facade.Open(ctx); err != nil {
		return nil, d.reason(err)
	}
	l := &ipmiLine{facade: facade, drv: d}
	l.bootFlagger = bootFlagger{w: l, quirks: t.Quirks}
	return l, nil
}

// reason returns the driver's own error in place of bmclib's text.
func (d *driver) reason(err error) error {
	if err != nil && d.err != nil {
		return d.err
	}
	return err
}

func (l *ipmiLine) power(ctx context.Context) (fleet.PowerState, error) {
	state, err := l.facade.GetPowerState(ctx)
	if err != nil {
		return fleet.PowerIsUnknown, l.drv.reason(err)
	}
	return fleet.PowerState(state), nil
}

func (l *ipmiLine) order(ctx context.Context, a action) error {
	_, err := l.facade.SetPowerState(ctx, string(a))
	return l.drv.reason(err)
}

func (l *ipmiLine) writeBoot(ctx context.Context, b Boot) error {
	_, err := l.facade.SetBootDevice(ctx, string(b.Device), !b.Once, b.Mode != BIOS)
	return l.drv.reason(err)
}

func (l *ipmiLine) bootFlags(ctx context.Context) (types.BootOptionParam_BootFlags, error) {
	return l.drv.bootFlags(ctx)
}

func (l *ipmiLine) hangUp(ctx context.Context) { _ = l.facade.Close(ctx) }
