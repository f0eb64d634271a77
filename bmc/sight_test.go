package bmc_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestABMCIsGreetedWithoutSigningIn(t *testing.T) {
	t.Parallel()
	service, counted := startRedfish(t, redfish.Options{Vendor: "Contoso\x1b[31m"})
	service.Driver = ""
	tests := map[string]struct {
		target bmc.Target
		want   bmc.Sight
	}{
		"Redfish": {service, bmc.Sight{Driver: fleet.DriverRedfish, Vendor: "Contoso[31m"}},
		"IPMI":    {startSim(t), bmc.Sight{Driver: fleet.DriverIPMI}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.target.Password = "Wr0ngPassw0rd"
			got, err := quick().Greet(t.Context(), tt.target)
			if err != nil || got != tt.want {
				t.Errorf("Greet = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	if c := counted.Counts(); c.Refused+c.Logins > 0 {
		t.Errorf("somebody signed in: %+v", c)
	}
	if _, err := quick().Greet(t.Context(), bmc.Target{Address: "127.0.0.1:" + bmctest.FreePort(t)}); !errors.Is(err, bmc.ErrClosed) {
		t.Errorf("nobody there: %v, want %v", err, bmc.ErrClosed)
	}
}

func TestABMCSaysWhichMachineItIsIn(t *testing.T) {
	t.Parallel()
	service, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: redfish.Facts{
		UUID: "7AB00077-0000-4000-8000-525400770001", Serial: "C0FFEE", Vendor: "Contoso", Model: "R1",
		NICs: []redfish.NIC{{ID: "1", MAC: "52:54:00:77:00:01"}, {ID: "2", MAC: "52:54:00:77:00:02"}},
	}}}})
	arm, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: redfish.Facts{
		UUID: "7AB00077-0000-4000-8000-525400770003", Serial: "COCOA", Vendor: "Contoso", Model: "A1", ARM: true,
		NICs: []redfish.NIC{{ID: "1", MAC: "52:54:00:77:00:03"}},
	}}}})
	sim := startSim(t)
	sim.Driver = fleet.DriverIPMI
	tests := map[string]struct {
		target bmc.Target
		want   bmc.Machine
	}{
		"by Redfish": {probed(t, service), bmc.Machine{
			UUID: "7ab00077-0000-4000-8000-525400770001", Serial: "C0FFEE", Vendor: "Contoso", Product: "R1", Arch: "amd64",
			MACs: []fleet.MAC{"52:54:00:77:00:01", "52:54:00:77:00:02"},
		}},
		"an arm64 one, by Redfish": {probed(t, arm), bmc.Machine{
			UUID: "7ab00077-0000-4000-8000-525400770003", Serial: "COCOA", Vendor: "Contoso", Product: "A1", Arch: "arm64",
			MACs: []fleet.MAC{"52:54:00:77:00:03"},
		}},
		"by IPMI": {sim, bmc.Machine{UUID: "00000000-0000-0000-0000-000000000001", Swapped: "00000000-0000-0000-0000-000000000001"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := quick().Identify(t.Context(), tt.target)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("Identify: %v (-want +got)\n%s", err, diff)
			}
		})
	}
}
