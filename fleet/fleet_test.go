package fleet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestEveryStateCanBeLeftAndReached(t *testing.T) {
	reached := map[State]bool{Discovered: true}
	for from, next := range transitions {
		for _, to := range next {
			reached[to] = true
			if from == to {
				t.Errorf("%s lists itself", from)
			}
		}
	}
	for _, s := range States() {
		if !reached[s] || len(transitions[s]) == 0 {
			t.Errorf("%s: reached %t, ways out %d; want both", s, reached[s], len(transitions[s]))
		}
	}
}

func TestTransitions(t *testing.T) {
	tests := map[string]struct {
		from, to State
		want     bool
	}{
		"a stranger is not installed":           {Discovered, Installing, false},
		"an active node is not installed over":  {Active, Installing, false},
		"an active node leaves by draining":     {Active, Draining, true},
		"a ready node is installed":             {Ready, Installing, true},
		"a state follows itself":                {Joining, Joining, true},
		"a node in quarantine is not installed": {Quarantined, Installing, false},
		"a node in rescue is not installed":     {Rescue, Installing, false},
		"a broken member is rescued":            {Active, Rescue, true},
		"and is a member again":                 {Rescue, Active, true},
		"a stranger is not rescued":             {Discovered, Rescue, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := CanFollow(tt.from, tt.to); got != tt.want {
				t.Errorf("CanFollow(%s, %s) = %t, want %t", tt.from, tt.to, got, tt.want)
			}
			if err := CheckTransition(tt.from, tt.to); (err == nil) != tt.want {
				t.Errorf("CheckTransition = %v", err)
			}
		})
	}
}

func TestChooseDisk(t *testing.T) {
	const gib = 1 << 30
	small := Disk{ID: "a", Name: "sda", Serial: "S1", Bytes: 1 * gib}
	ssd := Disk{ID: "b", Name: "sdb", Serial: "S2", Bytes: 100 * gib}
	hdd := Disk{ID: "c", Name: "sdc", Serial: "S3", Bytes: 4000 * gib, Rotational: true}
	stick := Disk{ID: "d", Name: "sdd", Serial: "S4", Bytes: 64 * gib, Removable: true}
	twin := Disk{ID: "aa", Name: "sde", Serial: "S5", Bytes: 100 * gib}
	all := []Disk{hdd, stick, ssd, small}
	tests := map[string]struct {
		rule  DiskRule
		disks []Disk
		want  string
		code  Code
	}{
		"the smallest that is big enough": {DiskRule{}, all, "b", ""},
		"the largest on request":          {DiskRule{Largest: true}, all, "c", ""},
		"by serial":                       {DiskRule{Serial: "S3"}, all, "c", ""},
		"by type":                         {DiskRule{Type: "hdd"}, all, "c", ""},
		"of equals the first by ID":       {DiskRule{}, []Disk{ssd, twin}, "aa", ""},
		"never a removable one":           {DiskRule{}, []Disk{stick}, "", "E-DISK-NONE"},
		"too small":                       {DiskRule{}, []Disk{small}, "", "E-DISK-SMALL"},
		"none at all":                     {DiskRule{}, nil, "", "E-DISK-NONE"},
		"none that matches":               {DiskRule{Serial: "S9"}, all, "", "E-DISK-NONE"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ChooseDisk(tt.rule, tt.disks, 2*gib)
			if got.ID != tt.want || CodeOf(err) != tt.code {
				t.Errorf("ChooseDisk = %q, %v; want %q, code %q", got.ID, err, tt.want, tt.code)
			}
			if err != nil && HintOf(err) == "" {
				t.Error("the error has no hint")
			}
		})
	}
}

