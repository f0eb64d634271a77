package lab

import (
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A Requirement is something that a rack needs from the host.
type Requirement struct {
	What    string // a command, or a file
	Package string // the Debian package that has it; none for a device
}

// Requirements returns what a rack of these machines needs.
func Requirements(machines ...Machine) []Requirement {
	needs := []Requirement{
		{"ip", "iproute2"},
		{"nsenter", "util-linux"},
		{qemuBinary, "qemu-system-x86"},
		{simBinary, "openipmi"},
		{"/usr/share/seabios/bios-256k.bin", "seabios"},
		{"/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu"},
		{ovmfCode, "ovmf"},
		{tunDevice, ""},
	}
	for _, m := range machines {
		if k := kits[m.Firmware]; k.arm64 && !slices.Contains(needs, needARM64[0]) {
			needs = append(needs, needARM64[:]...)
		}
	}
	return needs
}

// needARM64 is what arm64 machines need besides.
var needARM64 = [...]Requirement{{qemuARM64, "qemu-system-arm"}, {aavmfCode, "qemu-efi-aarch64"}}

const tunDevice = "/dev/net/tun" // a kernel module makes it

// Missing returns what the host lacks.
func Missing(machines ...Machine) []Requirement {
	return slices.DeleteFunc(Requirements(machines...), func(r Requirement) bool {
		if strings.HasPrefix(r.What, "/") {
			_, err := os.Stat(r.What)
			return err == nil
		}
		_, err := exec.LookPath(r.What)
		return err == nil
	})
}

// A MissingError says that the host lacks something.
type MissingError struct{ Missing []Requirement }

// Error names what is missing.
func (e *MissingError) Error() string {
	var what []string
	for _, r := range e.Missing {
		what = append(what, r.What)
	}
	return "build a virtual rack: this host has no " + strings.Join(what, ", no ")
}

// Hint is the command that mends it.
func (e *MissingError) Hint() string {
	var packages, steps []string
	for _, r := range e.Missing {
		if r.What == tunDevice {
			steps = append(steps, "modprobe tun")
			continue
		}
		packages = append(packages, r.Package)
	}
	if len(packages) > 0 {
		slices.Sort(packages)
		steps = append(steps, "apt-get install -y "+strings.Join(slices.Compact(packages), " "))
	}
	return "run: " + strings.Join(steps, " && ")
}
