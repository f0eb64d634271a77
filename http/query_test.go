package http

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestSearch(t *testing.T) {
	node := fleet.Node{
		ID: "n-00000000aa", Name: "prd-r03-06", MAC: "3c:ec:ef:03:06:49", MACs: []fleet.MAC{"3c:ec:ef:03:06:49", "3c:ec:ef:03:06:50"},
		Addr: netip.MustParseAddr("10.20.3.16"), UUID: "4c4c4544-0000-2010-8020-80c04f202020", State: fleet.Failed, Pool: "prd", Stage: "prd",
		Role: fleet.Worker, Phase: fleet.PhaseDHCP, BMC: fleet.BMC{Address: "10.99.3.16"}, Failure: fleet.Failure{Code: "E-DHCP"},
		Inventory: fleet.Inventory{Arch: "amd64", Serial: "S4K:11756", AssetTag: "A-77", Vendor: "Lenovo", Product: "ThinkSystem"},
	}
	tests := map[string]bool{
		"": true, "  ": true,
		"prd-r03": true, "PRD-R03": true, "r04": false, "-r04": true, "-r03": false,
		"3c:ec:ef": true, "06:50": true, "aa:bb": false,
		"10.20.3": true, "10.99": true, "4c4c4544": true, "s4k:11756": true, "a-77": true, "thinksys": true,
		"state:failed": true, "state:failed,ready": true, "state:ready": false, "-state:ready": true, "state:new": false,
		"pool:prd": true, "pool:dev,prd": true, "-pool:prd": false, "stage:prd": true, "role:worker": true, "role:manager": false,
		"arch:amd64": true, "-arch:arm64": true, "phase:dhcp": true, "code:e-dhcp": true,
		"state:failed pool:prd -arch:arm64 3c:ec:ef": true, "state:failed pool:dev": false,
	}
	for query, want := range tests {
		f, err := parseFilter(query)
		if err != nil {
			t.Errorf("%q: %v", query, err)
			continue
		}
		if got := f.holds(node); got != want {
			t.Errorf("%q holds = %v, want %v", query, got, want)
		}
	}
}

func TestASearchThatMeansNothingIsAnError(t *testing.T) {
	for query, hint := range map[string]string{
		"stat:failed": `"state"`, "poool:prd": `"pool"`, "state:faild": `"failed"`, "state:": "", "zzzzzzzz:1": "known are", strings.Repeat("x", 600): "",
	} {
		_, err := parseFilter(query)
		if fleet.KindOf(err) != fleet.Invalid || !strings.Contains(fleet.HintOf(err), hint) {
			t.Errorf("%.40q: %v, hint %q; want an Invalid error with hint %q", query, err, fleet.HintOf(err), hint)
		}
	}
}

func FuzzSearch(f *testing.F) {
	f.Add("state:failed,new -pool:prd 3c:ec")
	f.Add("-:- : ::1 -")
	f.Fuzz(func(t *testing.T, query string) {
		if found, err := parseFilter(query); err == nil {
			found.holds(fleet.Node{MAC: "52:54:00:00:00:01"})
		}
	})
}
