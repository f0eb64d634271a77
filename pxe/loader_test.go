package pxe

import (
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestEachFirmwareHasItsLoaders(t *testing.T) {
	tests := map[string]struct {
		firmware Firmware
		arch     Arch
		want     string
	}{
		"BIOS ROM":                      {ROM, BIOS, "undionly.kpxe ipxe.pxe"},
		"BIOS, HTTP boot":               {HTTP, HTTPBIOS, "undionly.kpxe ipxe.pxe"},
		"x86-64 UEFI, PXE":              {ROM, EFIBC, "snponly.efi shimx64.efi ipxe.efi"},
		"x86-64 UEFI, PXE by the book":  {ROM, EFIX64, "snponly.efi shimx64.efi ipxe.efi"},
		"x86-64 UEFI, HTTP boot":        {HTTP, HTTPX64, "snponly.efi shimx64.efi ipxe.efi"},
		"arm64 UEFI, PXE":               {ROM, EFIARM64, "ipxe-arm64.efi shimaa64.efi"},
		"arm64 UEFI, HTTP boot":         {HTTP, HTTPARM64, "ipxe-arm64.efi shimaa64.efi"},
		"32-bit UEFI":                   {ROM, EFIIA32, ""},
		"32-bit UEFI, HTTP boot":        {HTTP, HTTPIA32, ""},
		"32-bit ARM UEFI":               {ROM, EFIARM32, ""},
		"32-bit ARM UEFI, HTTP boot":    {HTTP, HTTPARM32, ""},
		"a number of no meaning":        {ROM, 27, ""},
		"a number that nobody gave out": {HTTP, 0xffff, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req := Request{Firmware: tt.firmware, Arch: tt.arch}
			var files []string
			for _, l := range LoadersFor(tt.firmware, req.Platform()) {
				files = append(files, l.File)
			}
			if got := strings.Join(files, " "); got != tt.want {
				t.Errorf("LoadersFor = %q, want %q", got, tt.want)
			}
			plan := Decide(req, fleet.Node{})
			first, _, _ := strings.Cut(tt.want, " ")
			if plan.File != first {
				t.Errorf("Decide = %+v, want file %q", plan, first)
			}
			if none := tt.want == ""; none != (plan.Code == fleet.CodeNoLoader) || none != (plan.Action == Ignore) {
				t.Errorf("Decide = %+v, want a diagnosis exactly when there is no loader", plan)
			}
		})
	}
}

