package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	bmclib "github.com/bmc-toolbox/bmclib/v2/bmc"
	"github.com/bmc-toolbox/bmclib/v2/providers"
	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/jacobweinstock/registrar"
)

// A driver speaks IPMI 2.0 to one BMC for one conversation, in the shape that
// bmclib wants its drivers to have. bmclib folds errors into lines of text, so
// the driver keeps its last one.
type driver struct {
	target Target
	suites []types.CipherSuiteID // to be tried in this order
	dial   Dial

	level types.PrivilegeLevel // to sign in with; 0: sessionLevel

	client *client.Client
	conn   *ear
	suite  types.CipherSuiteID // the one that worked
	err    error
}

const (
	driverName     = "goipmi"
	driverProtocol = "ipmi"
)

var driverFeatures = registrar.Features{
	providers.FeaturePowerState, providers.FeaturePowerSet, providers.FeatureBootDeviceSet,
}

const (
	resendLogin  = time.Second // as ipmitool does
	resendOrder  = 3 * time.Second
	resends      = 9 // the conversation's deadline comes first
	closeWithin  = 2 * time.Second
	sessionLevel = types.PrivilegeLevelOperator // enough for power and boot device
)

// Name is the driver's name in bmclib.
func (d *driver) Name() string { return driverName }

// Open signs in, with the first cipher suite that the BMC accepts.
func (d *driver) Open(ctx context.Context) error {
	err := ErrCipher
	for _, suite := range d.suites {
		if err = classify(d.login(ctx, suite)); !errors.Is(err, ErrCipher) {
			break
		}
	}
	return d.keep(err)
}

// keep remembers an error by its name, for whoever has lost it in bmclib.
func (d *driver) keep(err error) error {
	d.err = classify(err)
	return d.err
}

// login goes through the handshake of IPMI 2.0 step by step. go-ipmi's own
// Connect does the same and folds the steps' errors into text, which leaves a
// wrong password, a wrong cipher suite and a full BMC looking alike.
func (d *driver) login(ctx context.Context, suite types.CipherSuiteID) (err error) {
	host, port, err := d.target.hostPort()
	if err != nil {
		return err
	}
	raw, err := d.dial(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	conn := &ear{Conn: raw}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := greet(ctx, conn); err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	c, err := client.NewClient(host, port, d.target.Username, string(d.target.Password))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	conn.client = c
	level := cmp.Or(d.level, sessionLevel)
	c.WithUDPProxy(socket{conn}).WithTimeout(resendLogin).WithRetry(resends).
		WithCipherSuiteID(suite).WithMaxPrivilegeLevel(level)
	if _, err := c.OpenSession(ctx); err != nil {
		return fmt.Errorf("open session: %w", conn.status(err))
	}
	if _, err := c.RAKPMessage1(ctx); err != nil {
		return fmt.Errorf("authenticate: %w", conn.status(err))
	}
	if _, err := c.RAKPMessage3(ctx); err != nil {
		return fmt.Errorf("authenticate: %w", conn.status(err))
	}
	// Some BMCs carry out an order as often as they get it, one after the
	// other, and switching takes a second or two.
	d.client, d.conn, d.suite = c.WithTimeout(resendOrder), conn, suite
	if _, err := c.SetSessionPrivilegeLevel(ctx, level); err != nil {
		_ = d.hangUp(ctx) // what went wrong before says more
		return fmt.Errorf("become %s: %w", strings.ToLower(level.String()), privilege(err))
	}
	return nil
}

// privilege translates what only this one command says so: above the limit of
// the user or of the channel.
func privilege(err error) error {
	if _, ok := errors.AsType[*types.ResponseError](err); ok {
		return fmt.Errorf("%w (%v)", ErrDenied, err)
	}
	return err
}

// Close ends the session. A BMC has few, and keeps a lost one for a minute.
func (d *driver) Close(ctx context.Context) error {
	if d.client == nil {
		return nil
	}
	return d.hangUp(ctx)
}

func (d *driver) hangUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	err := d.client.Close(ctx)
	d.client = nil
	return err
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

// PowerSet switches on or off; the rest of what bmclib knows is made of these.
func (d *driver) PowerSet(ctx context.Context, state string) (bool, error) {
	controls := map[string]chassis.ChassisControl{
		"on": chassis.ChassisControlPowerUp, "off": chassis.ChassisControlPowerDown,
	}
	control, ok := controls[state]
	if !ok {
		return false, d.keep(fmt.Errorf("%w: power %q", ErrRejected, state))
	}
	if _, err := d.client.ChassisControl(ctx, control); err != nil {
		return false, d.keep(fmt.Errorf("set power: %w", err))
	}
	return true, nil
}

var selectors = map[string]types.BootDeviceSelector{
	string(bmclib.BootDeviceTypePXE):  types.BootDeviceSelectorForcePXE,
	string(bmclib.BootDeviceTypeDisk): types.BootDeviceSelectorForceHardDrive,
}

// BootDeviceSet writes the boot flags, all in one command.
func (d *driver) BootDeviceSet(ctx context.Context, device string, persistent, efi bool) (bool, error) {
	selector, ok := selectors[device]
	if !ok {
		return false, d.keep(fmt.Errorf("%w: boot device %q", ErrRejected, device))
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
