package redfish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// system is a System with what the service keeps about it.
type system struct {
	System
	BIOS string // version

	mu      sync.Mutex
	turning string            // the power state that is shown while a change is under way
	orders  sync.Mutex        // one at a time
	bios    map[string]any    // attributes
	pending map[string]any    // those that count from the next start on
	images  map[string]string // where the image in the drive came from
}

func newSystem(sys System, i int) *system {
	sys.ID = cmp.Or(sys.ID, fmt.Sprint(i+1))
	if sys.Machine == nil {
		sys.Machine = &Memory{}
	}
	sys.Facts = sys.Facts.withDefaults(i)
	return &system{System: sys, BIOS: sys.Facts.BIOSVersion, bios: defaultBIOS(), pending: map[string]any{}}
}

const systems = "/redfish/v1/Systems"

func (x *system) path() string { return systems + "/" + x.ID }

// resetTypes are what can be asked for, and what it is.
var resetTypes = map[string][]Switch{
	"On":               {PowerOn},
	"ForceOn":          {PowerOn},
	"ForceOff":         {PowerOff},
	"GracefulShutdown": {Press},
	"ForceRestart":     {Reset},
	"GracefulRestart":  {Reset},
	"PowerCycle":       {PowerOff, PowerOn},
	"Nmi":              {NMI},
}

func (s *Service) systemResources() map[string]resource {
	return map[string]resource{
		systems: {get: func(*http.Request) (object, error) {
			return list(systems, "ComputerSystemCollection", "Computer System Collection", s.systemPaths()), nil
		}},
		systems + "/{system}":                              {get: s.showSystem, patch: s.changeSystem},
		systems + "/{system}/Actions/ComputerSystem.Reset": {post: s.reset},
		systems + "/{system}/ResetActionInfo":              {get: s.resetInfo},
		systems + "/{system}/BootOptions":                  {get: s.bootOptions},
		systems + "/{system}/SecureBoot":                   {get: s.secureBoot},
	}
}

func (x *system) facts() Facts {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.Facts
}

func (x *system) label(tag string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.Facts.AssetTag = tag
}

func (s *Service) systemPaths() []string {
	var paths []string
	for _, x := range s.systems {
		paths = append(paths, x.path())
	}
	return paths
}

func (s *Service) showSystem(r *http.Request) (object, error) {
	x, err := s.system(r)
	if err != nil {
		return nil, err
	}
	state, err := x.power(r.Context(), s.Faults())
	if err != nil {
		return nil, err
	}
	boot, err := x.Machine.Boot(r.Context())
	if err != nil {
		return nil, err
	}
	p, facts := x.path(), x.facts()
	f := s.Faults()
	o := item(p, "ComputerSystem.v1_20_1.ComputerSystem", x.ID, "System", object{
		"SystemType": "Physical", "PowerState": state, "Status": fine(), "IndicatorLED": "Off",
		"Manufacturer": facts.Vendor, "Model": facts.Model, "SKU": facts.SKU, "SerialNumber": facts.Serial, "PartNumber": facts.Part,
		"AssetTag": facts.AssetTag, "UUID": facts.UUID, "HostName": facts.Host, "BiosVersion": s.versionOf("BIOS", x.BIOS),
		"Boot":             showBoot(boot, f, p),
		"ProcessorSummary": object{"Count": 1, "CoreCount": facts.CPUs, "LogicalProcessorCount": facts.CPUs, "Model": facts.CPU, "Status": fine()},
		"MemorySummary":    object{"TotalSystemMemoryGiB": float64(facts.MemoryMiB) / 1024, "Status": fine()},
		"Bios":             link(p + "/Bios"), "Processors": link(p + "/Processors"), "Memory": link(p + "/Memory"), "Storage": link(p + "/Storage"),
		"EthernetInterfaces": link(p + "/EthernetInterfaces"), "SecureBoot": link(p + "/SecureBoot"),
		"SerialConsole": serialConsole(x.Console),
		"Links":         object{"Chassis": links([]string{s.chassisPath(x)}), "ManagedBy": links([]string{s.managerPath()})},
		"Actions": object{"#ComputerSystem.Reset": object{
			"target": p + "/Actions/ComputerSystem.Reset", "@Redfish.ActionInfo": p + "/ResetActionInfo",
			"ResetType@Redfish.AllowableValues": s.resetsAllowed(),
		}},
	})
	if !f.NoLogs {
		o["LogServices"] = link(p + "/LogServices")
	}
	return o, nil
}

