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
	"github.com/rackstage/provision/internal/golden"
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
			golden.Check(t, filepath.Join("testdata", "broken", name+".golden"), err.Error()+"\n")
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
	for _, pattern := range []string{"testdata/site*.yaml", "testdata/broken/*.yaml"} {
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

func TestEveryKeyOfASubnetIsRead(t *testing.T) {
	src, err := os.ReadFile("testdata/site-dhcp.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSite(src)
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr
	want := fleet.Subnet{
		Name: "row-a", CIDR: netip.MustParsePrefix("10.20.0.0/23"), Link: "row", Mode: fleet.Full, Relays: []netip.Addr{ip("10.20.0.1")},
		Ranges:  []fleet.AddrRange{{First: ip("10.20.0.100"), Last: ip("10.20.1.200")}},
		Exclude: []fleet.AddrRange{{First: ip("10.20.0.150"), Last: ip("10.20.0.150")}, {First: ip("10.20.0.160"), Last: ip("10.20.0.169")}},
		Router:  ip("10.20.0.1"), DNS: []netip.Addr{ip("10.20.0.2"), ip("10.20.0.3")}, NTP: []netip.Addr{ip("10.20.0.4")},
		Domain: "row.example.org", Search: []string{"row.example.org", "example.org"}, MTU: 9000,
		Routes: []fleet.Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: ip("10.20.0.5")}}, MSRoutes: true,
		Server: ip("10.20.0.10"), Lease: 8 * 3600, UnknownLease: 180, UnknownShare: 25, NoProbe: true, BOOTP: true,
		KnownDHCP: []netip.Addr{ip("10.20.0.12"), ip("fe80::1")}, KnownDUIDs: []string{"0003000152540012abcd"},
		Options: []fleet.DHCPOption{
			{Code: 150, Data: []byte{10, 20, 0, 7, 10, 20, 0, 8}},
			{Code: 252, Data: []byte("http://wpad.example.org/wpad.dat")},
			{Code: 19, Data: []byte{0}},
			{Code: 23, Data: []byte{64}},
			{Code: 22, Data: []byte{5, 220}},
			{Code: 35, Data: []byte{0, 0, 0, 60}},
		},
		Classes: []fleet.DHCPClass{
			{
				Name: "phones", Match: fleet.ClassMatch{Vendor: "Cisco ", MACPrefix: "00:1b:54"}, Lease: 86400,
				Ranges:  []fleet.AddrRange{{First: ip("10.20.1.201"), Last: ip("10.20.1.250")}},
				Options: []fleet.DHCPOption{{Code: 43, Data: []byte("\x01\x05voice\x02\x02\x0a\x0b")}},
			},
			{
				Name: "old-loader", Match: fleet.ClassMatch{User: "gpxe", Arch: []int{0, 7}, CircuitID: "67652d302f302f", RemoteID: "6c6561662d31"},
				BootFile: "pxelinux.0", BootServer: ip("10.20.0.9"),
			},
		},
		Reservations: []fleet.Reservation{
			{MAC: "00:1b:54:00:00:01", Addr: ip("10.20.0.20"), Hostname: "printer", Options: []fleet.DHCPOption{{Code: 6, Data: []byte{10, 20, 0, 11}}}},
			{ClientID: "01001b54000002", Addr: ip("10.20.0.21")},
			{CircuitID: "67652d302f302f37", RemoteID: "001b54000003", Addr: ip("10.20.0.22")},
		},
	}
	same := cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
	if diff := cmp.Diff(want, got.Subnets[0], same); diff != "" {
		t.Errorf("subnet (-want +got):\n%s", diff)
	}
	if got := got.Pools[0].Options; len(got) != 1 || got[0].Code != 42 || string(got[0].Data) != "\x0a\x14\x00\x06" {
		t.Errorf("options of the pool = %v", got)
	}
	if m := got.Rules[0].Match; m.CircuitPrefix != "ge-0/0/" || m.RemotePrefix != "leaf-1" {
		t.Errorf("match of the rule = %+v", m)
	}
}

func TestQuirksOfASiteAreRead(t *testing.T) {
	site, err := ParseSite([]byte("quirks:\n- {vendor: Acme, product: R1, platform: uefi-x64, loader: ipxe.efi, block_size: 1024, http: never, no_autoexec: true, reason: old firmware}\n- {mac: \"0c:c4:7a\", http: always}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []fleet.Quirk{
		{Vendor: "Acme", Product: "R1", Platform: "uefi-x64", Loader: "ipxe.efi", BlockSize: 1024, HTTP: fleet.HTTPNever, NoAutoexec: true, Reason: "old firmware"},
		{MACPrefix: "0c:c4:7a", HTTP: fleet.HTTPAlways},
	}
	if diff := cmp.Diff(want, site.Quirks); diff != "" {
		t.Errorf("quirks (-want +got):\n%s", diff)
	}
	for name, line := range map[string]string{
		"for no machine":    "{loader: ipxe.efi}",
		"a path":            "{vendor: A, loader: ../ipxe.efi}",
		"a hidden file":     "{vendor: A, loader: .ipxe.efi}",
		"a block too small": "{vendor: A, block_size: 100}",
		"a block too large": "{vendor: A, block_size: 9000}",
		"HTTP sometimes":    "{vendor: A, http: sometimes}",
		"half a byte":       "{mac: \"0c:c\"}",
		"an unknown key":    "{vendor: A, tftp: never}",
	} {
		if _, err := ParseSite([]byte("quirks:\n- " + line + "\n")); err == nil {
			t.Errorf("%s: %s was taken", name, line)
		}
	}
}
