package main

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// bmcPower is engine.Power, engine.Prober, engine.Vault, engine.Accounts and
// engine.Maker over package bmc.
type bmcPower struct {
	bmc    *bmc.Controller
	sealer *access.Sealer
	site   func() fleet.Site
	node   func(ref string) (fleet.Node, error)          // as it is stored
	renew  func(id fleet.NodeID, addr, pin string) error // nil: nobody wants to know
}

func (p bmcPower) target(n fleet.Node) (bmc.Target, error) {
	if n.BMC.SealedPassword == "" { // a person, a magic packet
		t := p.targetOf(n, "")
		t.Wake = wakeOf(n, p.site())
		return t, nil
	}
	password, err := openBMC(p.sealer, n)
	if err != nil {
		return bmc.Target{}, err
	}
	return p.targetOf(n, password), nil
}

func (p bmcPower) targetOf(n fleet.Node, password bmc.Password) bmc.Target {
	b := n.BMC
	return bmc.Target{
		Trust: p.trust(n), Node: n.Title(), Driver: b.Via(), Address: b.Address, Ports: b.Ports, Username: b.Username, Password: password,
		Quirks: b.Quirks, CipherSuite: b.CipherSuite, System: b.System, BasicAuth: b.BasicAuth, Pin: b.Pin, HostKey: b.HostKey,
		UUID: n.UUID, Serial: n.Inventory.Serial, Outlets: b.Outlets,
	}
}

// wakeOf says where magic packets for a node go: to the subnet that it is in,
// as its relay or its address tells.
func wakeOf(n fleet.Node, site fleet.Site) bmc.Wake {
	var w bmc.Wake
	for _, m := range append([]fleet.MAC{n.MAC}, n.MACs...) {
		if !slices.Contains(w.MACs, string(m)) {
			w.MACs = append(w.MACs, string(m))
		}
	}
	var subnet netip.Prefix
	for _, s := range site.Subnets {
		if s.Name == n.Place.Subnet || n.Place.Subnet == "" && n.Addr.IsValid() && s.CIDR.Contains(n.Addr) {
			subnet = s.CIDR
		}
	}
	w.To = bmc.Broadcast(subnet)
	return w
}

// Probe implements engine.Prober.
func (p bmcPower) Probe(ctx context.Context, n fleet.Node, anyway bool) (fleet.BMC, error) {
	b := n.BMC
	if b.Wanted != "" && !b.Wanted.SignsIn() { // there is nobody to be asked
		b.Driver = b.Wanted
		return b, nil
	}
	t, err := p.target(n)
	if err != nil {
		return b, err
	}
	t.Driver = b.Wanted
	probe := p.bmc.Probe
	if anyway {
		probe = p.bmc.ProbeAnyway
	}
	found, err := probe(ctx, t)
	if err != nil {
		b.Driver = found.Driver
		return b, err
	}
	b.Driver, b.CipherSuite, b.System, b.BasicAuth, b.Pin, b.NewPin = found.Driver, found.CipherSuite, found.System, found.BasicAuth, found.Pin, ""
	return b, nil
}

// Switch implements engine.Power.
func (p bmcPower) Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	t, err := p.target(n)
	if err != nil {
		return fleet.Switched{}, err
	}
	switch o.Op {
	case fleet.MediaEject:
		return fleet.Switched{}, p.bmc.EjectMedia(ctx, t)
	case fleet.MediaNext:
		if err := p.bmc.InsertMedia(ctx, t, o.URL); err != nil {
			return fleet.Switched{}, err
		}
		o.URL = "" // it is in the drive
		err := p.bmc.SetNextBoot(ctx, t, nextBoot(n, o))
		if err != nil { // it is of no use there, and may be booted at another time
			err = errors.Join(err, p.bmc.EjectMedia(context.WithoutCancel(ctx), t))
		}
		return fleet.Switched{}, err
	default:
	}
	if o.Op.SetsBoot() {
		return fleet.Switched{}, p.bmc.SetNextBoot(ctx, t, nextBoot(n, o))
	}
	if !slices.Contains(fleet.PowerOps(), o.Op) {
		return fleet.Switched{}, fleet.Invalidf("power operation "+string(o.Op), "see: provision power --help", errors.New("unknown"))
	}
	return p.bmc.Switch(ctx, t, o.Op)
}

// check is for engine.Checker.
func (p bmcPower) check(ctx context.Context, n fleet.Node, o bmc.CheckOptions) (fleet.BMCCheck, error) {
	t, err := p.target(n)
	if err != nil {
		return fleet.BMCCheck{}, err
	}
	o.Mode = nextBoot(n, fleet.PowerOrder{}).Mode
	return p.bmc.Check(ctx, t, o)
}

// Examine implements engine.Examiner.
func (p bmcPower) Examine(ctx context.Context, n fleet.Node, all bool) (fleet.Checkup, error) {
	t, err := p.target(n)
	if err != nil {
		return fleet.Checkup{}, err
	}
	return p.bmc.Examine(ctx, t, all)
}

// ClearLog implements engine.Examiner.
func (p bmcPower) ClearLog(ctx context.Context, n fleet.Node) error {
	t, err := p.target(n)
	if err != nil {
		return err
	}
	return p.bmc.ClearLog(ctx, t)
}

// BIOS implements engine.Setup.
func (p bmcPower) BIOS(ctx context.Context, n fleet.Node) (fleet.BIOS, error) {
	t, err := p.target(n)
	if err != nil {
		return fleet.BIOS{}, err
	}
	return p.bmc.BIOS(ctx, t)
}

// SetBIOS implements engine.Setup.
func (p bmcPower) SetBIOS(ctx context.Context, n fleet.Node, want map[string]string) error {
	t, err := p.target(n)
	if err != nil {
		return err
	}
	return p.bmc.SetBIOS(ctx, t, want)
}

// Update implements engine.Updater.
func (p bmcPower) Update(ctx context.Context, n fleet.Node, job fleet.FirmwareJob, keep func(fleet.FirmwareJob) error, tell func(percent int)) error {
	t, err := p.target(n)
	if err != nil {
		return err
	}
	return p.bmc.Update(ctx, t, job, keep, tell)
}

// nextBoot is what an order about the next boot asks of the BMC. The firmware
// is that of the node, unless the order says otherwise.
func nextBoot(n fleet.Node, o fleet.PowerOrder) bmc.Boot {
	devices := map[fleet.PowerOp]bmc.Device{
		fleet.PXENext: bmc.PXE, fleet.DiskNext: bmc.Disk, fleet.CDROMNext: bmc.CDROM, fleet.SetupNext: bmc.Setup, fleet.HTTPNext: bmc.HTTP,
		fleet.MediaNext: bmc.CDROM,
	}
	b := bmc.Boot{Device: devices[o.Op], Mode: bmc.UEFI, Once: !o.Persist, URL: o.URL}
	if cmp.Or(o.Firmware, n.Inventory.Firmware) == "bios" {
		b.Mode = bmc.BIOS
	}
	return b
}
