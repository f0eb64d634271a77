package main

import (
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestAPoolSaysWhatRunsDoToFirmwareAndSettings(t *testing.T) {
	tests := map[string]struct {
		yaml           string
		firmware, bios fleet.SetupPolicy
	}{
		"nothing, unless it is asked for": {"", fleet.SetupLeave, fleet.SetupLeave},
		"nothing, when it says so":        {", firmware: leave, bios: leave", fleet.SetupLeave, fleet.SetupLeave},
		"as declared, or not at all":      {", firmware: update, bios: apply", fleet.SetupDemand, fleet.SetupDemand},
		"where that can be":               {", firmware: where-possible, bios: where-possible", fleet.SetupPossible, fleet.SetupPossible},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			site, err := ParseSite([]byte("stages: [{name: prd}]\nprofiles: [{name: p, image: debian-12}]\npools: [{name: prd, stage: prd, profile: p" + tt.yaml + "}]\n"))
			if err != nil {
				t.Fatal(err)
			}
			if p := site.Pools[0]; p.Firmware != tt.firmware || p.BIOS != tt.bios {
				t.Errorf("firmware %q, bios %q; want %q, %q", p.Firmware, p.BIOS, tt.firmware, tt.bios)
			}
		})
	}
}
