package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/command/transport"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// Commands are those of IPMI that an enrolment needs, as go-ipmi has them.
type Commands interface {
	GetDeviceID(ctx context.Context) (*app.GetDeviceIDResponse, error)
	GetLanConfigParam(ctx context.Context, channel uint8, which types.LanConfigParamSelector, set, block uint8) (*transport.GetLanConfigParamResponse, error)
	GetChannelAccess(ctx context.Context, channel uint8, which types.ChannelAccessOption) (*app.GetChannelAccessResponse, error)
	SetChannelAccess(ctx context.Context, r *app.SetChannelAccessRequest) (*app.SetChannelAccessResponse, error)
	GetUserAccess(ctx context.Context, channel, user uint8) (*app.GetUserAccessResponse, error)
	GetUsername(ctx context.Context, user uint8) (*app.GetUsernameResponse, error)
	SetUsername(ctx context.Context, user uint8, name string) (*app.SetUsernameResponse, error)
	SetUserPassword(ctx context.Context, user uint8, password string, stored20 bool) (*app.SetUserPasswordResponse, error)
	TestUserPassword(ctx context.Context, user uint8, password string, stored20 bool) (*app.SetUserPasswordResponse, error)
	SetUserAccess(ctx context.Context, r *app.SetUserAccessRequest) (*app.SetUserAccessResponse, error)
	EnableUser(ctx context.Context, user uint8) error
	Exchange(ctx context.Context, request types.Request, response types.Response) error
}

// The longest name and password that every BMC takes.
const (
	maxName     = 16
	maxPassword = 16
)

// Enrol makes the account of the order on a BMC, and reports what it found
// there. A BMC that has the account already gets its password anew.
func Enrol(ctx context.Context, c Commands, order api.BMCOrder) (api.BMCReport, error) {
	if order.Username == "" || len(order.Username) > maxName || order.Password == "" || len(order.Password) > maxPassword {
		return api.BMCReport{}, fault.Errorf(fault.BMCRefused, "IPMI takes names and passwords of 1 to 16 bytes only")
	}
	var report api.BMCReport
	id, err := c.GetDeviceID(ctx)
	if err != nil {
		return report, fault.Errorf(fault.BMCAway, "ask the BMC what it is: %w", err)
	}
	report.Manufacturer, report.Product = int(id.ManufacturerID), int(id.ProductID)
	report.Firmware = fmt.Sprintf("%d.%02x", id.MajorFirmwareRevision, id.MinorFirmwareRevision)
	if err := findLAN(ctx, c, &report); err != nil {
		return report, err
	}
	channel := uint8(report.Channel) //nolint:gosec // of lanChannels
	users, err := listUsers(ctx, c, channel)
	if err != nil {
		return report, err
	}
	slot, err := users.slotFor(order.Username)
	if err != nil {
		return report, err
	}
	report.Slot, report.Users = int(slot), users.enabled(slot)
	if err := openChannel(ctx, c, channel); err != nil {
		return report, err
	}
	return report, makeUser(ctx, c, channel, slot, order)
}

// lanChannels are where LAN ports are: 1 nearly everywhere, 8 at some.
var lanChannels = []uint8{1, 2, 3, 8, 4, 5, 6, 7}

// findLAN finds the first LAN channel that has an address, or else the first
// that there is.
func findLAN(ctx context.Context, c Commands, report *api.BMCReport) error {
	for _, channel := range lanChannels {
		mac := lanParam(ctx, c, channel, types.LanConfigParamSelector_MAC)
		if len(mac) != 6 {
			continue
		}
		if report.Channel == 0 {
			report.Channel, report.MAC = int(channel), net.HardwareAddr(mac).String()
			report.Source = source(lanParam(ctx, c, channel, types.LanConfigParamSelector_IPSource))
		}
		ip, ok := netip.AddrFromSlice(lanParam(ctx, c, channel, types.LanConfigParamSelector_IP))
		if !ok || ip.IsUnspecified() {
			continue
		}
		report.Channel, report.MAC, report.Address = int(channel), net.HardwareAddr(mac).String(), ip.String()
		report.Source = source(lanParam(ctx, c, channel, types.LanConfigParamSelector_IPSource))
		return nil
	}
	if report.Channel == 0 {
		return fault.Errorf(fault.BMCNoLAN, "the BMC has no LAN channel")
	}
	return nil
}

