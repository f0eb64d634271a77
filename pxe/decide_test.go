package pxe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestEveryStateAndFirmwareGetsItsPlan(t *testing.T) {
	type want struct {
		rom, http, ipxe Plan
	}
	agent := want{
		rom:  Plan{Action: Load, File: "snponly.efi"},
		http: Plan{Action: Load, File: "snponly.efi", ByHTTP: true},
		ipxe: Plan{Action: Script, File: ScriptAgent, ByHTTP: true},
	}
	local := want{
		rom:  Plan{Action: LocalDisk, File: "snponly.efi"},
		http: Plan{Action: LocalDisk, File: "snponly.efi", ByHTTP: true},
		ipxe: Plan{Action: LocalDisk, File: ScriptLocal, ByHTTP: true},
	}
	rescue := agent
	rescue.ipxe.File = ScriptRescue
	nothing := want{
		rom:  Plan{Action: Ignore},
		http: Plan{Action: Ignore},
		ipxe: Plan{Action: Ignore, File: ScriptWait, ByHTTP: true},
	}
	tests := map[fleet.State]want{
		"":                agent,
		fleet.Discovered:  agent,
		fleet.Ready:       agent,
		fleet.Installing:  agent,
		fleet.Installed:   local,
		fleet.Joining:     local,
		fleet.Active:      local,
		fleet.Draining:    local,
		fleet.Releasing:   agent,
		fleet.Failed:      agent,
		fleet.Maintenance: local,
		fleet.Rescue:      rescue,
		fleet.Quarantined: nothing,
		fleet.Retired:     nothing,
	}
	for _, s := range fleet.States() {
		if _, ok := tests[s]; !ok {
			t.Errorf("no test for state %s", s)
		}
	}
	for state, want := range tests {
		for firmware, want := range map[Firmware]Plan{ROM: want.rom, HTTP: want.http, IPXE: want.ipxe, GRUB: want.ipxe} {
			t.Run(string(state)+" "+string(firmware), func(t *testing.T) {
				got := Decide(Request{Firmware: firmware, Arch: EFIX64}, fleet.Node{State: state})
				if got.Reason == "" {
					t.Error("Decide gives no reason")
				}
				got.Reason = ""
				if got != want {
					t.Errorf("Decide = %+v, want %+v", got, want)
				}
			})
		}
	}
}

func TestAStateWithASystemIsNeverGivenALoader(t *testing.T) {
	for _, state := range fleet.States() {
		for _, firmware := range []Firmware{NoBoot, ROM, HTTP, IPXE, GRUB} {
			for arch := range Arch(40) {
				p := Decide(Request{Firmware: firmware, Arch: arch}, fleet.Node{State: state})
				if state.HasSystem() && (p.Action == Load || p.File == ScriptAgent) {
					t.Errorf("Decide(%s, %s, arch %d) = %+v, want no way to an install", state, firmware, arch, p)
				}
			}
		}
	}
}

func TestABIOSWithASystemIsGivenNoFile(t *testing.T) {
	got := Decide(Request{Firmware: ROM, Arch: BIOS}, fleet.Node{State: fleet.Active})
	if got.Action != LocalDisk || got.File != "" {
		t.Errorf("Decide = %+v, want local disk and no file", got)
	}
}

func TestAFailedNodeThatHasASystemBootsIt(t *testing.T) {
	n := fleet.Node{State: fleet.Failed, System: fleet.System{InstalledAt: time.Unix(1, 0)}}
	if got := Decide(Request{Firmware: ROM, Arch: BIOS}, n); got.Action != LocalDisk {
		t.Errorf("Decide = %+v, want local disk", got)
	}
}

func TestAnOperatingSystemGetsNothingToBoot(t *testing.T) {
	got := Decide(Request{}, fleet.Node{})
	if got.Action != Ignore || got.File != "" {
		t.Errorf("Decide = %+v, want nothing to boot", got)
	}
}

