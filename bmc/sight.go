package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// A Sight is what a BMC tells strangers.
type Sight struct {
	Driver fleet.BMCDriver // Redfish, or IPMI
	Vendor string          // hostile text, cleaned; "" with IPMI
}

// Greet finds out whether there is a BMC at all. It signs in nowhere.
func (c *Controller) Greet(ctx context.Context, t Target) (Sight, error) {
	const op = "greet BMC of"
	if err := t.valid(); err != nil {
		return Sight{}, invalid(op, t, err)
	}
	seen, err := guard(ctx, c, t, func(ctx context.Context) (Sight, error) {
		r, err := c.newRedfish(t)
		if err != nil {
			return Sight{}, err
		}
		defer r.client.CloseIdleConnections()
		seen, err := r.greet(ctx)
		if err != nil {
			return seen, reason(ctx, err)
		}
		return seen, nil
	})
	if err == nil || !elsewhere(err) {
		return seen, trouble(op, t, err)
	}
	seen, err = guard(ctx, c, t, func(ctx context.Context) (Sight, error) { return c.greetIPMI(ctx, t) })
	return seen, trouble(op, t, err)
}

func (r *redfish) greet(ctx context.Context) (Sight, error) {
	var root struct {
		Version string         `json:"RedfishVersion"`
		Vendor  string         `json:"Vendor"`
		OEM     map[string]any `json:"Oem"`
	}
	r.target.Username, r.target.Password, r.target.BasicAuth = "", "", false
	if err := r.get(ctx, rootPath, &root); err != nil {
		return Sight{}, err
	}
	if root.Version == "" {
		return Sight{}, fmt.Errorf("%w: no Redfish service is there", ErrUnsupported)
	}
	vendor := root.Vendor
	for name := range root.OEM { // services older than 2019 name their vendor here only
		if vendor == "" || root.Vendor == "" && name < vendor {
			vendor = name
		}
	}
	return Sight{fleet.DriverRedfish, fleet.CleanText(vendor)}, nil
}

