package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
)

// A boot is one machine that is switched on, and what has to come of it.
type boot struct {
	firmware lab.Firmware
	nic, mac string
	state    fleet.State // of its node; one that is active has something on its disk that says that it was started
	pool     fleet.PoolName
	secure   bool     // its agent has found Secure Boot on
	product  string   // of its node, as its agent told before
	again    string   // when its console says this, it is switched off and on
	want     []string // evidence, in this order; others may come between
	never    []string // evidence that must not come
	console  string   // what it writes at last
	spare    bool     // it has another card before the one that boots
	https    bool     // its firmware trusts us, and its subnet has https URLs
	hello    bool     // its agent says hello at last
}

// boots is the boot matrix: docs/boot-matrix.md is the same for people.
var boots = map[string]boot{
	"bios": { // the ROM of QEMU's cards is iPXE of 2019
		firmware: lab.BIOS,
		want:     []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never:    []string{"by TFTP"},
	},
	"bios-e1000": {
		firmware: lab.BIOS, nic: "e1000", hello: true,
		want:  []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never: []string{"by TFTP"},
	},
	"bios-rom": { // the ROM taken for one that knows PXE only: the card's model is said to need our iPXE
		firmware: lab.BIOS, mac: oldROM + ":01",
		want: []string{
			"dhcp: DISCOVER from ipxe firmware, arch 0, subnet rack: offered", "undionly.kpxe (discovered: boots our agent)", "loader: undionly.kpxe by TFTP",
			"dhcp: DISCOVER from ipxe firmware, arch 0, subnet rack: offered", "agent.ipxe", "script: GET", "kernel: GET vmlinuz",
		},
	},
	"bios-rom-e1000": {
		firmware: lab.BIOS, nic: "e1000", mac: oldROM + ":02",
		want: []string{
			"undionly.kpxe (discovered: boots our agent)", "loader: undionly.kpxe by TFTP",
			"dhcp: DISCOVER from ipxe firmware, arch 0, subnet rack: offered", "agent.ipxe", "script: GET", "kernel: GET vmlinuz",
		},
	},
	"bios-local": {
		firmware: lab.BIOS, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "script: GET local_disk script"},
		never: []string{"vmlinuz"}, console: lab.DiskSays,
	},
	"bios-e1000-local": {
		firmware: lab.BIOS, nic: "e1000", state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "script: GET local_disk script"},
		never: []string{"vmlinuz"}, console: lab.DiskSays,
	},
	"bios-rom-local": { // it is offered no file, and goes on to the next device
		firmware: lab.BIOS, mac: oldROM + ":03", state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from ipxe firmware, arch 0"},
		never: []string{"script", "by TFTP"}, console: lab.DiskSays,
	},
	"uefi": { // autoexec.ipxe saves iPXE a DHCP round of its own
		firmware: lab.UEFI,
		want:     []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: snponly.efi by TFTP", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never:    []string{"from ipxe firmware"},
	},
	"uefi-local": {
		firmware: lab.UEFI, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: snponly.efi by TFTP", "script: GET local_disk script"},
		never: []string{"vmlinuz", "from ipxe firmware"}, console: lab.DiskSays,
	},
	"uefi-http": {
		firmware: lab.UEFIHTTP,
		want:     []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never:    []string{"by TFTP", "from ipxe firmware"},
	},
	"uefi-http-local": {
		firmware: lab.UEFIHTTP, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET local_disk script"},
		never: []string{"vmlinuz", "by TFTP", "from ipxe firmware"}, console: lab.DiskSays,
	},
	"uefi-https": { // iPXE takes over whom its firmware trusts
		firmware: lab.UEFIHTTP, https: true, hello: true,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never: []string{"by TFTP", "from ipxe firmware"}, console: "https://10.77.0.1/boot/vmlinuz",
	},
	"uefi-https-local": {
		firmware: lab.UEFIHTTP, https: true, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET local_disk script"},
		never: []string{"vmlinuz", "by TFTP", "from ipxe firmware"}, console: lab.DiskSays,
	},
	"uefi-sb": {
		firmware: lab.SB, secure: true, hello: true,
		want: []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: shimx64.efi by TFTP", "grubx64.efi by TFTP", "script: agent script for GRUB, by HTTP", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
	},
	"uefi-sb-local": { // on its disk are Debian's shim and GRUB
		firmware: lab.SB, secure: true, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: shimx64.efi by TFTP", "script: local script for GRUB, by HTTP"},
		never: []string{"vmlinuz"}, console: lab.DiskSays,
	},
	"uefi-sb-http": {
		firmware: lab.SBHTTP, secure: true, hello: true,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET shimx64.efi", "loader: GET grubx64.efi", "script: agent script for GRUB, by HTTP", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never: []string{"by TFTP"},
	},
	"uefi-sb-http-local": {
		firmware: lab.SBHTTP, secure: true, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET shimx64.efi", "script: local script for GRUB, by HTTP"},
		never: []string{"vmlinuz", "by TFTP"}, console: lab.DiskSays,
	},
	"uefi-damaged": { // without Secure Boot nobody minds a word that is spelt otherwise
		firmware: lab.UEFI, mac: damaged + ":01",
		want: []string{"loader: " + damagedShim + " by TFTP", "grubx64.efi by TFTP"},
	},
	"uefi-sb-damaged": { // with it the signature is wrong
		firmware: lab.SB, mac: damaged + ":02", secure: true,
		want:  []string{"loader: " + damagedShim + " by TFTP"},
		never: []string{"grubx64.efi", "script"}, console: "Access Denied",
	},
	"uefi-sb-http-damaged": {
		firmware: lab.SBHTTP, mac: damaged + ":03", secure: true,
		want:  []string{"loader: GET " + damagedShim},
		never: []string{"grubx64.efi", "script"}, console: "Access Denied",
	},
	"uefi-sb-unknown": { // nobody knows yet that Secure Boot is on
		firmware: lab.SB, product: "Locked 1U", again: "Access Denied",
		want: []string{
			"dhcp: DISCOVER from rom firmware, arch 7", "loader: snponly.efi by TFTP",
			"dhcp: snponly.efi was fetched and did not start; Locked 1U gets shimx64.efi next time",
			"shimx64.efi (discovered: boots our agent, learned: snponly.efi did not start on this model)", "script: agent script for GRUB", "kernel: GET initrd.img",
		},
	},
	"uefi-sb-unknown-next": { // the next one of that model: nobody knows it either, but its model is
		firmware: lab.SB, product: "Locked 1U",
		want: []string{
			"shimx64.efi (discovered: boots our agent, learned: snponly.efi did not start on this model)", "loader: shimx64.efi by TFTP", "script: agent script for GRUB",
		},
		never: []string{"snponly.efi by TFTP"},
	},
	"arm64": {
		firmware: lab.ARM64, hello: true,
		want:  []string{"dhcp: DISCOVER from rom firmware, arch 11", "loader: ipxe-arm64.efi by TFTP", "script: GET", "kernel: GET vmlinuz-arm64", "kernel: GET initrd-arm64.img"},
		never: []string{"from ipxe firmware"},
	},
	"arm64-two-cards": { // its loader has drivers for all cards, and finds another one first
		firmware: lab.ARM64, spare: true,
		want:  []string{"loader: ipxe-arm64.efi by TFTP", "script: GET", "kernel: GET vmlinuz-arm64", "kernel: GET initrd-arm64.img"},
		never: []string{"from ipxe firmware"},
	},
	"uefi-two-cards": {
		firmware: lab.UEFI, spare: true, mac: allDrivers + ":01", hello: true,
		want:  []string{"loader: ipxe.efi by TFTP", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never: []string{"from ipxe firmware"},
	},
	"arm64-local": {
		firmware: lab.ARM64, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from rom firmware, arch 11", "loader: ipxe-arm64.efi by TFTP", "script: GET local_disk script"},
		never: []string{"vmlinuz", "from ipxe firmware"}, console: lab.DiskSays,
	},
	"arm64-http": { // the rescue system: "arm64" boots the agent
		firmware: lab.ARM64HTTP, secure: true, state: fleet.Rescue, // secure for the signed chain: AAVMF itself has no keys
		want:  []string{"dhcp: DISCOVER from http firmware, arch 19", "loader: GET shimaa64.efi", "loader: GET grubaa64.efi", "script: rescue script for GRUB, by HTTP", "kernel: GET vmlinuz-arm64", "kernel: GET rescue-arm64.img"},
		never: []string{"by TFTP"}, console: "press Enter for a shell",
	},
	"arm64-http-local": {
		firmware: lab.ARM64HTTP, state: fleet.Active,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 19", "loader: GET ipxe-arm64.efi", "script: GET local_disk script"},
		never: []string{"vmlinuz", "by TFTP", "from ipxe firmware"}, console: lab.DiskSays,
	},
}

