package bmc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

type link struct {
	Path string `json:"@odata.id"`
}

// A resource is what all that Redfish has in common.
type resource struct {
	Path   string `json:"@odata.id"`
	ID     string `json:"Id"`
	UUID   string
	Serial string `json:"SerialNumber"`
}

// How many of a collection are looked at.
const (
	mostMembers = 64
	mostSystems = 256 // of a chassis, or of a service for a whole row
)

// members returns the paths of a collection.
func (r *redfish) members(ctx context.Context, path string) ([]string, error) {
	return r.membersUpTo(ctx, path, mostMembers)
}

// membersUpTo returns at most so many paths of a collection, page by page.
func (r *redfish) membersUpTo(ctx context.Context, path string, most int) ([]string, error) {
	var paths []string
	for page := path; page != "" && len(paths) < most; {
		var c struct {
			Members []link
			Next    string `json:"Members@odata.nextLink"`
		}
		if err := r.get(ctx, page, &c); err != nil {
			return nil, err
		}
		for _, m := range c.Members[:min(len(c.Members), most-len(paths))] {
			paths = append(paths, localPath(m.Path))
		}
		next := localPage(c.Next)
		if len(c.Members) == 0 || next == page {
			break
		}
		page = next
	}
	return paths, nil
}

// systemPath returns the path of the system that is the target's machine.
func (r *redfish) systemPath(ctx context.Context) (string, error) {
	if strings.HasPrefix(r.target.System, "/") {
		return r.target.System, nil
	}
	paths, err := r.membersUpTo(ctx, rootPath+"Systems", mostSystems)
	if err != nil {
		return "", err
	}
	if name := r.target.System; name != "" {
		i := slices.IndexFunc(paths, func(p string) bool { return strings.HasSuffix(strings.TrimSuffix(p, "/"), "/"+name) })
		if i < 0 {
			return "", fmt.Errorf("%w: it has no system %q, but %s", ErrSeveral, name, strings.Join(paths, ", "))
		}
		return paths[i], nil
	}
	switch len(paths) {
	case 0:
		return "", fmt.Errorf("%w: it lists no system", ErrUnsupported)
	case 1:
		return paths[0], nil
	}
	return r.matching(ctx, paths)
}

