package dhcp

import (
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// A PXE boot menu that holds the local boot alone, without a prompt: the form of
// PXE 2.1 §2.3.
const localMenu = "\x06\x01\x03\x0a\x04\x00PXE\x09\x0c\x00\x00\x09HTTP boot\xff"

func TestPXEOfAModelThatBootsByHTTPIsToldToEnd(t *testing.T) {
	quirk := fleet.Quirk{HTTP: fleet.HTTPAlways, Reason: "so"}
	tests := map[string]struct {
		quirk fleet.Quirk
		state fleet.State
		class string
		arch  uint8
		want  string // option 43
		file  bool
		left  bool // to HTTP boot
	}{
		"its PXE":                   {quirk, "", "PXEClient:Arch:00007", 7, localMenu, false, true},
		"its HTTP boot":             {quirk, "", "HTTPClient:Arch:00016", 16, "", true, false},
		"its PXE, and has a system": {quirk, fleet.Active, "PXEClient:Arch:00007", 7, localMenu, false, false},
		"it gets nothing anyway":    {quirk, fleet.Quarantined, "PXEClient:Arch:00007", 7, "", false, false},
		"PXE of another":            {fleet.Quirk{}, "", "PXEClient:Arch:00007", 7, "", true, false},
		"HTTP boot of nobody's":     {fleet.Quirk{HTTP: fleet.HTTPNever}, "", "HTTPClient:Arch:00016", 16, "", false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(fleet.Full))
			ts.o.Quirk = func(pxe.Request, fleet.Node) fleet.Quirk { return tt.quirk }
			if tt.state != "" {
				ts.nodes[macA] = fleet.Node{State: tt.state, MAC: macA}
			}
			got, _ := ts.put(packet(macA, discover, firmware(tt.class, tt.arch)).ToBytes(), byBroadcast())
			if kindOf(got) != offer || string(got.Options[43]) != tt.want || (got.Options[67] != nil) != tt.file {
				t.Errorf("answer = %v, option 43 %q; want an offer with %q", got, got.Options[43], tt.want)
			}
			if ev := ts.seen.events[0]; ev.PassedOn != tt.left {
				t.Errorf("the fact says that it is left to HTTP: %t, want %t", ev.PassedOn, tt.left)
			}
			if tt.want != "" && string(got.Options[60]) != "PXEClient" {
				t.Errorf("vendor class %q: firmware looks at no menu without it", got.Options[60])
			}
		})
	}
}

// Whether firmware is left to HTTP boot depends on whether it can be told.
func TestWhoDecidesKnowsWhetherPXECanBeToldToEnd(t *testing.T) {
	for mode, want := range map[fleet.DHCPMode]bool{fleet.Full: false, fleet.Proxy: true} {
		ts := newTestServer(t, rackSubnet(mode))
		var asked []bool
		ts.o.Quirk = func(r pxe.Request, _ fleet.Node) fleet.Quirk {
			asked = append(asked, r.NoPassOn)
			return fleet.Quirk{}
		}
		ts.put(packet(macA, discover, firmware("PXEClient:Arch:00007:UNDI:003000", 7)).ToBytes(), byBroadcast())
		if len(asked) != 1 || asked[0] != want {
			t.Errorf("%s: NoPassOn is %v, want %t once", mode, asked, want)
		}
	}
}

// A loader is on trial where we have told a machine to load it, and nowhere else.
func TestSilenceNamesNoLoader(t *testing.T) {
	for mode, want := range map[fleet.DHCPMode]string{fleet.Full: "snponly.efi", fleet.Proxy: "snponly.efi", fleet.Observe: "", fleet.Reserved: ""} {
		ts := newTestServer(t, rackSubnet(mode))
		ts.put(packet(macA, discover, firmware("PXEClient:Arch:00007:UNDI:003000", 7)).ToBytes(), byBroadcast())
		if len(ts.seen.events) != 1 || ts.seen.events[0].File != want {
			t.Errorf("%s: %+v, want one that names %q", mode, ts.seen.events, want)
		}
	}
}
