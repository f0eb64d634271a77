package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// bmcSecret is what sealed BMC passwords are bound to.
const bmcSecret = "bmc password"

// bmcPower is engine.Power and engine.Prober over package bmc.
type bmcPower struct {
	bmc    *bmc.Controller
	sealer *access.Sealer
}

func (p bmcPower) target(n fleet.Node) (bmc.Target, error) {
	password, err := p.sealer.Open(n.BMC.SealedPassword, bmcSecret)
	if err != nil {
		return bmc.Target{}, &fleet.Error{
			Kind: fleet.Internal, Code: "E-BMC-SECRET", Op: "unseal BMC password", On: "node " + n.Title(), Err: err,
			Hint: "apply site.yaml again, so that the password is read from its file",
		}
	}
	return bmc.Target{
		Node: n.Title(), Address: n.BMC.Address, Username: n.BMC.Username,
		Password: bmc.Password(password), CipherSuite: n.BMC.CipherSuite,
	}, nil
}

// Probe implements engine.Prober.
func (p bmcPower) Probe(ctx context.Context, n fleet.Node) (int, error) {
	t, err := p.target(n)
	if err != nil {
		return 0, err
	}
	found, err := p.bmc.Probe(ctx, t)
	return found.CipherSuite, err
}

// Switch implements engine.Power.
func (p bmcPower) Switch(ctx context.Context, n fleet.Node, op fleet.PowerOp) (fleet.PowerState, error) {
	t, err := p.target(n)
	if err != nil {
		return fleet.PowerIsUnknown, err
	}
	mode := bmc.UEFI
	if n.Inventory.Firmware == "bios" {
		mode = bmc.BIOS
	}
	switch op {
	case fleet.PowerStatus:
		return p.bmc.Power(ctx, t)
	case fleet.PowerOn:
		return fleet.PowerIsOn, p.bmc.PowerOn(ctx, t)
	case fleet.PowerOff:
		return fleet.PowerIsOff, p.bmc.PowerOff(ctx, t)
	case fleet.PowerCycle:
		return fleet.PowerIsOn, p.bmc.PowerCycle(ctx, t)
	case fleet.PXENext:
		return fleet.PowerIsUnknown, p.bmc.SetNextBoot(ctx, t, bmc.Boot{Device: bmc.PXE, Mode: mode, Once: true})
	case fleet.DiskNext:
		return fleet.PowerIsUnknown, p.bmc.SetNextBoot(ctx, t, bmc.Boot{Device: bmc.Disk, Mode: mode, Once: true})
	}
	return fleet.PowerIsUnknown, fleet.Invalidf("power operation "+string(op), "use on, off, cycle, status or pxe-next", errors.New("unknown"))
}

// sealBMCPasswords reads the password files that the rules name and seals
// what is in them. A password that has not changed keeps its sealed form, so
// that applying the same site again changes nothing.
func sealBMCPasswords(site *fleet.Site, before fleet.Site, sealer *access.Sealer) error {
	for i := range site.Rules {
		b := &site.Rules[i].BMC
		if b.PasswordFile == "" {
			continue
		}
		raw, err := os.ReadFile(b.PasswordFile)
		if err != nil {
			return fleet.Invalidf(fmt.Sprintf("rules[%d].bmc.password_file", i), "the server reads this file: give a path that exists there", err)
		}
		password := strings.TrimRight(string(raw), "\r\n")
		if old := sealedBefore(before, sealer, password); old != "" {
			b.SealedPassword = old
			continue
		}
		if b.SealedPassword, err = sealer.Seal([]byte(password), bmcSecret); err != nil {
			return err
		}
	}
	return nil
}

func sealedBefore(before fleet.Site, sealer *access.Sealer, password string) string {
	for _, r := range before.Rules {
		if r.BMC.SealedPassword == "" {
			continue
		}
		if old, err := sealer.Open(r.BMC.SealedPassword, bmcSecret); err == nil && string(old) == password {
			return r.BMC.SealedPassword
		}
	}
	return ""
}
