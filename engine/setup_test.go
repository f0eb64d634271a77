package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

// state is what the machine has now.
func (w *workshop) state() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("BMC %s, BIOS %s, SysProfile %s", w.versions["BMC"], w.versions["BIOS"], w.settings["SysProfile"])
}

// setupSite declares firmware and BIOS settings for the machines of a rack.
func setupSite(firmware, bios fleet.SetupPolicy) fleet.Site {
	site := testSite()
	site.Pools[0].Firmware, site.Pools[0].BIOS = firmware, bios
	site.Profiles[0].BIOS = []fleet.BIOSSettings{{Vendor: "qemu", Set: map[string]string{"SysProfile": "Performance", "Boot": "Uefi"}}}
	site.Firmware = []fleet.FirmwareTarget{
		{Vendor: "QEMU", Component: "BMC", Version: "2.0", URL: "http://10.0.0.1/bmc-2.0.bin"},
		{Vendor: "QEMU", Component: "BIOS", Version: "2.1", URL: "http://10.0.0.1/bios-2.1.bin"},
		{Vendor: "acme", Component: "GPU", Version: "9", URL: "http://10.0.0.1/gpu-9.bin"},
	}
	return site
}

// orders is how many orders and questions about the power its BMCs have heard.
func (r *rack) orders() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard
}

// record is what the events of a run say until the machine's disk is touched.
func (r *rack) record() (lines []string) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	for _, ev := range r.store.events {
		if ev.Run != "" && (ev.Type == fleet.EventEvidence && ev.Actor == "engine" || ev.Type == fleet.EventPower) {
			lines = append(lines, ev.Text)
		}
	}
	return lines
}