func (c *Controller) greetIPMI(ctx context.Context, t Target) (Sight, error) {
	host, port, err := t.hostPort()
	if err != nil {
		return Sight{}, err
	}
	conn, err := c.o.Dial(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Sight{}, reason(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := greet(ctx, conn); err != nil {
		return Sight{}, reason(ctx, err)
	}
	return Sight{Driver: fleet.DriverIPMI}, nil
}

// A Machine is what a BMC says of the machine that it is in. All of it is
// hostile text, cleaned.
type Machine struct {
	UUID    string // in RFC 9562 form, or ""
	Swapped string // the same in another order of bytes: BMCs do not agree about it; only by IPMI
	Serial  string
	Vendor  string
	Product string
	Arch    string      // "amd64", "arm64"; "" when it does not say; only by Redfish
	MACs    []fleet.MAC // of its network cards
}

// Identify asks a BMC which machine it is in. By IPMI it knows the UUID only.
func (c *Controller) Identify(ctx context.Context, t Target) (Machine, error) {
	const op = "identify machine of"
	if t.Driver.Web() {
		m, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (Machine, error) { return r.identify(ctx) })
		return m, trouble(op, t, err)
	}
	m, err := talkIPMI(ctx, c, t, operator, func(ctx context.Context, ipmi *client.Client) (Machine, error) {
		guid, err := ipmi.GetSystemGUID(ctx)
		if _, refused := errors.AsType[*types.ResponseError](err); refused {
			return Machine{}, nil
		}
		if err != nil {
			return Machine{}, err
		}
		if guid.GUID == ([16]byte{}) {
			return Machine{}, nil
		}
		straight, _ := fleet.ParseUUID(fmt.Sprintf("%x", guid.GUID)) // it is one
		return Machine{UUID: smbiosUUID(guid.GUID), Swapped: straight}, nil
	})
	return m, trouble(op, t, err)
}

// smbiosUUID writes a system's GUID as its firmware shows it to the operating
// system: the first three groups little-endian, as SMBIOS has it.
func smbiosUUID(b [16]byte) string {
	return fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x", b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8:10], b[10:16])
}

// mostCards bounds how many network cards are asked for.
const mostCards = 16

func (r *redfish) identify(ctx context.Context) (Machine, error) {
	path, err := r.systemPath(ctx)
	if err != nil {
		return Machine{}, err
	}
	var s struct {
		resource
		Manufacturer string
		Model        string
		Cards        link `json:"EthernetInterfaces"`
		Processors   link
	}
	if err := r.get(ctx, path, &s); err != nil {
		return Machine{}, err
	}
	m := Machine{Serial: fleet.CleanText(s.Serial), Vendor: fleet.CleanText(s.Manufacturer), Product: fleet.CleanText(s.Model)}
	m.UUID, _ = fleet.ParseUUID(s.UUID) // some have none
	m.MACs = r.cards(ctx, localPath(s.Cards.Path))
	m.Arch = r.arch(ctx, localPath(s.Processors.Path))
	return m, nil
}

// cards returns the MAC addresses of a machine's network cards, as far as its
// BMC says them: the rest is worth something.
func (r *redfish) cards(ctx context.Context, path string) []fleet.MAC {
	if path == "" {
		return nil
	}
	paths, err := r.members(ctx, path)
	if err != nil {
		return nil
	}
	var macs []fleet.MAC
	for _, p := range paths[:min(len(paths), mostCards)] {
		var card struct {
			MAC       string `json:"MACAddress"`
			Permanent string `json:"PermanentMACAddress"`
		}
		if r.get(ctx, p, &card) != nil {
			continue
		}
		for _, text := range []string{card.Permanent, card.MAC} {
			if mac, err := fleet.ParseMAC(text); err == nil {
				macs = append(macs, mac)
				break
			}
		}
	}
	return macs
}

// arch returns for which architecture a machine's processors are, as far as its
// BMC says so in what time there is to spare: what a machine boots that never asked
// by the network depends on it. Accelerators have processors of their own. Those
// whose kind is not said are believed when they are all there are, and agree.
func (r *redfish) arch(ctx context.Context, processors string) string {
	ctx, cancel := r.spare(ctx)
	defer cancel()
	if processors == "" || !r.spares(ctx) {
		return ""
	}
	paths, err := r.membersUpTo(ctx, processors, mostProcessors+1)
	if err != nil {
		return ""
	}
	var untold []string
	for _, path := range paths[:min(len(paths), mostProcessors)] {
		var p struct {
			ProcessorType, ProcessorArchitecture, InstructionSet text

			Status condition
		}
		if !r.spares(ctx) {
			return ""
		}
		if err := r.get(ctx, path, &p); err != nil && !optional(ctx, err) { // the next one would take as long
			return ""
		}
		arch := archOf(p.ProcessorArchitecture, p.InstructionSet)
		switch {
		case p.Status.absent(): // an empty socket
		case p.ProcessorType == "CPU":
			return arch
		case p.ProcessorType == "":
			untold = append(untold, arch)
		}
	}
	if untold = slices.Compact(untold); len(untold) != 1 || len(paths) > mostProcessors {
		return ""
	}
	return untold[0]
}

// spare returns a context for what nobody has to know: it ends so early that a
// conversation can still sign off in time.
func (r *redfish) spare(ctx context.Context) (context.Context, context.CancelFunc) {
	const margin = 250 * time.Millisecond
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-r.parting()-margin))
}

// spares reports whether there is time for another answer: one that is cut off
// costs the connection.
func (r *redfish) spares(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return !ok || time.Until(end) > r.longest
}

// archOf reads the words of the schema Processor. Some services have the family
// alone: what is in racks has 64 bits.
func archOf(family, set text) string {
	switch {
	case set == "ARM-A64", set == "" && family == "ARM":
		return "arm64"
	case set == "x86-64", set == "" && family == "x86":
		return "amd64"
	}
	return ""
}