// MAC addresses whose machines the site has a quirk for.
const (
	oldROM     = "52:54:00:79:00"
	damaged    = "52:54:00:7a:00"
	allDrivers = "52:54:00:7b:00"
)

const damagedShim = "shim-damaged.efi" // in the server's boot folder

const firmwareSite = `
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], lease: 1h}]
quirks:
  - {mac: "` + oldROM + `", rechain: true, reason: its ROM is old}
  - {mac: "` + damaged + `", loader: ` + damagedShim + `, reason: somebody meddled with it}
  - {mac: "` + allDrivers + `", loader: ipxe.efi, reason: its firmware has no driver that snponly.efi could use}
`

// Each firmware boots from the real server as far as it has to; the evidence
// that the server collects must tell what happened. Two machines boot at a
// time: one of those that boot by HTTP, or have a BIOS, and one of the others.
func TestEachFirmwareBootsFromUs(t *testing.T) {
	if testing.Short() {
		t.Skip("boots 28 virtual machines: make test runs it")
	}
	r, ids := firmwareRack(t)
	seen := followEvents(t, r)
	lanes := map[string][]lab.Machine{}
	for _, m := range r.rack.Machines() {
		lanes[boots[m.Name].lane()] = append(lanes[boots[m.Name].lane()], m)
	}
	for lane, machines := range lanes {
		t.Run(lane, func(t *testing.T) {
			besides(t)
			for _, m := range machines {
				t.Run(m.Name, func(t *testing.T) {
					defer recordBoot(t, r, m.Name)()
					if boots[m.Name].https {
						defer bootURL(t, r, "https")()
					}
					bootOnce(t, r, m.Name, boots[m.Name], seen, ids[m.Name])
				})
			}
		})
	}
}

