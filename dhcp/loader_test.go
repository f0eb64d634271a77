package dhcp

import (
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestAMachineThatHasNoLoaderIsAnAlarm(t *testing.T) {
	tests := map[string]struct {
		mode fleet.DHCPMode
		arch uint8
		on   string
	}{
		"32-bit UEFI":                    {fleet.Full, 6, "uefi-ia32 machines on subnet rack"},
		"an architecture of no meaning":  {fleet.Full, 27, "architecture 27 machines on subnet rack"},
		"beside another server":          {fleet.Proxy, 6, "uefi-ia32 machines on subnet rack"},
		"what has one is none":           {fleet.Full, 7, ""},
		"where we only look on, nor are": {fleet.Observe, 6, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := newTestServer(t, rackSubnet(tt.mode))
			in := packet(macB, discover, firmware("PXEClient:Arch:00006:UNDI:003000", tt.arch))
			ts.put(in.ToBytes(), byBroadcast())
			for _, on := range []string{"uefi-ia32 machines on subnet rack", "architecture 27 machines on subnet rack"} {
				detail := ts.alarms.detail(fleet.CodeNoLoader, on)
				if (on == tt.on) != strings.Contains(detail, "no loader for ") {
					t.Errorf("alarm about %s is %q", on, detail)
				}
			}
		})
	}
}
