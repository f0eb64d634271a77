package bmc

import (
	"context"
	"fmt"

	bmclib "github.com/bmc-toolbox/bmclib/v2/bmc"
	"github.com/bmc-toolbox/bmclib/v2/providers"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/jacobweinstock/registrar"
)

// A driver speaks IPMI 2.0 to one BMC for one conversation, in the shape that
// bmclib wants its drivers to have. bmclib folds errors into lines of text, so
// the driver keeps its last one.
type driver struct {
	c      *Controller
	target Target

	*ipmiSession
	err error
}

const (
	driverName     = "goipmi"
	driverProtocol = "ipmi"
)

var driverFeatures = registrar.Features{
	providers.FeaturePowerState, providers.FeaturePowerSet, providers.FeatureBootDeviceSet,
}

// Name is the driver's name in bmclib.
func (d *driver) Name() string { return driverName }

// Open signs in.
func (d *driver) Open(ctx context.Context) error {
	var err error
	d.ipmiSession, err = d.c.signIn(ctx, d.target, operator)
	return d.keep(err)
}

// keep remembers an error by its name, for whoever has lost it in bmclib.
func (d *driver) keep(err error) error {
	d.err = classify(err)
	return d.err
}

// Close ends the session.
func (d *driver) Close(ctx context.Context) error {
	if d.ipmiSession != nil {
		d.hangUp(ctx)
		d.ipmiSession = nil
	}
	return nil
}

// PowerStateGet returns "on" or "off".
func (d *driver) PowerStateGet(ctx context.Context) (string, error) {
	s, err := d.client.GetChassisStatus(ctx)
	if err != nil {
		return "", d.keep(fmt.Errorf("read power: %w", err))
	}
	if s.PowerIsOn {
		return "on", nil
	}
	return "off", nil
}

// PowerSet gives an order as it is; reading back is not its business.
func (d *driver) PowerSet(ctx context.Context, state string) (bool, error) {
	controls := map[action]chassis.ChassisControl{
		turnOn: chassis.ChassisControlPowerUp, turnOff: chassis.ChassisControlPowerDown, softOff: chassis.ChassisControlSoftShutdown,
		reset: chassis.ChassisControlHardReset, diagnose: chassis.ChassisControlDiagnosticInterrupt,
	}
	control, ok := controls[action(state)]
	if !ok {
		return false, d.keep(fmt.Errorf("%w: power %q", ErrUnsupported, state))
	}
	answered := func() {}
	if !action(state).repeatable() {
		answered = d.once(ctx)
	}
	if _, err := d.client.ChassisControl(ctx, control); err != nil {
		if action(state) == diagnose {
			err = nameOfInterrupt(err)
		}
		return false, d.keep(fmt.Errorf("set power: %w", err))
	}
	answered()
	return true, nil
}

var selectors = map[Device]types.BootDeviceSelector{
	PXE:   types.BootDeviceSelectorForcePXE,
	Disk:  types.BootDeviceSelectorForceHardDrive,
	CDROM: types.BootDeviceSelectorForceCDROM,
	Setup: types.BootDeviceSelectorForceBIOSSetup,

	NoDevice: types.BootDeviceSelectorNoOverride,
}

// BootDeviceSet writes the boot flags, all in one command.
func (d *driver) BootDeviceSet(ctx context.Context, device string, persistent, efi bool) (bool, error) {
	selector, ok := selectors[Device(device)]
	if !ok {
		return false, d.keep(fmt.Errorf("%w: boot device %q by IPMI", ErrUnsupported, device))
	}
	mode := types.BIOSBootTypeLegacy
	if efi {
		mode = types.BIOSBootTypeEFI
	}
	if err := d.client.SetBootDevice(ctx, selector, mode, persistent); err != nil {
		return false, d.keep(fmt.Errorf("set boot flags: %w", err))
	}
	return true, nil
}

// bootFlags reads back what BootDeviceSet has written. bmclib's own getter has
// no place for the flag that says whether the BMC means it.
func (d *driver) bootFlags(ctx context.Context) (types.BootOptionParam_BootFlags, error) {
	var flags types.BootOptionParam_BootFlags
	if err := d.client.GetSystemBootOptionsParamFor(ctx, &flags); err != nil {
		return flags, d.keep(fmt.Errorf("read boot flags: %w", err))
	}
	return flags, nil
}

var _ bmclib.PowerSetter = (*driver)(nil)