func TestARunSeesToFirmwareAndSettingsBeforeTheDisk(t *testing.T) {
	withShop(t, 1, setupSite(fleet.SetupDemand, fleet.SetupDemand), newWorkshop(), func(t *testing.T, r *rack) {
		e := r.server
		p, err := e.Plan(t.Context(), "prd")
		want := []string{
			"firmware BMC 2.0, BIOS 2.1, where it has other versions; its BMC has not said yet",
			"BIOS settings Boot, SysProfile, where they differ, with a restart",
		}
		if diff := cmp.Diff(want, p.Items[0].Before); err != nil || diff != "" {
			t.Errorf("plan: %v (-want +got):\n%s", err, diff)
		}
		run := over(t, e, start(t, e).ID)
		if run.State != fleet.RunDone {
			t.Errorf("run is %s, want done: %+v", run.State, run.Nodes)
		}
		if got, want := strings.Join(r.wipedAs, "; "), "BMC 2.0, BIOS 2.1, SysProfile Performance"; got != want {
			t.Errorf("when its disk was wiped the machine had %s, want %s", got, want)
		}
		want = []string{
			"firmware of BMC: 1.0 to 2.0, from http://10.0.0.1/bmc-2.0.bin",
			"firmware of BMC is 2.0, read back",
			"firmware of BIOS: 1.0 to 2.1, from http://10.0.0.1/bios-2.1.bin",
			"power cycle, was on, is on (for firmware of BIOS)",
			"firmware of BIOS is 2.1, read back",
			"BIOS settings: SysProfile PerfPerWatt to Performance",
			"power cycle, was on, is on (for BIOS settings)",
			"BIOS settings are as declared, read back after the restart",
			"next boot from the network, power cycle, was on, is on (run prd-0001)",
		}
		if diff := cmp.Diff(want, r.record()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		var phases []string
		for _, at := range run.Nodes[0].Times {
			phases = append(phases, string(at.Phase))
		}
		if got, want := strings.Join(phases[:4], " "), "firmware bios power dhcp"; got != want {
			t.Errorf("phases %s …, want %s …", got, want)
		}
	})
}

func TestWhatIsAsDeclaredNeedsNoRestart(t *testing.T) {
	site, w := setupSite(fleet.SetupDemand, fleet.SetupDemand), newWorkshop()
	site.Rules[0].BMC.Driver = fleet.DriverRedfish
	w.versions = map[string]string{"BMC": "2.0", "BIOS": "2.1"}
	w.settings["SysProfile"] = "Performance"
	withShop(t, 1, site, w, func(t *testing.T, r *rack) {
		e := r.server
		if _, _, err := e.Examine(t.Context(), string(e.Nodes()[0].ID)); err != nil {
			t.Fatal(err)
		}
		p, err := e.Plan(t.Context(), "prd")
		if want := []string{"BIOS settings Boot, SysProfile, where they differ, with a restart"}; err != nil || !slices.Equal(p.Items[0].Before, want) {
			t.Errorf("plan: %q, %v; want %q", p.Items[0].Before, err, want)
		}
		run := over(t, e, start(t, e).ID)
		want := []string{"firmware: as declared", "BIOS settings: as declared", "next boot from the network, power cycle, was on, is on (run prd-0001)"}
		if diff := cmp.Diff(want, r.record()); run.State != fleet.RunDone || diff != "" {
			t.Errorf("run is %s, events (-want +got):\n%s", run.State, diff)
		}
	})
}

func TestByPolicyAMachineIsInstalledAsItIs(t *testing.T) {
	ipmi := func(site *fleet.Site, _ *workshop) { site.Rules[0].BMC.Driver = fleet.DriverIPMI }
	noUpdate := func(_ *fleet.Site, w *workshop) { w.unsupported = true }
	component := func(site *fleet.Site, _ *workshop) { site.Firmware[0].Component = "NIC" }
	noBMC := func(site *fleet.Site, _ *workshop) {
		site.Rules[0].BMC, site.Pools[0].Trust = fleet.BMCAccess{}, fleet.T0
	}
	setting := func(site *fleet.Site, _ *workshop) { site.Profiles[0].BIOS[0].Set["NoSuch"] = "1" }
	tests := map[string]struct {
		policy fleet.SetupPolicy
		spoil  func(site *fleet.Site, w *workshop)
		plan   string // a line of it
		code   fleet.Code
		notes  int
		wiped  string
	}{
		"nobody asks for it": {"", noUpdate, "", "", 0, "BMC 1.0, BIOS 1.0, SysProfile PerfPerWatt"},
		"by IPMI it fails": {
			fleet.SetupDemand, ipmi, "firmware will fail, unsupported: by driver ipmi that cannot be done, by Redfish it can (E-BMC-UNSUPPORTED)",
			fleet.CodeBMCUnsupported, 0, "",
		},
		"by IPMI it may stay": {
			fleet.SetupPossible, ipmi, "BIOS settings left as it is, unsupported: by driver ipmi that cannot be done, by Redfish it can (E-BMC-UNSUPPORTED)",
			"", 2, "BMC 1.0, BIOS 1.0, SysProfile PerfPerWatt",
		},
		"without a BMC it fails":           {fleet.SetupDemand, noBMC, "", "E-BMC-NONE", 0, ""},
		"without a BMC it may stay":        {fleet.SetupPossible, noBMC, "", "", 2, "BMC 1.0, BIOS 1.0, SysProfile PerfPerWatt"},
		"without SimpleUpdate it fails":    {fleet.SetupDemand, noUpdate, "", fleet.CodeBMCUnsupported, 0, ""},
		"without SimpleUpdate it may stay": {fleet.SetupPossible, noUpdate, "", "", 2, "BMC 1.0, BIOS 1.0, SysProfile Performance"},
		"without a component it fails":     {fleet.SetupDemand, component, "", fleet.CodeBMCUnsupported, 0, ""},
		"without a component it may stay":  {fleet.SetupPossible, component, "", "", 1, "BMC 1.0, BIOS 2.1, SysProfile Performance"},
		"without a setting it fails":       {fleet.SetupDemand, setting, "", fleet.CodeBMCUnsupported, 0, ""},
		"without a setting it may stay":    {fleet.SetupPossible, setting, "", "", 1, "BMC 2.0, BIOS 2.1, SysProfile Performance"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			site, w := setupSite(tt.policy, tt.policy), newWorkshop()
			tt.spoil(&site, w)
			withShop(t, 1, site, w, func(t *testing.T, r *rack) {
				e := r.server
				p, err := e.Plan(t.Context(), "prd")
				if lines := p.Items[0].Before; err != nil || tt.plan != "" && !slices.Contains(lines, tt.plan) || tt.policy == "" && len(lines) > 0 {
					t.Errorf("plan: %q, %v; want %q", lines, err, tt.plan)
				}
				n := over(t, e, start(t, e).ID).Nodes[0]
				if n.Failure.Code != tt.code || len(n.Notes) != tt.notes {
					t.Errorf("failure %+v, notes %q; want %q, %d", n.Failure, n.Notes, tt.code, tt.notes)
				}
				if got := strings.Join(r.wipedAs, "; "); got != tt.wiped {
					t.Errorf("when its disk was wiped the machine had %q, want %q", got, tt.wiped)
				}
			})
		})
	}
}

