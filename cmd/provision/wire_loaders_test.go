package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestABMCIsGivenTheURLThatDHCPWouldTell(t *testing.T) {
	server := netip.MustParseAddrPort("10.77.0.1:8080")
	tests := map[string]struct {
		node  fleet.Node
		quirk fleet.Quirk
		want  string // "" for none
	}{
		"of a server on x86-64":             {fleet.Node{State: fleet.Ready}, fleet.Quirk{}, "http://10.77.0.1:8080/boot/snponly.efi"},
		"of one on ARM":                     {fleet.Node{Inventory: fleet.Inventory{Arch: "arm64"}}, fleet.Quirk{}, "http://10.77.0.1:8080/boot/ipxe-arm64.efi"},
		"of one with a quirk":               {fleet.Node{State: fleet.Failed}, fleet.Quirk{Loader: "ipxe.efi"}, "http://10.77.0.1:8080/boot/ipxe.efi"},
		"of one that has a system":          {fleet.Node{State: fleet.Installing, System: fleet.System{Disk: "vda"}}, fleet.Quirk{}, "http://10.77.0.1:8080/boot/snponly.efi"},
		"of one with a BIOS: there is none": {fleet.Node{Inventory: fleet.Inventory{Firmware: "bios"}}, fleet.Quirk{}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.node.MAC = "52:54:00:00:00:01"
			got, err := loaderURL(tt.node, server, tt.quirk)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("loaderURL = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestARuleSaysThatItsMachinesBootByHTTP(t *testing.T) {
	const site = "stages: [{name: prd}]\nprofiles: [{name: docker, image: debian-12}]\npools: [{name: prd, stage: prd, profile: docker}]\n" +
		"rules: [{name: all, pool: prd, bmc: {boot: WAY}}]\n"
	for way, want := range map[string]fleet.BootMethod{"http": fleet.BootHTTP, "media": fleet.BootMedia, "media, driver: supermicro": fleet.BootMedia, "media, driver: ipmi": "refused", "pxe": fleet.BootPXE, `""`: fleet.BootPXE, "floppy": "refused"} {
		t.Run(way, func(t *testing.T) {
			got, err := ParseSite([]byte(strings.Replace(site, "WAY", way, 1)))
			if want == "refused" {
				if err == nil {
					t.Error("it is taken")
				}
				return
			}
			if err != nil || got.Rules[0].BMC.Boot != want {
				t.Errorf("ParseSite = %+v, %v, want %q", got.Rules, err, want)
			}
		})
	}
}
