package pxe_test

import (
	"net/netip"
	"testing"

	"github.com/rackstage/provision/pxe"
)

func TestBootFilesOverIPv6AreURLs(t *testing.T) {
	tests := map[string]struct {
		plan pxe.Plan
		req  pxe.Request
		want string
	}{
		"UEFI PXE gets a loader by TFTP": {pxe.Plan{File: "snponly.efi"}, pxe.Request{Firmware: pxe.ROM}, "tftp://[fd77::1]/snponly.efi"},
		"UEFI HTTP boot gets it by HTTP": {pxe.Plan{File: "snponly.efi", ByHTTP: true}, pxe.Request{Firmware: pxe.HTTP}, "http://[fd77::1]/boot/snponly.efi"},
		"the port of the listener is named": {
			pxe.Plan{File: "snponly.efi", ByHTTP: true}, pxe.Request{Firmware: pxe.HTTP, Port: 8080}, "http://[fd77::1]:8080/boot/snponly.efi",
		},
		"iPXE gets its script": {
			pxe.Plan{File: pxe.ScriptAgent, ByHTTP: true},
			pxe.Request{Firmware: pxe.IPXE, MAC: "52:54:00:12:34:56"},
			"http://[fd77::1]/boot/ipxe?mac=52-54-00-12-34-56&uuid=${uuid}&platform=${platform}&arch=${buildarch}",
		},
		"nothing is nothing": {pxe.Plan{}, pxe.Request{Firmware: pxe.ROM}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.req.Server = netip.MustParseAddr("fd77::1")
			if got := tt.plan.BootFile(tt.req); got != tt.want {
				t.Errorf("BootFile = %q, want %q", got, tt.want)
			}
		})
	}
}