func TestIPXEIsToldByItsUserClassOnly(t *testing.T) {
	tests := map[string]struct {
		class string
		user  string
		want  Firmware
	}{
		"a BIOS ROM":                       {"PXEClient:Arch:00000:UNDI:002001", "", ROM},
		"a UEFI PXE":                       {"PXEClient:Arch:00007:UNDI:003000", "", ROM},
		"a UEFI HTTP boot":                 {"HTTPClient:Arch:00016:UNDI:003000", "", HTTP},
		"iPXE in a ROM":                    {"PXEClient:Arch:00000:UNDI:002001", "iPXE", IPXE},
		"iPXE after an HTTP boot":          {"PXEClient:Arch:00007:UNDI:003010", "iPXE", IPXE},
		"iPXE as RFC 3004 wants it":        {"PXEClient:Arch:00007", "\x04iPXE", IPXE},
		"iPXE second in a list":            {"PXEClient:Arch:00007", "\x03abc\x04iPXE", IPXE},
		"a class that only begins so":      {"PXEClient:Arch:00007", "iPXE2", ROM},
		"a list whose length is too long":  {"PXEClient:Arch:00007", "\x05iPXE", ROM},
		"a list with an empty string":      {"PXEClient:Arch:00007", "\x00\x04iPXE", ROM},
		"an operating system":              {"systemd", "", NoBoot},
		"nothing at all":                   {"", "", NoBoot},
		"iPXE without a vendor class":      {"", "iPXE", IPXE},
		"a class that merely contains PXE": {"xPXEClient", "", NoBoot},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := FirmwareOf(tt.class, []byte(tt.user)); got != tt.want {
				t.Errorf("FirmwareOf = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheBootFileFitsTheFirmware(t *testing.T) {
	base := Request{
		MAC: "52:54:00:12:34:56", UUID: "c7925d5c-0001-4000-8000-000000000001",
		Server: netip.MustParseAddr("10.77.0.1"), Arch: EFIX64,
	}
	tests := map[string]struct {
		change func(*Request)
		state  fleet.State
		want   string
	}{
		"a ROM gets a name":      {func(r *Request) { r.Firmware = ROM }, "", "snponly.efi"},
		"HTTP boot gets a URL":   {func(r *Request) { r.Firmware = HTTP }, "", "http://10.77.0.1/boot/snponly.efi"},
		"and one with our port":  {func(r *Request) { r.Firmware, r.Port = HTTP, 8080 }, "", "http://10.77.0.1:8080/boot/snponly.efi"},
		"a BIOS with a system":   {func(r *Request) { r.Firmware, r.Arch = ROM, BIOS }, fleet.Active, ""},
		"a UEFI with a system":   {func(r *Request) { r.Firmware = ROM }, fleet.Active, "snponly.efi"},
		"HTTP boot, with system": {func(r *Request) { r.Firmware = HTTP }, fleet.Active, "http://10.77.0.1/boot/snponly.efi"},
		"iPXE gets its script": {
			func(r *Request) { r.Firmware = IPXE }, "",
			"http://10.77.0.1/boot/ipxe?mac=52-54-00-12-34-56&uuid=c7925d5c-0001-4000-8000-000000000001&platform=${platform}&arch=${buildarch}",
		},
		"iPXE without a UUID": {
			func(r *Request) { r.Firmware, r.UUID = IPXE, "" }, fleet.Active,
			"http://10.77.0.1/boot/ipxe?mac=52-54-00-12-34-56&uuid=${uuid}&platform=${platform}&arch=${buildarch}",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := base
			tt.change(&r)
			got := Decide(r, fleet.Node{State: tt.state}).BootFile(r)
			if got != tt.want {
				t.Errorf("BootFile = %q, want %q", got, tt.want)
			}
			if len(got) > 255 {
				t.Errorf("BootFile has %d bytes, an option holds 255", len(got))
			}
		})
	}
}
