package fleet

import "testing"

// A later target takes the place of an earlier one for the same component, so
// that no run goes back and forth between two versions.
func TestTheLaterTargetCounts(t *testing.T) {
	s := Site{Firmware: []FirmwareTarget{
		{Vendor: "Contoso", Component: "BIOS", Version: "1"},
		{Vendor: "Contoso", Component: "BMC", Version: "7"},
		{Vendor: "acme", Component: "BIOS", Version: "9"},
		{Model: "1u", Component: "bios", Version: "2"},
	}}
	diff := s.FirmwareDiff("Contoso Ltd.", "Rack 1U", []Firmware{{ID: "BIOS", Version: "1"}, {ID: "BMC", Version: "7"}})
	if len(diff) != 1 || diff[0].Component != "BIOS" || diff[0].Is != "1" || diff[0].Want != "2" {
		t.Errorf("FirmwareDiff = %+v, want BIOS 1 to 2 alone", diff)
	}
}

// What was approved is what was shown: what a run does before it touches a disk
// is part of the plan.
func TestAPlanIsAnotherWhenMoreIsDoneFirst(t *testing.T) {
	p := Plan{Pool: "prd", Items: []PlanItem{{Node: "n-1", Class: Add}}}
	was := p.Hash()
	p.Items = []PlanItem{{Node: "n-1", Class: Add, Before: []string{"firmware BIOS 1 to 2"}}}
	if p.Hash() == was {
		t.Error("the plan with new firmware has the same hash")
	}
}