func TestAPlatformWithoutALoaderIsNamed(t *testing.T) {
	tests := map[string]struct {
		req  Request
		want string
	}{
		"known":   {Request{Firmware: ROM, Arch: EFIIA32}, "no loader for uefi-ia32, architecture 6 (rom firmware)"},
		"unknown": {Request{Firmware: HTTP, Arch: 99}, "no loader for architecture 99 (http firmware)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Decide(tt.req, fleet.Node{}).Reason; got != tt.want {
				t.Errorf("Reason = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSecureBootAndQuirksChooseAnotherLoader(t *testing.T) {
	secure := fleet.Node{State: fleet.Ready, Inventory: fleet.Inventory{Secure: true}}
	tests := map[string]struct {
		firmware Firmware
		arch     Arch
		node     fleet.Node
		quirk    fleet.Quirk
		want     Plan
	}{
		"Secure Boot, PXE": {
			ROM, EFIBC, secure,
			fleet.Quirk{},
			Plan{Action: Load, File: "shimx64.efi", Reason: "ready: boots our agent, signed because Secure Boot is on"},
		},
		"Secure Boot, HTTP boot": {
			HTTP, HTTPX64, secure,
			fleet.Quirk{},
			Plan{Action: Load, File: "shimx64.efi", ByHTTP: true, Reason: "ready: boots our agent, signed because Secure Boot is on"},
		},
		"Secure Boot, arm64": {
			ROM, EFIARM64, secure,
			fleet.Quirk{},
			Plan{Action: Load, File: "shimaa64.efi", Reason: "ready: boots our agent, signed because Secure Boot is on"},
		},
		"Secure Boot, with a system": {
			ROM, EFIBC,
			fleet.Node{State: fleet.Active, Inventory: fleet.Inventory{Secure: true}},
			fleet.Quirk{},
			Plan{Action: LocalDisk, File: "shimx64.efi", Reason: "active: boots its own system, signed because Secure Boot is on"},
		},
		"a quirk's loader": {
			ROM, EFIBC,
			fleet.Node{},
			fleet.Quirk{Loader: "ipxe.efi", Reason: "learned"},
			Plan{Action: Load, File: "ipxe.efi", Reason: "unknown: boots our agent to say hello, learned"},
		},
		"a quirk before Secure Boot": {
			ROM, EFIBC, secure,
			fleet.Quirk{Loader: "ipxe.efi", Reason: "own keys enrolled"},
			Plan{Action: Load, File: "ipxe.efi", Reason: "ready: boots our agent, own keys enrolled"},
		},
		"a quirk's loader for another platform is not used": {
			ROM, EFIARM64,
			fleet.Node{},
			fleet.Quirk{Loader: "ipxe.efi", Reason: "x"},
			Plan{Action: Load, File: "ipxe-arm64.efi", Reason: "unknown: boots our agent to say hello"},
		},
		"a loader of the operator's own": {
			ROM, BIOS,
			fleet.Node{},
			fleet.Quirk{Loader: "ours.kpxe", Reason: "site.yaml"},
			Plan{Action: Load, File: "ours.kpxe", Reason: "unknown: boots our agent to say hello, site.yaml"},
		},
		"HTTP boot only: PXE is told to end": {
			ROM, EFIBC,
			fleet.Node{},
			fleet.Quirk{HTTP: fleet.HTTPAlways, Reason: "site.yaml"},
			Plan{Action: Ignore, PassOn: true, Reason: "rom firmware is not served on this model: site.yaml"},
		},
		"HTTP boot only: HTTP is": {
			HTTP, HTTPX64,
			fleet.Node{},
			fleet.Quirk{HTTP: fleet.HTTPAlways},
			Plan{Action: Load, File: "snponly.efi", ByHTTP: true, Reason: "unknown: boots our agent to say hello"},
		},
		"never HTTP boot": {
			HTTP, HTTPX64,
			fleet.Node{},
			fleet.Quirk{HTTP: fleet.HTTPNever, Reason: "site.yaml"},
			Plan{Action: Ignore, Reason: "http firmware is not served on this model: site.yaml"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Decide(Request{Firmware: tt.firmware, Arch: tt.arch, Quirk: tt.quirk}, tt.node)
			if got != tt.want {
				t.Errorf("Decide =\n%+v, want\n%+v", got, tt.want)
			}
		})
	}
}

func TestAnOldIPXEInAROMIsGivenOurs(t *testing.T) {
	quirk := fleet.Quirk{Rechain: true}
	tests := map[string]struct {
		req  Request
		n    fleet.Node
		want string
	}{
		"an old one":               {Request{OldIPXE: true, Quirk: quirk}, fleet.Node{}, "undionly.kpxe"},
		"ours":                     {Request{Quirk: quirk}, fleet.Node{}, ScriptAgent},
		"an old one, by default":   {Request{OldIPXE: true}, fleet.Node{}, ScriptAgent},
		"an old one with a system": {Request{OldIPXE: true, Quirk: quirk}, fleet.Node{State: fleet.Active}, ""},
	}
	for name, tt := range tests {
		tt.req.Firmware = IPXE
		got := Decide(tt.req, tt.n)
		if got.File != tt.want {
			t.Errorf("%s: Decide = %+v, want %q", name, got, tt.want)
		}
		if file := got.BootFile(tt.req); tt.want == "undionly.kpxe" && file != tt.want {
			t.Errorf("%s: boot file %q, want a name for TFTP", name, file)
		}
	}
	for features, old := range map[string]bool{
		"": false, // says nothing: nobody's business
		"\xb1\x05\x01\x1a\xf4\x10\x00\x13\x01\x01": true,
		"\x13\x01\x01\x14\x01\x01":                 false,
		"\x14":                                     true,
		"\x13\xff\x14\x01":                         true,
	} {
		if got := IsOldIPXE([]byte(features)); got != old {
			t.Errorf("IsOldIPXE(%x) = %v", features, got)
		}
	}
}

func TestARaspberryPiIsToldFromABIOS(t *testing.T) {
	tests := map[string]struct {
		req  Request
		want Platform
	}{
		"by its identifier, Pi 4": {Request{MAC: "52:54:00:00:00:01", UUID: "34695052-3111-c003-0102-030405060708"}, PlatformPi},
		"by its identifier, Pi 5": {Request{MAC: "52:54:00:00:00:01", UUID: "35695052-3111-c003-0102-030405060708"}, PlatformPi},
		"by its card":             {Request{MAC: "dc:a6:32:01:02:03"}, PlatformPi},
		"a BIOS":                  {Request{MAC: "52:54:00:00:00:01", UUID: "c7925d5c-0001-4000-8000-000000000001"}, PlatformBIOS},
		"iPXE on a Pi's card":     {Request{MAC: "dc:a6:32:01:02:03", Firmware: IPXE}, PlatformBIOS},
		"a Pi with UEFI firmware": {Request{MAC: "dc:a6:32:01:02:03", Arch: EFIARM64}, PlatformARM64},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.req.Firmware == NoBoot {
				tt.req.Firmware = ROM
			}
			if got := tt.req.Platform(); got != tt.want {
				t.Errorf("Platform = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestARaspberryPisFilesLieInTheirTree(t *testing.T) {
	tests := map[string]string{
		"start4.elf":              "rpi/start4.elf",
		"9ffefdef/start4.elf":     "rpi/9ffefdef/start4.elf",
		"/9ffefdef//config.txt":   "rpi/9ffefdef/config.txt",
		"overlays/disable-bt.dtb": "rpi/overlays/disable-bt.dtb",
		"../vmlinuz":              "rpi/vmlinuz",
		"a/../../../etc/passwd":   "rpi/etc/passwd",
		".hidden":                 "",
		"a/.hidden/b":             "",
		"":                        "",
		"/":                       "",
		"a/b/c/d/e":               "",
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := PiFile(name)
			if ok != (want != "") || ok && got != want {
				t.Errorf("PiFile(%q) = %q, %v, want %q", name, got, ok, want)
			}
		})
	}
}

func TestNamesThatOnePiAsksFor(t *testing.T) {
	for name, want := range map[string]bool{
		"9ffefdef/start4.elf": true, "/9ffefdef/config.txt": true, "start4.elf": false, "9ffefdef": false, "9FFEFDEF/start4.elf": false,
		"overlays/disable-bt.dtb": false, "x/9ffefdef/start4.elf": false,
	} {
		if got := OfOnePi(name); got != want {
			t.Errorf("OfOnePi(%q) = %t, want %t", name, got, want)
		}
	}
}

func TestEveryFileThatMachinesNeedIsListedOnce(t *testing.T) {
	want := []string{
		"undionly.kpxe", "ipxe.pxe", "snponly.efi", "shimx64.efi", "grubx64.efi", "ipxe.efi",
		"ipxe-arm64.efi", "shimaa64.efi", "grubaa64.efi",
	}
	if got := Loaders(); !slices.Equal(got, want) {
		t.Errorf("Loaders = %q, want %q", got, want)
	}
	for file, want := range map[string]bool{"snponly.efi": true, "start4.elf": true, "grubx64.efi": false, "vmlinuz": false} {
		if IsLoader(file) != want {
			t.Errorf("IsLoader(%s) = %v, want %v", file, !want, want)
		}
	}
}
