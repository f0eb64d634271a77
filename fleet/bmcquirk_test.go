package fleet

import (
	"strings"
	"testing"
	"time"
)

func TestAProfileFitsTheBMCsThatItNames(t *testing.T) {
	n := Node{Inventory: Inventory{Vendor: "Contoso Ltd.", Product: "Rack 1U"}, BMC: BMC{Model: BMCModel{Vendor: "AMI", Product: "BMC 3000", Firmware: "1.73.4"}}}
	unknown := n
	unknown.BMC.Model = BMCModel{}
	tests := map[string]struct {
		profile BMCProfile
		node    Node
		want    bool
	}{
		"by the machine":             {BMCProfile{Vendor: "contoso", Product: "rack 1u"}, n, true},
		"by the BMC":                 {BMCProfile{Vendor: "ami", Product: "bmc 3000"}, n, true},
		"by both":                    {BMCProfile{Vendor: "contoso", Product: "BMC 3000"}, n, true},
		"another product":            {BMCProfile{Vendor: "contoso", Product: "Rack 2U"}, n, false},
		"by its firmware":            {BMCProfile{Vendor: "ami", Firmware: "1.73"}, n, true},
		"another firmware":           {BMCProfile{Vendor: "ami", Firmware: "1.74"}, n, false},
		"firmware that nobody knows": {BMCProfile{Vendor: "contoso", Firmware: "1.73"}, unknown, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.profile.Quirks.Profile = "p"
			s := Site{BMCProfiles: []BMCProfile{{Vendor: "nobody"}, tt.profile}}
			if got := s.BMCQuirksOf(tt.node).Profile == "p"; got != tt.want {
				t.Errorf("it fits: %t, want %t", got, tt.want)
			}
		})
	}
}

func TestAProfileThatMakesNoSenseIsRefused(t *testing.T) {
	tests := map[string]struct {
		profile BMCProfile
		want    string // path
	}{
		"of no BMC":               {BMCProfile{Quirks: BMCQuirks{Profile: "p"}}, "bmc_quirks[0]"},
		"without a name":          {BMCProfile{Vendor: "x"}, "bmc_quirks[0].name"},
		"with an endless pause":   {BMCProfile{Vendor: "x", Quirks: BMCQuirks{Profile: "p", Interval: time.Hour}}, "bmc_quirks[0].interval"},
		"with endless patience":   {BMCProfile{Vendor: "x", Quirks: BMCQuirks{Profile: "p", Settle: time.Hour}}, "bmc_quirks[0].settle"},
		"with a suite of its own": {BMCProfile{Vendor: "x", Quirks: BMCQuirks{Profile: "p", CipherSuite: 18}}, "bmc_quirks[0].cipher_suite"},
		"with an odd bit rate":    {BMCProfile{Vendor: "x", Quirks: BMCQuirks{Profile: "p", BitRate: 1200}}, "bmc_quirks[0].bit_rate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Site{BMCProfiles: []BMCProfile{tt.profile}}.Validate()
			if err == nil || !strings.Contains(err.Error(), tt.want+":") {
				t.Errorf("Validate = %v, want trouble with %s", err, tt.want)
			}
		})
	}
}