// The capture of OVMF in dhcp/testdata has these bytes in option 97.
func TestAUUIDOfSMBIOSIsTurnedRound(t *testing.T) {
	raw := [16]byte{0x7b, 0xb4, 0x07, 0x97, 0x01, 0x02, 0x03, 0x04, 5, 6, 7, 8, 9, 10, 11, 12}
	if got, want := UUIDFromSMBIOS(raw), "9707b47b-0201-0403-0506-0708090a0b0c"; got != want {
		t.Errorf("UUID = %s, want %s", got, want)
	}
}

func TestCleanTextTakesNoControlCharacters(t *testing.T) {
	got := CleanText(" a\r\n{{.}}\x00\x1b[31m" + strings.Repeat("x", 500))
	if strings.ContainsAny(got, "\r\n\x00\x1b") || len([]rune(got)) != 256 {
		t.Errorf("CleanText = %q", got)
	}
}

func TestAHostIsCalledByTheFirstLabelOfItsName(t *testing.T) {
	tests := map[string]string{
		"node-7":                         "node-7",
		"Node-7":                         "node-7",
		"Node-7.example.com":             "node-7",
		"NODE-7.RACK.EXAMPLE.":           "node-7",
		"node-7.":                        "node-7",
		"node-7.my_site.example":         "node-7", // Active Directory has such domains
		"7":                              "7",
		strings.Repeat("n", 63) + ".ex":  strings.Repeat("n", 63),
		"":                               "",
		".":                              "",
		".rack.example":                  "",
		"node_7.rack":                    "",
		"-node.rack":                     "",
		"10.77.0.1":                      "",
		"fd77::1":                        "",
		"node 7":                         "",
		"node-7\x00evil":                 "",
		"node-7.rack\x1b[31m":            "",
		"node-7.<script>":                "",
		"node-7'; drop table leases":     "",
		"node-7\xff":                     "",
		"node-7.\xc3":                    "",
		"\u212anode":                     "", // the kelvin sign, of which Unicode makes a k
		strings.Repeat("n", 64):          "",
		"n." + strings.Repeat("n.", 127): "",
		"node-7.rack.example.\u200b":     "",
	}
	for name, want := range tests {
		if got := HostLabel(name); got != want {
			t.Errorf("HostLabel(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzNormalisersAreIdempotent(f *testing.F) {
	f.Add("52-54-00-12-34-56")
	f.Add("9707B47B-0201-0403-0506-0708090A0B0C")
	f.Add("Node-7.example.com")
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseMAC(s); err == nil {
			if again, err := ParseMAC(string(m)); again != m || err != nil {
				t.Errorf("ParseMAC(%q) = %q, %v", m, again, err)
			}
		}
		if u, err := ParseUUID(s); err == nil {
			if again, err := ParseUUID(u); again != u || err != nil {
				t.Errorf("ParseUUID(%q) = %q, %v", u, again, err)
			}
		}
		if h := HostLabel(s); h != "" && (!ValidName(h) || HostLabel(h) != h) {
			t.Errorf("HostLabel(%q) = %q", s, h)
		}
		if c := CleanText(s); CleanText(c) != c {
			t.Errorf("CleanText(%q) = %q", c, CleanText(c))
		}
	})
}

func TestRulesMatchWhatWasDiscovered(t *testing.T) {
	site := Site{
		Subnets: []Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("10.0.0.0/24")}},
		Rules: []Rule{
			{Name: "port", Match: Match{SwitchPortPrefix: "sw1/Eth1/"}},
			{Name: "lenovo", Match: Match{Vendor: "lenovo", Subnet: "rack"}},
			{Name: "tag", Match: Match{AssetTag: "prd-*"}},
			{Name: "mac", Match: Match{MACPrefix: "52:54:00"}},
		},
	}
	tests := map[string]struct {
		node Node
		want string
	}{
		"by switch port":       {Node{Inventory: Inventory{NICs: []NIC{{LLDP: LLDP{System: "sw1", Port: "Eth1/7"}}}}}, "port"},
		"by vendor and subnet": {Node{Addr: netip.MustParseAddr("10.0.0.7"), Inventory: Inventory{Vendor: "LENOVO"}}, "lenovo"},
		"not by vendor alone":  {Node{Inventory: Inventory{Vendor: "LENOVO"}}, ""},
		"by asset tag":         {Node{Inventory: Inventory{AssetTag: "prd-17"}}, "tag"},
		"by the card's maker":  {Node{MAC: "52:54:00:00:00:01"}, "mac"},
		"nobody's":             {Node{MAC: "00:00:00:00:00:01"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if r, _ := site.MatchRule(tt.node); r.Name != tt.want {
				t.Errorf("rule %q, want %q", r.Name, tt.want)
			}
		})
	}
}

