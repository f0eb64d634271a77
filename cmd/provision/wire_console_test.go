package main

import (
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestWhichConsolesAreRecorded(t *testing.T) {
	site, err := ParseSite([]byte(`
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools:
  - {name: always, stage: prd, profile: docker, console: record}
  - {name: sometimes, stage: prd, profile: docker}
`))
	if err != nil {
		t.Fatal(err)
	}
	bmc := fleet.BMC{Address: "10.77.1.11"}
	tests := map[string]struct {
		node fleet.Node
		want bool
	}{
		"a node that a run works on":         {fleet.Node{Pool: "sometimes", Run: "sometimes-1", Approved: true, BMC: bmc}, true},
		"one that none does":                 {fleet.Node{Pool: "sometimes", Approved: true, BMC: bmc}, false},
		"one of a pool that wants it always": {fleet.Node{Pool: "always", Approved: true, BMC: bmc}, true},
		"one there that nobody has approved": {fleet.Node{Pool: "always", BMC: bmc}, false},
		"one there without a BMC":            {fleet.Node{Pool: "always", Approved: true, Run: "always-1"}, false},
		"a machine in no pool":               {fleet.Node{BMC: bmc}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := recordsConsole(site, tt.node); got != tt.want {
				t.Errorf("recordsConsole = %t, want %t", got, tt.want)
			}
		})
	}
}
