package redfish_test

import (
	"testing"

	"github.com/stmcginnis/gofish"
	gofishred "github.com/stmcginnis/gofish/redfish"

	"github.com/rackstage/provision/lab/redfish"
)

// TestAnIndependentClientUnderstandsTheService drives the service with gofish,
// which was written against real ones.
func TestAnIndependentClientUnderstandsTheService(t *testing.T) {
	m := new(redfish.Memory)
	c := start(t, redfish.Options{Systems: []redfish.System{{ID: "437XR1138R2", Machine: m}}})
	g, err := gofish.ConnectContext(t.Context(), gofish.ClientConfig{
		Endpoint: "https://" + c.v.Addr(), Username: "admin", Password: "Secret123Secret1", HTTPClient: c.client,
	})
	if err != nil {
		t.Fatal(err)
	}
	systems, err := g.Service.Systems()
	if err != nil || len(systems) != 1 {
		t.Fatalf("%d systems, %v", len(systems), err)
	}
	x := systems[0]
	if x.ID != "437XR1138R2" || x.PowerState != gofishred.OffPowerState || x.SerialNumber != "RF7700001" || x.MemorySummary.TotalSystemMemoryGiB != 16 {
		t.Errorf("the system is %s, %s, %s, %v GiB", x.ID, x.PowerState, x.SerialNumber, x.MemorySummary.TotalSystemMemoryGiB)
	}
	if err := x.SetBoot(gofishred.Boot{BootSourceOverrideTarget: gofishred.PxeBootSourceOverrideTarget, BootSourceOverrideEnabled: gofishred.OnceBootSourceOverrideEnabled}); err != nil {
		t.Error(err)
	}
	if err := x.Reset(gofishred.OnResetType); err != nil {
		t.Error(err)
	}
	if boots := m.Boots(); len(boots) != 1 || boots[0].Target != "Pxe" {
		t.Errorf("the machine has started with %+v", boots)
	}
	looks := map[string]func() (int, error){
		"processors": func() (int, error) { l, err := x.Processors(); return len(l), err },
		"memory":     func() (int, error) { l, err := x.Memory(); return len(l), err },
		"interfaces": func() (int, error) { l, err := x.EthernetInterfaces(); return len(l), err },
		"storage":    func() (int, error) { l, err := x.Storage(); return len(l), err },
		"drives": func() (int, error) {
			l, err := x.Storage()
			if err != nil {
				return 0, err
			}
			d, err := l[0].Drives()
			return len(d), err
		},
		"logs": func() (int, error) { l, err := x.LogServices(); return len(l), err },
		"accounts": func() (int, error) {
			s, err := g.Service.AccountService()
			if err != nil {
				return 0, err
			}
			l, err := s.Accounts()
			return len(l), err
		},
		"virtual media": func() (int, error) {
			l, err := g.Service.Managers()
			if err != nil {
				return 0, err
			}
			v, err := l[0].VirtualMedia()
			return len(v), err
		},
		"bios": func() (int, error) {
			b, err := x.Bios()
			if err != nil {
				return 0, err
			}
			return 1, b.UpdateBiosAttributes(gofishred.SettingsAttributes{"SysProfile": "Performance"})
		},
		"chassis with sensors": func() (int, error) {
			l, err := g.Service.Chassis()
			if err != nil {
				return 0, err
			}
			th, err := l[0].Thermal()
			if err != nil {
				return 0, err
			}
			return len(th.Fans), err
		},
	}
	for name, look := range looks {
		if n, err := look(); err != nil || n != 1 {
			t.Errorf("%s: %d, %v, want 1", name, n, err)
		}
	}
	g.Logout()
	if n := c.v.Service.Sessions(); n != 0 {
		t.Errorf("%d sessions after the logout", n)
	}
}
