package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rackstage/provision/lab"
)

func TestLabStatusIsATableWithoutSecrets(t *testing.T) {
	var out strings.Builder
	err := printRack(&out, []lab.Status{
		{Machine: lab.Machine{Name: "n1", Firmware: lab.BIOS, MAC: "52:54:00:77:00:01", BMC: lab.BMC{Speaks: lab.Both, Address: netip.MustParseAddr("10.77.1.11"), Password: "secret"}}, On: true, BMC: true, Boot: "pxe"},
		{Machine: lab.Machine{Name: "n2", Firmware: lab.UEFI, MAC: "52:54:00:77:00:02", BMC: lab.BMC{Speaks: lab.IPMI}}},
	}, func(name string) (string, error) { return "/rack/" + name + "/console.log", nil })
	if err != nil {
		t.Fatal(err)
	}
	want := `MACHINE  FIRMWARE  MAC                POWER  BMC         SPEAKS  NEXT-BOOT  CONSOLE-LOG
n1       bios      52:54:00:77:00:01  on     10.77.1.11  both    pxe        /rack/n1/console.log
n2       uefi      52:54:00:77:00:02  off    down        ipmi    -          /rack/n2/console.log
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", &out, want)
	}
}
