package bmc

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/rackstage/provision/fleet"
)

// A Device is what a machine boots from.
type Device string

// The devices that can be asked for.
const (
	PXE   Device = "pxe"
	Disk  Device = "disk"
	CDROM Device = "cdrom"
	Setup Device = "bios"      // the firmware's setup
	HTTP  Device = "uefi_http" // a URL, by UEFI HTTP boot

	NoDevice Device = "none" // the firmware's own order
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
	Mode   Mode   // UEFI when empty
	Once   bool   // for the next boot only
	URL    string // for HTTP; empty: what DHCP says
}

func (b Boot) check() error {
	switch b.Device {
	case PXE, Disk, CDROM, Setup, HTTP, NoDevice:
	default:
		return fmt.Errorf("unknown boot device %q: want pxe, disk, cdrom, bios or uefi_http", b.Device)
	}
	if b.Mode != UEFI && b.Mode != BIOS && b.Mode != "" {
		return fmt.Errorf("unknown boot mode %q: want uefi or bios", b.Mode)
	}
	if b.Device == HTTP && b.Mode == BIOS {
		return errors.New("HTTP boot is of UEFI; this is a BIOS")
	}
	if b.URL == "" {
		return nil
	}
	u, err := url.Parse(b.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || b.Device != HTTP {
		return fmt.Errorf("boot URL %q: want http://… or https://… with the device uefi_http", b.URL)
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
	return c.change(ctx, op, t, func(ctx context.Context) error {
		return c.converge(ctx, t, func(ctx context.Context, l line, order bool) (bool, error) {
			if order {
				if err := c.orderBoot(ctx, t, l, b); err != nil {
					return false, err
				}
			}
			if t.Quirks.BootUnreadable {
				return true, nil
			}
			return l.boots(ctx, b)
		})
	})
}

// orderBoot says what shall boot, unless the machine has to be off for that.
func (c *Controller) orderBoot(ctx context.Context, t Target, l line, b Boot) error {
	if t.Quirks.BootNeedsOff {
		state, err := l.power(ctx)
		if err != nil {
			return err
		}
		if state != fleet.PowerIsOff {
			return fmt.Errorf("%w (it is %s)", ErrNeedsOff, state)
		}
	}
	return l.setBoot(ctx, b)
}
