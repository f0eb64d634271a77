package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/fleet"
)

const accountsSite = `
stages: [{name: prd}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: prd, stage: prd, profile: docker}]
subnets: [{name: bmcs, cidr: 10.77.1.0/24, mode: full, oob: true, ranges: [10.77.1.100-10.77.1.200]}]
bmc_accounts:
  - {vendor: Contoso, mac: "aa:bb:cc", serial: C0, username: root, password_file: DIR/factory}
  - {username: admin, password_file: DIR/factory}
rules:
  - {name: ours, match: {vendor: Contoso}, pool: prd, bmc: {username: ops}}
  - {name: theirs, match: {vendor: Acme}, pool: prd, bmc: {enrol: false}}
  - {name: given, pool: prd, bmc: {username: admin, password_file: DIR/given}}
`

func TestASiteSaysWhichBMCAccountsAreOurs(t *testing.T) {
	site, err := ParseSite([]byte(accountsSite))
	if err != nil {
		t.Fatal(err)
	}
	if s := site.Subnets[0]; s.UnknownShare != 100 || s.UnknownLease != 3600 {
		t.Errorf("BMCs, whom nobody approves, get %d %% of the addresses for %d s", s.UnknownShare, s.UnknownLease)
	}
	if !site.Subnets[0].OOB || site.Subnets[0].CIDR != netip.MustParsePrefix("10.77.1.0/24") {
		t.Errorf("the subnet of BMCs is %+v", site.Subnets[0])
	}
	want := []fleet.FactoryAccount{
		{Vendor: "Contoso", MACPrefix: "aa:bb:cc", Serial: "C0", Username: "root", PasswordFile: "DIR/factory"},
		{Username: "admin", PasswordFile: "DIR/factory"},
	}
	if diff := cmp.Diff(want, site.Factory); diff != "" {
		t.Error(diff)
	}
	for i, want := range []bool{true, false, false} {
		if got := site.Rules[i].BMC.MakesAccount(); got != want {
			t.Errorf("rule %s makes accounts: %t, want %t", site.Rules[i].Name, got, want)
		}
	}
}

func TestPasswordsOfASiteAreSealedAndStayTheSame(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"factory": "calvin\n", "given": "secret\r\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sealer, err := access.OpenSealer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	site, err := ParseSite([]byte(strings.ReplaceAll(accountsSite, "DIR", dir)))
	if err != nil {
		t.Fatal(err)
	}
	if err := sealBMCPasswords(&site, fleet.Site{}, sealer); err != nil {
		t.Fatal(err)
	}
	for want, sealed := range map[string]string{"calvin": site.Factory[0].SealedPassword, "secret": site.Rules[2].BMC.SealedPassword} {
		if got, err := sealer.Open(sealed, bmcSecret); err != nil || string(got) != want {
			t.Errorf("a password is %q, %v, want %q", got, err, want)
		}
	}
	again, err := ParseSite([]byte(strings.ReplaceAll(accountsSite, "DIR", dir)))
	if err != nil {
		t.Fatal(err)
	}
	if err := sealBMCPasswords(&again, site, sealer); err != nil {
		t.Fatal(err)
	}
	if again.Factory[1].SealedPassword = site.Factory[1].SealedPassword; !cmp.Equal(site, again, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})) {
		t.Error("the same site is another after it was read once more")
	}
	if err := os.WriteFile(filepath.Join(dir, "factory"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sealBMCPasswords(&again, site, sealer); fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "bmc_accounts[0].password_file") {
		t.Errorf("an empty file: %v", err)
	}
}