func TestADiskIsLeftAloneWhenItsMachineIsNotAsDeclared(t *testing.T) {
	tests := map[string]struct {
		spoil func(w *workshop)
		code  fleet.Code
		phase fleet.Phase
		begun int
	}{
		"an update fails, twice":     {func(w *workshop) { w.fails = "BMC" }, fleet.CodeBMCRejected, fleet.PhaseFirmware, 2},
		"the version does not come":  {func(w *workshop) { w.forgets = true }, fleet.CodeBMCFirmware, fleet.PhaseFirmware, 2},
		"settings are not taken":     {func(w *workshop) { w.deaf = true }, fleet.CodeBMCBIOS, fleet.PhaseBIOS, 2},
		"the BMC falls silent first": {func(w *workshop) { w.silent = true }, fleet.CodeBMCTimeout, fleet.PhaseFirmware, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorkshop()
			tt.spoil(w)
			withShop(t, 1, setupSite(fleet.SetupPossible, fleet.SetupPossible), w, func(t *testing.T, r *rack) {
				n := over(t, r.server, start(t, r.server).ID).Nodes[0]
				if n.Failure.Code != tt.code || n.Failure.Phase != tt.phase || n.Failure.Hint == "" && tt.code != fleet.CodeBMCRejected && tt.code != fleet.CodeBMCTimeout {
					t.Errorf("failure %+v; want %s in %s", n.Failure, tt.code, tt.phase)
				}
				if len(w.begun) != tt.begun || len(r.wipedAs) != 0 {
					t.Errorf("begun %q, wiped %q; want %d and none", w.begun, r.wipedAs, tt.begun)
				}
			})
		})
	}
}

// The server is killed at every single save, in turn. No image is started
// twice, and the machine is as declared when its disk is wiped.
func TestFirmwareOfARunSurvivesAKillAtAnyMoment(t *testing.T) {
	raise := func(t *testing.T, test func(t *testing.T, r *rack)) {
		withShop(t, 1, setupSite(fleet.SetupDemand, fleet.SetupDemand), newWorkshop(), test)
	}
	survive(t, 40, raise, func(t *testing.T, r *rack) {
		if job := r.server.Runs()[0].Nodes[0].Job; job != nil {
			t.Errorf("left of it: %+v", job)
		}
		if got, want := strings.Join(r.wipedAs, "; "), "BMC 2.0, BIOS 2.1, SysProfile Performance"; got != want {
			t.Errorf("when its disk was wiped the machine had %q, want %q", got, want)
		}
		if got := strings.Join(r.shop.begun, " "); got != "BMC BIOS" {
			t.Errorf("begun %q, want each once", got)
		}
	})
}

func TestANodeThatServesItsClusterIsNotRestartedByTheWay(t *testing.T) {
	tests := map[string]struct {
		state  fleet.State
		member string
		want   fleet.Code
	}{
		"an active node":                  {fleet.Active, "m-1", fleet.CodeNodeServes},
		"one that joins":                  {fleet.Joining, "", fleet.CodeNodeServes},
		"one that is being drained":       {fleet.Draining, "m-1", fleet.CodeNodeServes},
		"one that failed and is a member": {fleet.Failed, "m-1", fleet.CodeNodeServes},
		"one that failed and is none":     {fleet.Failed, "", ""},
		"one in maintenance":              {fleet.Maintenance, "m-1", ""},
		"a blank one":                     {fleet.Ready, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorkshop()
				w.work(t, func(e *Engine) {
					e.world.mu.Lock()
					n := e.world.nodes["n-1"]
					n.State, n.Member.NodeID = tt.state, tt.member
					e.world.nodes["n-1"] = n
					e.world.mu.Unlock()
					_, _, err := e.ApplyBIOS(t.Context(), "ada", "n-1", false)
					if got := fleet.CodeOf(err); got != tt.want || tt.want != "" && (w.starts != 0 || !strings.Contains(fleet.HintOf(err), "--force")) {
						t.Errorf("ApplyBIOS = %v, hint %q, %d starts; want %q", err, fleet.HintOf(err), w.starts, tt.want)
					}
					synctest.Wait() // the settings are read back
					_, _, err = e.UpdateFirmware(t.Context(), "ada", "n-1", fleet.UpdateOptions{Restart: true})
					if got := fleet.CodeOf(err); got != tt.want {
						t.Errorf("UpdateFirmware with a restart = %v, want %q", err, tt.want)
					}
					if tt.want == "" {
						return
					}
					if _, _, err := e.ApplyBIOS(t.Context(), "ada", "n-1", true); err != nil || w.starts != 1 {
						t.Errorf("with force: %v, %d starts", err, w.starts)
					}
					synctest.Wait()
					if _, _, err := e.UpdateFirmware(t.Context(), "ada", "n-1", fleet.UpdateOptions{}); err != nil {
						t.Errorf("without a restart: %v", err)
					}
					wait(time.Hour)
					if w.starts != 1 {
						t.Errorf("%d starts after an update without one", w.starts)
					}
				})
			})
		})
	}
}
