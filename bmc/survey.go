package bmc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A survey is a checkup by Redfish. Services have the old resources (Thermal,
// Power), the new ones (subsystems, Sensors), or both; and any of them may be
// missing or broken without the others being so.
type survey struct {
	*system
	found fleet.Checkup
	asked int // requests
}

// mostQuestions bounds the requests of one checkup, with all of a large machine.
const mostQuestions = 400

// A computer is what a checkup needs of a ComputerSystem.
type computer struct {
	PowerState                        text
	Manufacturer, Model, SerialNumber text
	PartNumber, AssetTag, UUID        text
	BiosVersion                       text
	Status                            condition
	ProcessorSummary                  struct {
		Count, CoreCount number
		Model            text
		Status           condition
	}
	MemorySummary struct {
		TotalSystemMemoryGiB number
		Status               condition
	}
	Processors, Memory, EthernetInterfaces, Storage, LogServices link
	Links                                                        struct {
		Chassis, ManagedBy []link
	}
}

func (s *survey) take(ctx context.Context, all bool) (fleet.Checkup, error) {
	var c computer
	if err := s.get(ctx, s.path, &c); err != nil {
		return s.found, err
	}
	s.found.Power = powerState(string(c.PowerState))
	s.found.Health = c.Status.health()
	for part, status := range map[string]condition{"processors": c.ProcessorSummary.Status, "memory": c.MemorySummary.Status} {
		s.judge(part, status, "")
	}
	steps := []func(context.Context, computer) error{s.chassis, s.log}
	if all {
		s.describe(c)
		steps = append(steps, s.processors, s.modules, s.cards, s.drives, s.manager, s.firmware)
	}
	for _, step := range steps {
		if err := step(ctx, c); err != nil {
			return s.found, err
		}
	}
	for _, f := range s.found.Faults {
		s.found.Health = s.found.Health.Worse(f.Health)
	}
	slices.SortStableFunc(s.found.Faults, func(a, b fleet.Fault) int {
		if a.Health != b.Health {
			return map[bool]int{true: -1, false: 1}[a.Health == fleet.HealthCritical]
		}
		return strings.Compare(a.Part, b.Part)
	})
	return s.found, nil
}

// see reads what a service may have. It reports whether it has it; an error is
// one that ends the checkup.
func (s *survey) see(ctx context.Context, path string, v any) (bool, error) {
	if s.asked++; path == "" || s.asked > mostQuestions {
		return false, nil
	}
	err := s.get(ctx, path, v)
	if err != nil && optional(ctx, err) {
		return false, nil
	}
	return err == nil, err
}

// each reads the members of a collection, of which there may be none.
func (s *survey) each(ctx context.Context, path string, most int, f func(path string) error) error {
	if path == "" {
		return nil
	}
	s.asked++
	paths, err := s.membersUpTo(ctx, path, most)
	if err != nil && optional(ctx, err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range paths {
		if err := f(p); err != nil {
			return err
		}
	}
	return nil
}

// judge keeps a part that is not well.
func (s *survey) judge(part string, c condition, detail string) {
	if h := c.health(); h.Bad() && !c.absent() {
		s.found.Faults = append(s.found.Faults, fleet.Fault{Part: fleet.CleanText(part), Health: h, Detail: fleet.CleanText(detail)})
	}
}

func (s *survey) describe(c computer) {
	s.found.Hardware = fleet.Hardware{
		Vendor: string(c.Manufacturer), Model: string(c.Model), Serial: string(c.SerialNumber), Part: string(c.PartNumber),
		UUID: strings.ToLower(string(c.UUID)), AssetTag: string(c.AssetTag),
		Cores: int(c.ProcessorSummary.CoreCount), MemoryMiB: int(c.MemorySummary.TotalSystemMemoryGiB * 1024),
	}
	if c.BiosVersion != "" {
		s.firmwareIs(fleet.Firmware{ID: "BIOS", Name: "BIOS", Version: string(c.BiosVersion)})
	}
}

// firmwareIs keeps a component, or more of one that is known.
func (s *survey) firmwareIs(f fleet.Firmware) {
	all := s.found.Hardware.Firmware
	i := slices.IndexFunc(all, func(known fleet.Firmware) bool { return strings.EqualFold(known.ID, f.ID) })
	if i < 0 {
		s.found.Hardware.Firmware = append(all, f)
		return
	}
	f.Version = cmp.Or(f.Version, all[i].Version)
	all[i] = f
}

const (
	mostProcessors = 16
	mostModules    = 64
	mostAdapters   = 32
	mostControlled = 8
	mostDrives     = 48
)

func (s *survey) processors(ctx context.Context, c computer) error {
	cores := 0
	err := s.each(ctx, localPath(c.Processors.Path), mostProcessors, func(path string) error {
		var p struct {
			ID            text `json:"Id"`
			ProcessorType text
			Model, Name   text
			TotalCores    number
			Status        condition
		}
		ok, err := s.see(ctx, path, &p)
		if !ok || p.Status.absent() || p.ProcessorType != "CPU" && p.ProcessorType != "" {
			return err
		}
		s.judge("processor "+string(cmp.Or(p.Name, p.ID)), p.Status, "")
		s.found.Hardware.Processors = append(s.found.Hardware.Processors, string(p.Model))
		cores += int(p.TotalCores)
		return nil
	})
	if s.found.Hardware.Cores == 0 {
		s.found.Hardware.Cores = cores
	}
	if len(s.found.Hardware.Processors) == 0 && c.ProcessorSummary.Model != "" {
		s.found.Hardware.Processors = []string{string(c.ProcessorSummary.Model)}
	}
	return err
}

func (s *survey) modules(ctx context.Context, c computer) error {
	size := 0
	err := s.each(ctx, localPath(c.Memory.Path), mostModules, func(path string) error {
		var m struct {
			ID            text `json:"Id"`
			DeviceLocator text
			CapacityMiB   number
			Status        condition
		}
		ok, err := s.see(ctx, path, &m)
		if ok && !m.Status.absent() {
			s.judge("memory module "+string(cmp.Or(m.DeviceLocator, m.ID)), m.Status, "")
			size += int(m.CapacityMiB)
		}
		return err
	})
	if size > 0 { // the sum in GiB is rounded, by some
		s.found.Hardware.MemoryMiB = size
	}
	return err
}

func (s *survey) cards(ctx context.Context, c computer) error {
	return s.each(ctx, localPath(c.EthernetInterfaces.Path), mostAdapters, func(path string) error {
		var n struct {
			MACAddress, PermanentMACAddress text
			Status                          condition
		}
		ok, err := s.see(ctx, path, &n)
		mac, wrong := fleet.ParseMAC(string(cmp.Or(n.PermanentMACAddress, n.MACAddress)))
		if ok && wrong == nil {
			s.found.Hardware.MACs = append(s.found.Hardware.MACs, mac)
			s.judge("network card "+string(mac), n.Status, "")
		}
		return err
	})
}

func (s *survey) drives(ctx context.Context, c computer) error {
	seen := 0
	return s.each(ctx, localPath(c.Storage.Path), mostControlled, func(path string) error {
		var controller struct {
			Name   text
			Drives []link
			Status condition
		}
		ok, err := s.see(ctx, path, &controller)
		if !ok {
			return err
		}
		s.judge("storage "+string(controller.Name), controller.Status, "")
		for _, d := range controller.Drives {
			if seen++; seen > mostDrives {
				return nil
			}
			if err := s.drive(ctx, localPath(d.Path)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *survey) drive(ctx context.Context, path string) error {
	var d struct {
		Name, SerialNumber text
		FailurePredicted   bool
		Status             condition
	}
	ok, err := s.see(ctx, path, &d)
	if !ok {
		return err
	}
	name := fmt.Sprintf("drive %s (serial %s)", d.Name, d.SerialNumber)
	if d.FailurePredicted && !d.Status.health().Bad() {
		s.judge(name, condition{Health: "Warning"}, "says that it will fail")
		return nil
	}
	s.judge(name, d.Status, "")
	return nil
}

// manager reads the version of the BMC's own firmware.
func (s *survey) manager(ctx context.Context, c computer) error {
	for _, m := range c.Links.ManagedBy[:min(len(c.Links.ManagedBy), 2)] {
		var bmc struct {
			FirmwareVersion, Model text
			Status                 condition
		}
		ok, err := s.see(ctx, localPath(m.Path), &bmc)
		if err != nil {
			return err
		}
		if ok && bmc.FirmwareVersion != "" {
			s.firmwareIs(fleet.Firmware{ID: "BMC", Name: strings.TrimSpace("BMC " + string(bmc.Model)), Version: string(bmc.FirmwareVersion)})
			s.judge("BMC", bmc.Status, "")
		}
	}
	return nil
}

func (s *survey) firmware(ctx context.Context, _ computer) error {
	none := true
	err := s.each(ctx, rootPath+"UpdateService/FirmwareInventory", fleet.MostFirmware, func(path string) error {
		var f struct {
			ID            text `json:"Id"`
			Name, Version text
			Updateable    bool
		}
		ok, err := s.see(ctx, path, &f)
		if ok && f.ID != "" {
			none = false
			s.firmwareIs(fleet.Firmware{ID: string(f.ID), Name: string(f.Name), Version: string(f.Version), Updateable: f.Updateable})
		}
		return err
	})
	if none {
		s.lacks("firmware inventory")
	}
	return err
}

func (s *survey) lacks(what string) { s.found.Lacks = append(s.found.Lacks, what) }