// matching finds the machine among the systems of a chassis.
func (r *redfish) matching(ctx context.Context, paths []string) (string, error) {
	for _, p := range paths {
		var s resource
		if err := r.get(ctx, p, &s); err != nil {
			return "", err
		}
		same := func(a, b string) bool { return a != "" && strings.EqualFold(a, b) }
		if same(s.UUID, r.target.UUID) || same(s.Serial, r.target.Serial) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s", ErrSeveral, strings.Join(paths, ", "))
}

// A system is a machine behind a Redfish service, for one conversation.
type system struct {
	*redfish
	c    *Controller
	path string
	ipmi *ipmiLine // where the boot device is set; nil until it is
}

func (c *Controller) openSystem(ctx context.Context, t Target) (*system, error) {
	r, err := c.openRedfish(ctx, t)
	if err != nil {
		return nil, err
	}
	s, err := r.findSystem(ctx)
	if err != nil {
		_ = early(ctx, reason(ctx, err))
		r.hangUp(ctx)
		return nil, err
	}
	s.c = c
	return s, nil
}

func (r *redfish) findSystem(ctx context.Context) (*system, error) {
	path, err := r.systemPath(ctx)
	if err != nil {
		return nil, err
	}
	return &system{redfish: r, path: path}, nil
}

// A machine is what power and boot device need of a ComputerSystem.
type machine struct {
	PowerState string
	Boot       bootOverride
	Actions    struct {
		Reset struct {
			Target    string   `json:"target"`
			Allowable []string `json:"ResetType@Redfish.AllowableValues"`
			Info      string   `json:"@Redfish.ActionInfo"`
		} `json:"#ComputerSystem.Reset"`
	}
}

type bootOverride struct {
	Enabled string   `json:"BootSourceOverrideEnabled"`
	Target  string   `json:"BootSourceOverrideTarget"`
	Mode    string   `json:"BootSourceOverrideMode"`
	HTTPURI string   `json:"HttpBootUri"`
	Targets []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
}

func (s *system) read(ctx context.Context) (m machine, err error) {
	err = s.get(ctx, s.path, &m)
	return m, err
}

func (s *system) power(ctx context.Context) (fleet.PowerState, error) {
	m, err := s.read(ctx)
	if err != nil {
		return fleet.PowerIsUnknown, err
	}
	return powerState(m.PowerState), nil
}

// powerState reads what services, tools and libraries call it. What is on its
// way is neither on nor off yet.
func powerState(text string) fleet.PowerState {
	word := strings.ToLower(strings.TrimSpace(text))
	word = strings.TrimPrefix(word, "chassis power is ")
	switch word {
	case "on":
		return fleet.PowerIsOn
	case "off":
		return fleet.PowerIsOff
	}
	return fleet.PowerIsUnknown
}

var resetTypes = map[action][]string{ // the best first
	turnOn:   {"On", "ForceOn"},
	turnOff:  {"ForceOff"},
	softOff:  {"GracefulShutdown"},
	reset:    {"ForceRestart"},
	diagnose: {"Nmi"},
}

// order posts a Reset. What a service lists as allowed is believed when it
// lists anything.
func (s *system) order(ctx context.Context, a action) error {
	m, err := s.read(ctx)
	if err != nil {
		return err
	}
	types, allowed := resetTypes[a], m.Actions.Reset.Allowable
	i := slices.IndexFunc(types, func(t string) bool { return len(allowed) == 0 || slices.Contains(allowed, t) })
	if i < 0 {
		return fmt.Errorf("%w: power %s (it can %s)", ErrUnsupported, a, strings.Join(allowed, ", "))
	}
	path := localPath(m.Actions.Reset.Target)
	if path == "" {
		path = strings.TrimSuffix(s.path, "/") + "/Actions/ComputerSystem.Reset"
	}
	_, err = s.post(ctx, path, map[string]string{"ResetType": types[i]})
	return err
}

var bootTargets = map[Device]string{PXE: "Pxe", Disk: "Hdd", CDROM: "Cd", Setup: "BiosSetup", HTTP: "UefiHttp", NoDevice: "None"}

// setBoot says device, mode and URL in one request. bmclib sends back the
// whole object that it has read, and drops the mode when that is refused.
func (s *system) setBoot(ctx context.Context, b Boot) error {
	if s.target.Quirks.BootByIPMI {
		l, err := s.byIPMI(ctx)
		if err != nil {
			return err
		}
		return l.setBoot(ctx, b)
	}
	m, err := s.read(ctx)
	if err != nil {
		return err
	}
	if want := bootTargets[b.Device]; len(m.Boot.Targets) > 0 && !slices.Contains(m.Boot.Targets, want) {
		return fmt.Errorf("%w: boot from %s (it can %s)", ErrUnsupported, want, strings.Join(m.Boot.Targets, ", "))
	}
	boot := map[string]string{
		"BootSourceOverrideTarget":  bootTargets[b.Device],
		"BootSourceOverrideEnabled": map[bool]string{true: "Once", false: "Continuous"}[b.Once],
	}
	if b.Device == NoDevice {
		boot["BootSourceOverrideEnabled"] = "Disabled"
	}
	if m.Boot.Mode != "" || !s.target.Quirks.BootNoMode {
		boot["BootSourceOverrideMode"] = map[bool]string{true: "Legacy", false: "UEFI"}[b.Mode == BIOS]
	}
	if b.URL != "" {
		boot["HttpBootUri"] = b.URL
	}
	raw, err := json.Marshal(map[string]any{"Boot": boot})
	if err != nil {
		return err
	}
	return s.patch(ctx, s.path, json.RawMessage(raw))
}

// byIPMI has a conversation by IPMI inside of ours, for services whose boot
// device is of no effect by Redfish.
func (s *system) byIPMI(ctx context.Context) (*ipmiLine, error) {
	if s.ipmi != nil {
		return s.ipmi, nil
	}
	var err error
	s.ipmi, err = s.c.openLibrary(anew(ctx), s.target)
	return s.ipmi, err
}

func (s *system) hangUp(ctx context.Context) {
	if s.ipmi != nil {
		s.ipmi.hangUp(ctx)
	}
	s.redfish.hangUp(ctx)
}

func (s *system) boots(ctx context.Context, b Boot) (bool, error) {
	if s.target.Quirks.BootByIPMI {
		l, err := s.byIPMI(ctx)
		if err != nil {
			return false, err
		}
		return l.boots(ctx, b)
	}
	m, err := s.read(ctx)
	if err != nil {
		return false, err
	}
	return m.Boot.is(b, s.target.Quirks), nil
}

// is reports whether the override is what was asked for. A service that shows
// no mode at all is not held to it.
func (o bootOverride) is(b Boot, q fleet.BMCQuirks) bool {
	if b.Device == NoDevice {
		return o.Enabled == "Disabled" || o.Target == bootTargets[NoDevice]
	}
	enabled := map[bool]string{true: "Once", false: "Continuous"}[b.Once]
	once := o.Enabled == enabled || b.Once && q.OnceIsForEver && o.Enabled == "Continuous"
	mode := map[bool]string{true: "Legacy", false: "UEFI"}[b.Mode == BIOS]
	return once && o.Target == bootTargets[b.Device] && (o.Mode == mode || o.Mode == "" || q.BootNoMode) &&
		(b.URL == "" || o.HTTPURI == b.URL)
}