// lane says beside whom a machine must not boot: the scheme of boot URLs is
// the subnet's.
func (b boot) lane() string {
	switch b.firmware {
	case lab.UEFIHTTP, lab.SBHTTP, lab.ARM64HTTP, lab.BIOS:
		return "http-and-bios"
	default:
		return "pxe"
	}
}

// firmwareRack raises a rack with a machine for each boot, whose nodes the
// server knows.
func firmwareRack(t *testing.T) (*labRack, map[string]fleet.NodeID) {
	t.Helper()
	t.Setenv("PROVISION_LISTEN_BOOT_HTTPS", "10.77.0.1:443")
	trusted := filepath.Join(t.TempDir(), "ca.esl")
	var machines []lab.Machine
	for i, name := range slices.Sorted(maps.Keys(boots)) {
		b, ca := boots[name], ""
		if b.https {
			ca = trusted
		}
		machines = append(machines, lab.Machine{
			BootCA: ca, SpareNIC: b.spare, Name: name, Firmware: b.firmware, NIC: b.nic, DiskMiB: 64, MemoryMiB: 768, CPUs: 1, MAC: cmp.Or(b.mac, fmt.Sprintf("52:54:00:78:00:%02x", i+1)),
		})
	}
	state, program := testImages(t)
	var ids map[string]fleet.NodeID
	r := prepareTestRack(t, labPlan{state: state, machines: machines, site: firmwareSite, hook: program}, func(r *labRack) error {
		if err := damageShim(r); err != nil {
			return err
		}
		var err error
		ids, err = knowMachines(t, r, boots)
		return err
	})
	if err := r.applySite(t.Context()); err != nil {
		t.Fatal(err)
	}
	exported, err := exec.CommandContext(t.Context(), program, "ca", "export", "--format", "esl", "--state-dir", filepath.Join(r.dir, "state")).Output()
	if err == nil {
		err = os.WriteFile(trusted, exported, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, ids
}
