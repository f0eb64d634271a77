package lab

import (
	"maps"
	"slices"
	"strings"
)

// Firmware is what a machine runs before anything is booted.
type Firmware string

// The firmwares that a machine of a rack can have. Except with BIOS, the
// network card has no ROM: QEMU's would bring in iPXE's driver in place of the
// firmware's own.
const (
	BIOS      Firmware = "bios"         // SeaBIOS; the network card brings iPXE in its ROM
	UEFI      Firmware = "uefi"         // OVMF with its own network stack: PXE
	UEFIHTTP  Firmware = "uefi-http"    // OVMF that boots by HTTP only
	SB        Firmware = "uefi-sb"      // OVMF with Secure Boot on and Microsoft's keys: PXE
	SBHTTP    Firmware = "uefi-sb-http" // the same, HTTP only
	ARM64     Firmware = "arm64"        // AAVMF on an arm64 machine: PXE
	ARM64HTTP Firmware = "arm64-http"   // the same, HTTP only
)

// A kit is how QEMU makes a machine with a firmware.
type kit struct {
	arm64  bool
	code   string // firmware image; "" for QEMU's own
	vars   string // variables that a new machine starts with
	secure bool
	http   bool // PXE is switched off in the firmware
}

var kits = map[Firmware]kit{
	BIOS:      {},
	UEFI:      {code: ovmfCode, vars: ovmfVars},
	UEFIHTTP:  {code: ovmfCode, vars: ovmfVars, http: true},
	SB:        {code: ovmfSecure, vars: ovmfVarsMS, secure: true},
	SBHTTP:    {code: ovmfSecure, vars: ovmfVarsMS, secure: true, http: true},
	ARM64:     {arm64: true, code: aavmfCode, vars: aavmfVars},
	ARM64HTTP: {arm64: true, code: aavmfCode, vars: aavmfVars, http: true},
}

// Where Debian's packages ovmf and qemu-efi-aarch64 put the firmware.
const (
	ovmfCode   = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars   = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	ovmfSecure = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	ovmfVarsMS = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
	aavmfCode  = "/usr/share/AAVMF/AAVMF_CODE.fd"
	aavmfVars  = "/usr/share/AAVMF/AAVMF_VARS.fd"
)

const (
	qemuBinary = "qemu-system-x86_64"
	qemuARM64  = "qemu-system-aarch64"
)

// Firmwares returns what [Machine.Firmware] can be.
func Firmwares() []Firmware { return slices.Sorted(maps.Keys(kits)) }

func firmwareNames() string {
	var names []string
	for _, f := range Firmwares() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

func (k kit) binary() string {
	if k.arm64 {
		return qemuARM64
	}
	return qemuBinary
}

// board is the machine type, and what it needs for Secure Boot: variables that
// only system management mode can write.
func (k kit) board() []string {
	switch {
	case k.arm64:
		return []string{"-machine", "virt,gic-version=3", "-cpu", "cortex-a72"}
	case k.secure:
		return []string{
			"-machine", "q35,smm=on,graphics=off", "-cpu", "max",
			"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
		}
	default:
		// Without a screen SeaBIOS and iPXE write to the serial port.
		return []string{"-machine", "q35,graphics=off", "-cpu", "max"}
	}
}

// flash is the firmware, with the machine's own copy of its variables.
func (k kit) flash(vars string) []string {
	if k.code == "" {
		return nil
	}
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + k.code,
		"-drive", "if=pflash,unit=1,format=raw,file=" + comma(vars),
	}
}

// settings are the options that EDK2 reads from its host.
func (k kit) settings(m Machine) []string {
	var args []string
	if k.http || k.code != "" && m.IPv6 {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no")
	}
	if k.http {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no")
	}
	if m.BootCA != "" {
		args = append(args, "-fw_cfg", "name=etc/edk2/https/cacerts,file="+comma(m.BootCA))
	}
	return args
}

// accel is how the machine's code is run: KVM only knows the host's own kind.
func (k kit) accel(a Accelerator) Accelerator {
	if k.arm64 {
		return TCG
	}
	return a
}
