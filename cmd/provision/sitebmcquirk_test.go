package main

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

// wholeProfile has everything set, so that nothing is lost on the way.
var wholeProfile = fleet.BMCProfile{
	Vendor: "Contoso", Product: "BMC 3000", Firmware: "1.7",
	Quirks: fleet.BMCQuirks{
		Profile: "contoso-bmc-3000", Interval: 2 * time.Second, Settle: 90 * time.Second, CipherSuite: 3, NoSessions: true, BitRate: 57600, Console: fleet.ConsoleSSH,
		BootByIPMI: true, BootUnreadable: true, BootNoMode: true, BootNoValid: true, BootNeedsOff: true, OnceIsForEver: true, NoSoft: true, NoReset: true,
	},
}

func TestAProfileOfABMCIsReadAsItWasWritten(t *testing.T) {
	text, err := yaml.Marshal(siteFile{BMCQuirks: []bmcQuirkFile{profileFileOf(wholeProfile)}}.BMCQuirks)
	if err != nil {
		t.Fatal(err)
	}
	site, err := ParseSite([]byte("bmc_quirks:\n" + string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fleet.BMCProfile{wholeProfile}, site.BMCProfiles); diff != "" {
		t.Error(diff)
	}
}

func TestACheckWritesAProfileThatTheSiteTakes(t *testing.T) {
	n := fleet.Node{Inventory: fleet.Inventory{Vendor: "Contoso, Ltd.", Product: "Rack: 1U \"G2\"\n#"}}
	r := fleet.BMCCheck{Model: fleet.BMCModel{Vendor: "AMI", Product: "BMC", Firmware: "1.70"}, Quirks: wholeProfile.Quirks}
	text := bmcProfileYAML(n, r)
	site, err := ParseSite([]byte("bmc_quirks:\n" + text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	n.BMC.Model = r.Model
	got := site.BMCQuirksOf(n)
	want := wholeProfile.Quirks
	want.Profile = "contoso-ltd-rack-1u-g2-1-70"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, text)
	}
	if got := bmcProfileYAML(n, fleet.BMCCheck{Quirks: fleet.BMCQuirks{Profile: "known"}}); got != "" {
		t.Errorf("nothing has to be known, and the profile is %s", got)
	}
}

func TestAMistakeInAProfileOfABMCIsShownInItsPlace(t *testing.T) {
	tests := map[string]string{
		"{name: x, vendor: Contoso, settle: soon}": `"soon" is not a time`,
		"{name: x, vendor: Contoso, cipher: 3}":    "cipher",
		"{name: x, settle: 2m}":                    "say which BMCs it is for",
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			_, err := ParseSite([]byte("bmc_quirks:\n  - " + text + "\n"))
			if err == nil || !strings.Contains(err.Error()+fleet.HintOf(err), want) {
				t.Errorf("ParseSite = %v, want %q in it", err, want)
			}
		})
	}
}
