package bmc_test

import (
	"errors"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestRedfishBootsWhatItIsTold(t *testing.T) {
	t.Parallel()
	const boot = "http://10.0.0.1/boot/ipxe.efi"
	stale := redfish.Boot{Enabled: "Once", Target: "UefiHttp", Mode: "UEFI", URL: "http://10.0.0.9/old.efi"}
	tests := map[string]struct {
		boot   bmc.Boot
		faults redfish.Faults
		quirks fleet.BMCQuirks
		before redfish.Boot
		want   redfish.Boot
		err    error
	}{
		"the network, once": {boot: bmc.Boot{Device: bmc.PXE, Once: true}, want: redfish.Boot{Enabled: "Once", Target: "Pxe", Mode: "UEFI"}},
		"the network, with a BIOS, for ever": {
			boot: bmc.Boot{Device: bmc.PXE, Mode: bmc.BIOS}, want: redfish.Boot{Enabled: "Continuous", Target: "Pxe", Mode: "Legacy"},
		},
		"the CD":               {boot: bmc.Boot{Device: bmc.CDROM, Once: true}, want: redfish.Boot{Enabled: "Once", Target: "Cd", Mode: "UEFI"}},
		"the firmware's setup": {boot: bmc.Boot{Device: bmc.Setup, Once: true}, want: redfish.Boot{Enabled: "Once", Target: "BiosSetup", Mode: "UEFI"}},
		"a URL": {
			boot: bmc.Boot{Device: bmc.HTTP, Once: true, URL: boot}, faults: redfish.Faults{HTTPNeedsURL: true},
			want: redfish.Boot{Enabled: "Once", Target: "UefiHttp", Mode: "UEFI", URL: boot},
		},
		"a URL where only DHCP's is taken": {
			boot: bmc.Boot{Device: bmc.HTTP, Once: true}, faults: redfish.Faults{HTTPNeedsURL: true}, err: bmc.ErrNoEffect,
		},
		"the network after a URL, where a stale one is refused": {
			boot: bmc.Boot{Device: bmc.PXE, Once: true}, faults: redfish.Faults{RefusesStaleURL: true}, before: stale,
			want: redfish.Boot{Enabled: "Once", Target: "Pxe", Mode: "UEFI", URL: stale.URL}, // of no effect
		},
		"where a PATCH needs an ETag": {
			boot: bmc.Boot{Device: bmc.Disk, Once: true}, faults: redfish.Faults{NeedsETag: true}, want: redfish.Boot{Enabled: "Once", Target: "Hdd", Mode: "UEFI"},
		},
		"a service that forgets":       {boot: bmc.Boot{Device: bmc.PXE, Once: true}, faults: redfish.Faults{LyingBoot: true}, err: bmc.ErrNoEffect},
		"a service that has no PATCH":  {boot: bmc.Boot{Device: bmc.PXE, Once: true}, faults: redfish.Faults{NoPatch: true}, err: bmc.ErrUnsupported},
		"a service that shows no once": {boot: bmc.Boot{Device: bmc.PXE, Once: true}, faults: redfish.Faults{OnceIsContinuous: true}, err: bmc.ErrNoEffect},
		"the same, which is known of it": {
			boot: bmc.Boot{Device: bmc.PXE, Once: true}, faults: redfish.Faults{OnceIsContinuous: true}, quirks: fleet.BMCQuirks{OnceIsForEver: true},
			want: redfish.Boot{Enabled: "Once", Target: "Pxe", Mode: "UEFI"},
		},
		"a service that shows and takes no mode": {
			boot: bmc.Boot{Device: bmc.PXE, Once: true}, faults: redfish.Faults{NoMode: true}, quirks: fleet.BMCQuirks{BootNoMode: true},
			want: redfish.Boot{Enabled: "Once", Target: "Pxe", Mode: "UEFI"},
		},
		"a service that shows nothing, which is known of it": {
			boot: bmc.Boot{Device: bmc.PXE, Once: true}, faults: redfish.Faults{LyingBoot: true}, quirks: fleet.BMCQuirks{BootUnreadable: true},
			want: redfish.NoOverride,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &redfish.Memory{}
			if err := m.SetBoot(t.Context(), tt.before); err != nil {
				t.Fatal(err)
			}
			target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Machine: m}}})
			target = probed(t, target)
			target.Quirks = tt.quirks
			target.Quirks.Settle = longEnough
			s.SetFaults(tt.faults)
			err := quick().SetNextBoot(t.Context(), target, tt.boot)
			if !errors.Is(err, tt.err) {
				t.Errorf("SetNextBoot = %v, want %v", err, tt.err)
			}
			if got, _ := m.Boot(t.Context()); tt.err == nil && got != tt.want {
				t.Errorf("it would boot %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestNonsenseIsNotAsked(t *testing.T) {
	tests := map[string]bmc.Boot{
		"a URL of a file":        {Device: bmc.HTTP, URL: "file:///etc/passwd"},
		"a URL with another way": {Device: bmc.PXE, URL: "http://10.0.0.1/x"},
		"HTTP boot of a BIOS":    {Device: bmc.HTTP, Mode: bmc.BIOS},
		"another kind of mode":   {Device: bmc.PXE, Mode: "coreboot"},
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			err := quick().SetNextBoot(t.Context(), bmc.Target{Address: "192.0.2.1"}, b)
			if fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("SetNextBoot = %v (%s), want invalid", err, fleet.KindOf(err))
			}
		})
	}
}
