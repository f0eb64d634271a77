package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/pxe/tftp"
)

func TestATransferIsToldInOneLine(t *testing.T) {
	base := tftp.Transfer{
		Client: netip.MustParseAddrPort("10.1.0.7:2070"), Local: netip.MustParseAddrPort("10.1.0.1:40123"),
		Name: "snponly.efi", Size: 284672, Sent: 284672, Block: 1468, Window: 4, Packets: 194, RTT: 1234567, Duration: 61 * time.Millisecond,
	}
	with := func(change func(*tftp.Transfer)) tftp.Transfer {
		t := base
		change(&t)
		return t
	}
	tests := map[string]struct {
		transfer tftp.Transfer
		want     string
	}{
		"all went well": {base, "snponly.efi by TFTP, 284672 bytes in 61ms, block 1468, window 4, round trip 1.23ms"},
		"with losses": {
			with(func(t *tftp.Transfer) { t.Resent = 3 }),
			"snponly.efi by TFTP, 284672 bytes in 61ms, block 1468, window 4, round trip 1.23ms, 3 of 194 packets sent again",
		},
		"the client broke off": {
			with(func(t *tftp.Transfer) {
				t.Sent, t.RTT, t.Err = 1468, 0, &tftp.AbortedError{Code: 3, Text: "disk\nfull"}
			}),
			`snponly.efi by TFTP failed: the client broke off: error 3 "disk\nfull"; 1468 bytes in 61ms, block 1468, window 4 of 284672`,
		},
		"the file could not be opened": {
			with(func(t *tftp.Transfer) { t.Block, t.Err = 0, errors.New("permission denied") }),
			"snponly.efi by TFTP failed: permission denied",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := transferText(tt.transfer); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestAFirewallThatDropsTheAnswersIsNamedWithItsFix(t *testing.T) {
	got := transferText(tftp.Transfer{
		Client: netip.MustParseAddrPort("10.1.0.7:2070"), Local: netip.MustParseAddrPort("10.1.0.1:40123"),
		Name: "snponly.efi", Size: 284672, Block: 1468, Window: 4, Packets: 6, Err: tftp.ErrUnheard,
	})
	for _, want := range []string{"none of 6 packets from our port 40123", "tftp.single_port: true", "10.1.0.7"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}