func lanParam(ctx context.Context, c Commands, channel uint8, which types.LanConfigParamSelector) []byte {
	answer, err := c.GetLanConfigParam(ctx, channel, which, 0, 0)
	if err != nil {
		return nil
	}
	return answer.ParamData
}

func source(b []byte) string {
	if len(b) == 0 {
		return "other"
	}
	switch types.LanIPAddressSource(b[0] & 0x0f) {
	case types.IPAddressSourceStatic:
		return "static"
	case types.IPAddressSourceDHCP:
		return "dhcp"
	case types.IPAddressSourceBIOS:
		return "bios"
	default:
		return "other"
	}
}

// Parts of Set Channel Access, IPMI 2.0 §22.22.
const (
	setStored  = 1 // what holds after a restart
	setPresent = 2 // what holds now
)

// openChannel lets users in over the LAN at all times, where they are not.
func openChannel(ctx context.Context, c Commands, channel uint8) error {
	for option, read := range map[uint8]types.ChannelAccessOption{setStored: types.ChannelAccessOption_NonVolatile, setPresent: types.ChannelAccessOption_Volatile} {
		now, err := c.GetChannelAccess(ctx, channel, read)
		if err != nil {
			return fail("read channel access", err)
		}
		if now.AccessMode == types.ChannelAccessMode_AlwaysAvailable && now.MaxPrivilegeLevel >= types.PrivilegeLevelAdministrator {
			continue
		}
		_, err = c.SetChannelAccess(ctx, &app.SetChannelAccessRequest{
			ChannelNumber: channel, AccessOption: option, AccessMode: types.ChannelAccessMode_AlwaysAvailable,
			DisablePEFAlerting: now.PEFAlertingDisabled, DisablePerMsgAuth: now.PerMsgAuthDisabled, DisableUserLevelAuth: now.UserLevelAuthDisabled,
			PrivilegeOption: option, MaxPrivilegeLevel: uint8(types.PrivilegeLevelAdministrator),
		})
		if err != nil {
			return fail("open the LAN channel", err)
		}
	}
	return nil
}

// makeUser gives the slot its name, password and rights, and enables it last.
func makeUser(ctx context.Context, c Commands, channel, slot uint8, order api.BMCOrder) error {
	now, err := c.GetUsername(ctx, slot)
	if err != nil || now.Username != order.Username { // some refuse a name that they have already
		if _, err := c.SetUsername(ctx, slot, order.Username); err != nil {
			return fail("set user name", err)
		}
	}
	if _, err := c.SetUserPassword(ctx, slot, order.Password, false); err != nil {
		return shapeOr("set password", err)
	}
	if _, err := c.SetUserAccess(ctx, &app.SetUserAccessRequest{
		EnableChanging: true, EnableIPMIMessaging: true, EnableLinkAuth: true, ChannelNumber: channel, UserID: slot,
		MaxPrivLevel: uint8(types.PrivilegeLevelAdministrator),
	}); err != nil {
		return fail("set user access", err)
	}
	if err := c.EnableUser(ctx, slot); err != nil {
		return fail("enable user", err)
	}
	// The console is a payload of its own. BMCs without one refuse this.
	_ = c.Exchange(ctx, &app.SetUserPayloadAccessRequest{ChannelNumber: channel, UserID: slot, PayloadTypeSOL: true}, &app.SetUserPayloadAccessResponse{})
	if _, err := c.TestUserPassword(ctx, slot, order.Password, false); err != nil {
		return shapeOr("test password", err)
	}
	return nil
}

// shapeOr says of a refused password that another may be taken: BMCs have
// rules for passwords and no way to tell which. A BMC that does not answer has
// not refused it.
func shapeOr(what string, err error) error {
	if _, refused := errors.AsType[*types.ResponseError](err); refused {
		return fault.Errorf(fault.BMCShape, "%s: %w", what, err)
	}
	return fail(what, err)
}