func TestManagersOfAStageAddUp(t *testing.T) {
	pool := func(name PoolName, managers int) Pool {
		return Pool{Name: name, Stage: "prd", Profile: "p", Cluster: Swarm, Managers: managers}
	}
	tests := map[string]struct {
		pools []Pool
		ok    bool
	}{
		"one":                    {[]Pool{pool("a", 1)}, true},
		"two is one too many":    {[]Pool{pool("a", 2)}, false},
		"one and one make two":   {[]Pool{pool("a", 1), pool("b", 1)}, false},
		"three and workers only": {[]Pool{pool("a", 3), pool("b", 0)}, true},
		"none at all":            {[]Pool{pool("a", 0)}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := Site{Stages: []Stage{{Name: "prd"}}, Profiles: []Profile{{Name: "p", Image: "i"}}, Pools: tt.pools}
			if err := s.Validate(); (err == nil) != tt.ok {
				t.Errorf("Validate = %v, want ok %t", err, tt.ok)
			}
		})
	}
}

func TestNearestIsWhatWasMeant(t *testing.T) {
	have := []string{"dev", "tst", "prd"}
	for got, want := range map[string]string{"prod": "prd", "dve": "dev", "zebra-rack": ""} {
		if near := Nearest(got, have); near != want {
			t.Errorf("Nearest(%q) = %q, want %q", got, near, want)
		}
	}
}

func TestAnErrorTellsWhatWasTried(t *testing.T) {
	err := &Error{Kind: Unreachable, Code: "E-X", Op: "power on", On: "node a", Hint: "do that", Err: errors.New("refused")}
	wrapped := errors.Join(errors.New("other"), err)
	if got, want := err.Error(), "power on node a: refused"; got != want {
		t.Errorf("Error = %q, want %q", got, want)
	}
	if KindOf(wrapped) != Unreachable || KindOf(errors.New("x")) != Internal || KindOf(nil) != "" {
		t.Error("KindOf is wrong")
	}
}

func TestAddressesAndUUIDsHaveOneForm(t *testing.T) {
	for s, want := range map[string]MAC{
		"52:54:00:12:34:ab": "52:54:00:12:34:ab", "52-54-00-12-34-AB": "52:54:00:12:34:ab", "5254.0012.34ab": "52:54:00:12:34:ab",
		"52:54-00:12:34:ab": "", "52:54:00:12:34:ag": "", "52:54:00:12:34": "", "52 54 00 12 34 ab": "", "525400:12:34:ab:cd": "", "": "",
	} {
		if got, err := ParseMAC(s); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseMAC(%q) = %q, %v; want %q", s, got, err, want)
		}
	}
	const uuid = "9707b47b-0201-0403-0506-0708090a0b0c"
	for s, want := range map[string]string{
		uuid: uuid, strings.ToUpper(uuid): uuid, strings.ReplaceAll(uuid, "-", ""): uuid, "97-07b47b02010403-05060708090a0b0c": uuid,
		uuid[:35]: "", uuid[:35] + "g": "", uuid[:8] + "0" + uuid[9:]: "", "": "",
	} {
		if got, err := ParseUUID(s); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseUUID(%q) = %q, %v; want %q", s, got, err, want)
		}
	}
}
