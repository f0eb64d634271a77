package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rackstage/provision/fleet"
)

func TestTheExampleSiteIsWhatItSays(t *testing.T) {
	src, err := os.ReadFile("testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSite(src)
	if err != nil {
		t.Fatal(err)
	}
	gateway := netip.MustParseAddr("10.77.0.1")
	want := fleet.Site{
		Stages: []fleet.Stage{{Name: "prd", Registry: "dckhub.prd.example:5000"}},
		Profiles: []fleet.Profile{{
			Name: "docker", Image: "debian-12", Disk: fleet.DiskRule{MinGiB: 8, Type: "ssd"}, Kernel: []string{"console=ttyS0"},
			SSHKey: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampl admin@example"},
		}},
		Pools: []fleet.Pool{{Name: "prd", Stage: "prd", Profile: "docker", Cluster: fleet.Swarm, Managers: 1, Labels: map[string]string{"tier": "general"}, Trust: fleet.T1}},
		Subnets: []fleet.Subnet{{
			Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24"), Mode: fleet.Full, Domain: "rack.example", Lease: 3600,
			Ranges: []fleet.AddrRange{{First: netip.MustParseAddr("10.77.0.100"), Last: netip.MustParseAddr("10.77.0.200")}},
			Router: gateway, DNS: []netip.Addr{gateway}, NTP: []netip.Addr{gateway},
		}},
		Rules: []fleet.Rule{{
			Name: "rack machines", Match: fleet.Match{MACPrefix: "52:54:00", Subnet: "rack"}, Pool: "prd", Approve: true,
			BMC: fleet.BMCAccess{Username: "admin", PasswordFile: "/etc/provision/bmc-password"},
		}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("site (-want +got):\n%s", diff)
	}
}

// Each testdata/broken/*.yaml has its error beside it.
func TestBrokenSitesAreShownWithLineArrowAndSuggestion(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no broken sites: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, err = ParseSite(src)
			if err == nil {
				t.Fatal("no error")
			}
			if got := fleet.KindOf(err); got != fleet.Invalid {
				t.Errorf("kind %q, want %q", got, fleet.Invalid)
			}
			golden(t, filepath.Join("broken", name+".golden"), err.Error()+"\n")
		})
	}
}

func TestSitesThatAreBombsAreRefused(t *testing.T) {
	tests := map[string]string{
		"a megabyte of brackets": strings.Repeat("[", maxYAML),
		"brackets on lines":      strings.Repeat("[\n", maxYAML/2),
		"brackets in a key":      "stages: " + strings.Repeat("{a: ", 10_000),
		"a long row of dashes":   strings.Repeat("- ", maxYAML/2),
		"a long row of queries":  strings.Repeat("? ", maxYAML/2),
		"deep indentation":       deepIndent(1000),
		"a crowd of pools":       "pools:\n" + strings.Repeat("- name: a\n", maxEntries+1),
		"too large":              strings.Repeat("# x\n", maxYAML/2),
		"no text":                "stages: \xff\xfe",
		"aliases of aliases":     "stages: &a [{name: x}]\npools: &b [*a, *a]\nrules: [*b, *b]\n",
	}
	for name, src := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseSite([]byte(src)); err == nil {
				t.Error("no error")
			}
		})
	}
}

func deepIndent(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func FuzzParseSite(f *testing.F) {
	for _, pattern := range []string{"testdata/site.yaml", "testdata/broken/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			src, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		site, err := ParseSite(src)
		if err == nil && site.Validate() != nil {
			t.Error("a site that was read is not valid")
		}
	})
}