func (s *Service) resetsAllowed() []string {
	var names []string
	for name := range resetTypes {
		if name != "Nmi" || !s.Faults().NoNMI {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Service) resetInfo(r *http.Request) (object, error) {
	x, err := s.system(r)
	if err != nil {
		return nil, err
	}
	return item(x.path()+"/ResetActionInfo", "ActionInfo.v1_4_1.ActionInfo", "ResetActionInfo", "Reset Action Info", object{
		"Parameters": []any{object{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": s.resetsAllowed()}},
	}), nil
}

// power returns the power state, in words of the schema.
func (x *system) power(ctx context.Context, f Faults) (string, error) {
	x.mu.Lock()
	turning := x.turning
	x.mu.Unlock()
	if turning != "" && f.Transition {
		return turning, nil
	}
	on, err := x.Machine.On(ctx)
	if on {
		return "On", err
	}
	return "Off", err
}

// reset is the action ComputerSystem.Reset.
func (s *Service) reset(w http.ResponseWriter, r *http.Request, in object) error {
	x, err := s.system(r)
	if err != nil {
		return err
	}
	s.count(func(c *Counts) { c.Resets++ })
	name := text(in, "ResetType")
	switches, known := resetTypes[name]
	if !known {
		return refuse(http.StatusBadRequest, "ActionParameterNotSupported", "The parameter ResetType for the action Reset is not supported on the target resource: "+name)
	}
	on, err := x.Machine.On(r.Context())
	if err != nil {
		return err
	}
	acts, err := s.suffer(name, on)
	if err == nil && acts {
		err = s.turn(r.Context(), x, switches, on)
	}
	if errors.Is(err, ErrOff) {
		return refuse(http.StatusConflict, "ActionNotSupportedInCurrentState", "The action Reset is not possible: "+err.Error())
	}
	if err != nil {
		return err
	}
	if name == "GracefulShutdown" && s.Faults().SoftFails {
		return refuse(http.StatusInternalServerError, "InternalError", "The request failed due to an internal service error.")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// suffer reports whether a reset shall be done at all.
func (s *Service) suffer(name string, on bool) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.faults
	switch {
	case f.Error:
		return false, refuse(http.StatusInternalServerError, "InternalError", "The request failed due to an internal service error.")
	case f.NoNMI && name == "Nmi":
		return false, refuse(http.StatusNotImplemented, "ActionNotSupported", "The action Nmi is not supported by the resource.")
	case f.Strict && (on && (name == "On" || name == "ForceOn") || !on && (name == "ForceOff" || name == "GracefulShutdown")):
		return false, refuse(http.StatusConflict, "NoOperation", "The request body submitted contain no data to act upon: the power is so already.")
	case f.Swallow > 0:
		f.Swallow--
		return false, nil
	}
	return !f.Lying, nil
}

// turn moves the switches, now or later.
func (s *Service) turn(ctx context.Context, x *system, switches []Switch, on bool) error {
	slow := s.Faults().Slow
	if slow <= 0 {
		return s.move(ctx, x, switches)
	}
	if switches[0] == Reset && !on {
		return ErrOff
	}
	turning := "PoweringOn"
	if last := switches[len(switches)-1]; last == PowerOff || last == Press {
		turning = "PoweringOff"
	}
	x.setTurning(turning)
	s.later(slow, func(ctx context.Context) { //nolint:contextcheck // it outlives the request
		defer x.setTurning("")
		if err := s.move(ctx, x, switches); err != nil {
			s.log.InfoContext(ctx, "power not changed", "system", x.ID, "err", err)
		}
	})
	return nil
}

func (x *system) setTurning(state string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turning = state
}

func (s *Service) move(ctx context.Context, x *system, switches []Switch) error {
	x.orders.Lock()
	defer x.orders.Unlock()
	for _, sw := range switches {
		if sw == PowerOn || sw == Reset {
			x.applyBIOS()
			s.startFirmware()
		}
		if err := x.Machine.Do(ctx, sw); err != nil {
			return err
		}
		s.tell(x, "The system was told: "+string(sw)+".")
	}
	return nil
}

// Boot targets and modes that a system has.
var (
	bootTargets = []string{"None", "Pxe", "Hdd", "Cd", "Usb", "BiosSetup", "UefiHttp"}
	bootModes   = []string{"UEFI", "Legacy"}
	bootEnabled = []string{"Disabled", "Once", "Continuous"}
)

func showBoot(b Boot, f Faults, path string) object {
	o := object{
		"BootSourceOverrideEnabled": b.Enabled, "BootSourceOverrideTarget": b.Target, "BootSourceOverrideMode": b.Mode,
		"BootSourceOverrideTarget@Redfish.AllowableValues":  bootTargets,
		"BootSourceOverrideMode@Redfish.AllowableValues":    bootModes,
		"BootSourceOverrideEnabled@Redfish.AllowableValues": bootEnabled,
		"HttpBootUri": nil, "UefiTargetBootSourceOverride": nil, "BootOrder": []string{"Boot0001", "Boot0002"},
		"BootOptions": link(path + "/BootOptions"),
	}
	if b.URL != "" {
		o["HttpBootUri"] = b.URL
	}
	if f.OnceIsContinuous && b.Enabled == "Once" {
		o["BootSourceOverrideEnabled"] = "Continuous"
	}
	if f.NoMode {
		delete(o, "BootSourceOverrideMode")
		delete(o, "BootSourceOverrideMode@Redfish.AllowableValues")
	}
	return o
}

func (s *Service) changeSystem(r *http.Request, in object) error {
	x, err := s.system(r)
	if err != nil {
		return err
	}
	if label, ok := in["AssetTag"].(string); ok {
		x.label(label)
	}
	change, ok := in["Boot"].(object)
	if !ok {
		return nil
	}
	f := s.Faults()
	before, err := x.Machine.Boot(r.Context())
	if err != nil {
		return err
	}
	after, err := patchBoot(before, change, f)
	if err != nil || f.LyingBoot {
		return err
	}
	if on, err := x.Machine.On(r.Context()); err != nil || on && f.BootNeedsOff {
		return err
	}
	if url := after.URL; url != "" && f.FetchesURLs && url != before.URL {
		if err := s.reach(r.Context(), url); err != nil {
			return err
		}
	}
	return x.Machine.SetBoot(r.Context(), after)
}

// patchBoot works out the override that a client asks for.
func patchBoot(b Boot, change object, f Faults) (Boot, error) {
	for name, to := range map[string]struct {
		field   *string
		allowed []string
	}{
		"BootSourceOverrideEnabled": {&b.Enabled, bootEnabled},
		"BootSourceOverrideTarget":  {&b.Target, bootTargets},
		"BootSourceOverrideMode":    {&b.Mode, bootModes},
		"HttpBootUri":               {&b.URL, nil},
	} {
		value, given := change[name]
		if !given || f.NoMode && name == "BootSourceOverrideMode" {
			continue
		}
		v, ok := value.(string)
		if !ok && value != nil || to.allowed != nil && !slices.Contains(to.allowed, v) {
			return b, refuse(http.StatusBadRequest, "PropertyValueNotInList", fmt.Sprintf("The value %v for the property %s is not in the list of acceptable values.", value, name))
		}
		*to.field = v
	}
	switch {
	case b.Enabled == "Disabled":
		b.Target = "None"
	case b.Target == "None":
		b.Enabled = "Disabled"
	}
	url, _ := change["HttpBootUri"].(string)
	switch {
	case url != "" && b.Target != "UefiHttp" && f.RefusesStaleURL:
		return b, refuse(http.StatusBadRequest, "PropertyValueConflict", "The property HttpBootUri could not be written because its value would conflict with the value of the BootSourceOverrideTarget property.")
	case b.URL != "" && !strings.Contains(b.URL, "://"):
		return b, refuse(http.StatusBadRequest, "PropertyValueFormatError", "The value for the property HttpBootUri is of a different format than the property can accept.")
	case b.Target == "UefiHttp" && b.URL == "" && f.HTTPNeedsURL:
		b.Target = "Pxe"
	case b.Target == "UefiHttp" && b.Mode == "Legacy":
		return b, refuse(http.StatusBadRequest, "PropertyValueConflict", "UefiHttp is not possible in the mode Legacy.")
	}
	return b, nil
}

func (s *Service) bootOptions(r *http.Request) (object, error) {
	x, err := s.system(r)
	if err != nil {
		return nil, err
	}
	return list(x.path()+"/BootOptions", "BootOptionCollection", "Boot Options", nil), nil
}

func (s *Service) secureBoot(r *http.Request) (object, error) {
	x, err := s.system(r)
	if err != nil {
		return nil, err
	}
	return item(x.path()+"/SecureBoot", "SecureBoot.v1_1_0.SecureBoot", "SecureBoot", "UEFI Secure Boot", object{
		"SecureBootEnable": false, "SecureBootCurrentBoot": "Disabled", "SecureBootMode": "UserMode",
	}), nil
}

func serialConsole(c Console) object {
	overSSH := object{"ServiceEnabled": c.Port > 0, "Port": cmp.Or(c.Port, 22)}
	if c.Entry != "" {
		overSSH["ConsoleEntryCommand"] = c.Entry
	}
	return object{"MaxConcurrentSessions": 1, "SSH": overSSH, "IPMI": object{"ServiceEnabled": true, "Port": 623}}
}
