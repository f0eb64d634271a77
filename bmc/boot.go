package bmc

import (
	"context"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
)

// A Device is what a machine boots from.
type Device string

// The devices that can be asked for.
const (
	PXE  Device = "pxe"
	Disk Device = "disk"
)

// A Mode is the kind of firmware that shall do it.
type Mode string

// The modes.
const (
	UEFI Mode = "uefi"
	BIOS Mode = "bios"
)

// A Boot is an override of what a machine boots.
type Boot struct {
	Device Device
	Mode   Mode // UEFI when empty
	Once   bool // for the next boot only
}

func (b Boot) check() error {
	if b.Device != PXE && b.Device != Disk {
		return fmt.Errorf("unknown boot device %q: want pxe or disk", b.Device)
	}
	if b.Mode != UEFI && b.Mode != BIOS && b.Mode != "" {
		return fmt.Errorf("unknown boot mode %q: want uefi or bios", b.Mode)
	}
	return nil
}

// SetNextBoot says what a machine shall boot, and reads it back. Some BMCs
// forget an override after a minute, so switch the machine soon after.
func (c *Controller) SetNextBoot(ctx context.Context, t Target, b Boot) error {
	op := "set next boot of"
	if err := b.check(); err != nil {
		return invalid(op, t, err)
	}
	return c.change(ctx, op, t, func(ctx context.Context, g *gate) error {
		return c.converge(ctx, t, g, func(ctx context.Context, s *session, order bool) (bool, error) {
			if order {
				if _, err := s.facade.SetBootDevice(ctx, string(b.Device), !b.Once, b.Mode != BIOS); err != nil {
					return false, err
				}
			}
			flags, err := s.drv.bootFlags(ctx)
			return b.agrees(flags), err
		})
	})
}

// agrees reports whether the BMC's boot flags are what was asked for. A BMC
// that keeps the device alone, as ipmi_sim does, never sets the flag "valid":
// then mode and duration, which it cannot show, are not held against it.
func (b Boot) agrees(f types.BootOptionParam_BootFlags) bool {
	if f.BootDeviceSelector != selectors[string(b.Device)] {
		return false
	}
	if !f.BootFlagsValid {
		return !bool(f.BIOSBootType) && !f.Persist
	}
	return f.Persist == !b.Once && f.BIOSBootType == types.BIOSBootType(b.Mode != BIOS)
}
