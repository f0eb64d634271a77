package bmc_test

import (
	"errors"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestBIOSSettingsCountFromTheNextStartOn(t *testing.T) {
	t.Parallel()
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "437XR1138R2"}}, Faults: redfish.Faults{NeedsETag: true}})
	target = probed(t, target)
	c := quick()
	want := map[string]string{"SysProfile": "Performance", "FanOffset": "20"}
	if err := c.SetBIOS(t.Context(), target, want); err != nil {
		t.Fatal(err)
	}
	b, err := c.BIOS(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if b.Attributes["SysProfile"] != "PerfPerWatt" || b.Attributes["FanOffset"] != "0" {
		t.Errorf("before a start: %v", b.Attributes)
	}
	if diff := b.Diff(want); len(diff) != 2 || !diff[0].Pending || !diff[1].Pending {
		t.Errorf("before a start: %+v, want both pending", diff)
	}
	if _, err := c.Switch(t.Context(), target, fleet.PowerOn); err != nil {
		t.Fatal(err)
	}
	if b, err = c.BIOS(t.Context(), target); err != nil || len(b.Diff(want)) != 0 {
		t.Errorf("after a start: %+v, %v", b.Diff(want), err)
	}
}

func TestBIOSSettingsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	target, s := startRedfish(t, redfish.Options{})
	target = probed(t, target)
	ipmi := startSim(t)
	ipmi.Driver = fleet.DriverIPMI
	tests := map[string]struct {
		target bmc.Target
		set    map[string]string
		faults redfish.Faults
		want   error
	}{
		"a setting that it does not have": {target, map[string]string{"NoSuch": "1"}, redfish.Faults{}, bmc.ErrUnsupported},
		"a value that it does not have":   {target, map[string]string{"SysProfile": "Fast"}, redfish.Faults{}, bmc.ErrRejected},
		"a word for a number":             {target, map[string]string{"FanOffset": "high"}, redfish.Faults{}, bmc.ErrRejected},
		"a service that takes no changes": {target, map[string]string{"FanOffset": "1"}, redfish.Faults{NoPatch: true}, bmc.ErrUnsupported},
		"a BMC without Redfish":           {ipmi, map[string]string{"FanOffset": "1"}, redfish.Faults{}, bmc.ErrUnsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s.SetFaults(tt.faults)
			if err := quick().SetBIOS(t.Context(), tt.target, tt.set); !errors.Is(err, tt.want) {
				t.Errorf("SetBIOS = %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := quick().BIOS(t.Context(), ipmi); !errors.Is(err, bmc.ErrUnsupported) || fleet.CodeOf(err) != fleet.CodeBMCUnsupported {
		t.Errorf("BIOS by IPMI = %v", err)
	}
}
