package bmc_test

import (
	"errors"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestAVendorsDriverSwitchesAndTheStandardBoots(t *testing.T) {
	t.Parallel()
	m := &redfish.Memory{}
	target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "System.Embedded.1", Machine: m, Facts: redfish.Facts{Vendor: "Dell Inc."}}}})
	target.Driver = fleet.DriverDell
	target = probed(t, target)
	if target.Driver != fleet.DriverDell || target.Pin == "" || target.System != "/redfish/v1/Systems/System.Embedded.1" {
		t.Fatalf("probed is %+v", target)
	}
	c := quick()
	for op, want := range map[fleet.PowerOp]bool{fleet.PowerOn: true, fleet.PowerReset: true, fleet.PowerSoft: false} {
		if err := m.Do(t.Context(), redfish.PowerOn); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Switch(t.Context(), target, op); err != nil || m.IsOn() != want {
			t.Errorf("power %s: %v; it is on: %t", op, err, m.IsOn())
		}
	}
	if err := c.SetNextBoot(t.Context(), target, bmc.Boot{Device: bmc.PXE, Once: true}); err != nil {
		t.Error(err)
	}
	if got, _ := m.Boot(t.Context()); got.Target != "Pxe" || got.Mode != "UEFI" {
		t.Errorf("it would boot %+v", got)
	}
	if got := s.Sessions(); got != 0 {
		t.Errorf("%d sessions are left", got)
	}
}

func TestAVendorsDriverNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		vendor string
		change func(*testing.T, *bmc.Target, *redfish.Service)
		want   error
	}{
		"a BMC of another vendor": {"Contoso", func(*testing.T, *bmc.Target, *redfish.Service) {}, bmc.ErrUnsupported},
		"a wrong password":        {"Dell Inc.", func(_ *testing.T, b *bmc.Target, _ *redfish.Service) { b.Password = "Wr0ngPassw0rd" }, bmc.ErrLogin},
		"another certificate": {"Dell Inc.", func(t *testing.T, _ *bmc.Target, s *redfish.Service) {
			t.Helper()
			other, err := redfish.Certificate("127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			s.SetCertificate(other)
		}, bmc.ErrPin},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, s := startRedfish(t, redfish.Options{Systems: []redfish.System{{Facts: redfish.Facts{Vendor: tt.vendor}}}})
			target = probed(t, target) // as plain Redfish
			target.Driver = fleet.DriverDell
			tt.change(t, &target, s)
			if _, err := quick().Power(t.Context(), target); !errors.Is(err, tt.want) || fleet.HintOf(err) == "" {
				t.Errorf("Power = %v, want %v", err, tt.want)
			}
		})
	}
}
