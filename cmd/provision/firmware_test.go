package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
	"github.com/rackstage/provision/store"
)

// A boot is one machine that is switched on, and what has to come of it.
type boot struct {
	firmware lab.Firmware
	nic, mac string
	state    fleet.State // of its node
	secure   bool        // its agent has found Secure Boot on
	product  string      // of its node, as its agent told before
	disk     bool        // there is something on its disk that can tell that it was started
	again    string      // when its console says this, it is switched off and on
	want     []string    // evidence, in this order; others may come between
	never    string      // evidence that must not come
	console  string      // what it writes at last
	https    bool        // its firmware trusts us, and its subnet has https URLs
	hello    bool        // its agent says hello at last
}

// boots is the boot matrix: docs/boot-matrix.md is the same for people.
var boots = map[string]boot{
	"bios": { // the ROM of QEMU's cards is iPXE of 2019
		firmware: lab.BIOS,
		want:     []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never:    "by TFTP",
	},
	"bios-rom": { // the ROM taken for one that knows PXE only: the card's model is said to need our iPXE
		firmware: lab.BIOS, mac: "52:54:00:79:00:01",
		want: []string{
			"dhcp: DISCOVER from ipxe firmware, arch 0, subnet rack: offered", "undionly.kpxe (discovered: boots our agent)", "loader: undionly.kpxe by TFTP",
			"dhcp: DISCOVER from ipxe firmware, arch 0, subnet rack: offered", "agent.ipxe", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img",
		},
	},
	"bios-e1000": {
		firmware: lab.BIOS, nic: "e1000",
		want:  []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never: "by TFTP",
	},
	"bios-local": {
		firmware: lab.BIOS, state: fleet.Active, disk: true,
		want:  []string{"dhcp: DISCOVER from ipxe firmware, arch 0", "script: GET local_disk script"},
		never: "vmlinuz", console: "LOCAL-DISK",
	},
	"uefi": { // autoexec.ipxe saves iPXE a DHCP round of its own
		firmware: lab.UEFI,
		want:     []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: snponly.efi by TFTP", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never:    "from ipxe firmware",
	},
	"uefi-local": { // what lies on its disk is iPXE
		firmware: lab.UEFI, state: fleet.Active, disk: true,
		want:  []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: snponly.efi by TFTP", "script: GET local_disk script", "dhcp: DISCOVER from ipxe firmware, arch 7"},
		never: "vmlinuz",
	},
	"uefi-http": {
		firmware: lab.UEFIHTTP,
		want:     []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never:    "by TFTP",
	},
	"uefi-https": { // iPXE takes over whom its firmware trusts
		firmware: lab.UEFIHTTP, https: true,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET snponly.efi", "script: GET", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never: "by TFTP", console: "https://10.77.0.1/boot/vmlinuz",
	},
	"uefi-sb": {
		firmware: lab.SB, secure: true, hello: true,
		want: []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: shimx64.efi by TFTP", "grubx64.efi by TFTP", "script: agent script for GRUB, by HTTP", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
	},
	"uefi-sb-http": {
		firmware: lab.SBHTTP, secure: true, hello: true,
		want:  []string{"dhcp: DISCOVER from http firmware, arch 16", "loader: GET shimx64.efi", "loader: GET grubx64.efi", "script: agent script for GRUB, by HTTP", "kernel: GET vmlinuz", "kernel: GET initrd.img"},
		never: "by TFTP",
	},
	"uefi-sb-local": { // what lies on its disk is Debian's shim, without a GRUB
		firmware: lab.SB, secure: true, state: fleet.Active, disk: true,
		want:  []string{"dhcp: DISCOVER from rom firmware, arch 7", "loader: shimx64.efi by TFTP", "script: local script for GRUB, by HTTP"},
		never: "vmlinuz", console: `Failed to open \\EFI\\BOOT\\grubx64.efi|start_image\(\) returned`,
	},
	"uefi-sb-unknown": { // nobody knows yet that Secure Boot is on
		firmware: lab.SB, product: "Locked 1U", again: "Access Denied",
		want: []string{
			"dhcp: DISCOVER from rom firmware, arch 7", "loader: snponly.efi by TFTP",
			"dhcp: snponly.efi was fetched and did not start; Locked 1U gets shimx64.efi next time",
			"shimx64.efi (discovered: boots our agent, learned: snponly.efi did not start on this model)", "script: agent script for GRUB", "kernel: GET initrd.img",
		},
	},
	"arm64": {
		firmware: lab.ARM64, hello: true,
		want: []string{"dhcp: DISCOVER from rom firmware, arch 11", "loader: ipxe-arm64.efi by TFTP", "script: GET", "kernel: GET vmlinuz-arm64", "kernel: GET initrd-arm64.img"},
	},
	"arm64-http": {
		firmware: lab.ARM64HTTP, secure: true, // for the signed chain: AAVMF itself has no keys
		want:  []string{"dhcp: DISCOVER from http firmware, arch 19", "loader: GET shimaa64.efi", "loader: GET grubaa64.efi", "script: agent script for GRUB, by HTTP", "kernel: GET vmlinuz-arm64", "kernel: GET initrd-arm64.img"},
		never: "by TFTP",
	},
	"arm64-local": { // what lies on its disk is iPXE
		firmware: lab.ARM64, state: fleet.Active, disk: true,
		want:  []string{"dhcp: DISCOVER from rom firmware, arch 11", "loader: ipxe-arm64.efi by TFTP", "script: GET local_disk script", "dhcp: DISCOVER from ipxe firmware, arch 11"},
		never: "vmlinuz",
	},
}

const firmwareSite = `
subnets: [{name: rack, cidr: 10.77.0.0/24, mode: full, ranges: [10.77.0.100-10.77.0.200], lease: 1h}]
quirks: [{mac: "52:54:00:79", rechain: true, reason: its ROM is old}]
`

// Each firmware boots from the real server as far as it has to, one after the
// other; the evidence that the server collects must tell what happened.
func TestEachFirmwareBootsFromUs(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a dozen virtual machines: make test runs it")
	}
	r, ids := firmwareRack(t)
	seen := followEvents(t, r)
	for _, m := range r.rack.Machines() {
		t.Run(m.Name, func(t *testing.T) {
			record := func() {}
			if dir := os.Getenv("PROVISION_TEST_RECORD"); dir != "" { // for new captures of package dhcp
				record = recordBoot(t, r, filepath.Join(dir, m.Name+".pcap"))
			}
			defer record()
			if boots[m.Name].https {
				defer bootURL(t, r, "https")()
			}
			bootOnce(t, r, m.Name, boots[m.Name], seen, ids[m.Name])
		})
	}
}

// firmwareRack raises a rack with a machine for each boot, whose nodes the
// server knows.
func firmwareRack(t *testing.T) (*labRack, map[string]fleet.NodeID) {
	t.Helper()
	t.Setenv("PROVISION_LISTEN_BOOT_HTTPS", "10.77.0.1:443")
	trusted := filepath.Join(t.TempDir(), "ca.esl")
	var machines []lab.Machine
	for i, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range boots {
			if !yield(name) {
				return
			}
		}
	}) {
		ca := ""
		if boots[name].https {
			ca = trusted
		}
		machines = append(machines, lab.Machine{
			BootCA: ca,
			Name:   name, Firmware: boots[name].firmware, NIC: boots[name].nic, DiskMiB: 64, MemoryMiB: 768, CPUs: 1, MAC: cmp.Or(boots[name].mac, fmt.Sprintf("52:54:00:78:00:%02x", i+1)),
		})
	}
	ids := map[string]fleet.NodeID{}
	state, program := os.Getenv("PROVISION_TEST_STATE"), os.Getenv("PROVISION_TEST_PROGRAM")
	if state == "" || program == "" {
		t.Fatal("PROVISION_TEST_STATE and PROVISION_TEST_PROGRAM are not set: run this by `make test`, which builds what they name")
	}
	plan := labPlan{state: state, machines: machines, site: firmwareSite, hook: program}
	r := prepareTestRack(t, plan, func(r *labRack) error {
		nodes := make([]fleet.Node, 0, len(machines))
		for _, m := range r.rack.Machines() {
			b := boots[m.Name]
			n := fleet.Node{
				ID: fleet.NewNodeID(), Name: m.Name, MAC: fleet.MAC(m.MAC), MACs: []fleet.MAC{fleet.MAC(m.MAC)}, State: b.state, Revision: 1,
				Inventory: fleet.Inventory{Secure: b.secure, Product: b.product}, Approved: b.product != "", // only those teach about their model
			}
			if n.State == "" {
				n.State = fleet.Discovered
			}
			ids[m.Name] = n.ID
			nodes = append(nodes, n)
			if b.disk {
				if err := writeLocalDisk(t, r, m); err != nil {
					return err
				}
			}
		}
		s, err := store.Open(t.Context(), filepath.Join(r.dir, "state/provision.db"), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return errors.Join(s.Save(t.Context(), fleet.Change{Nodes: nodes}), s.Close())
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

// writeLocalDisk puts something on a machine's disk that can tell that it was
// started: for a BIOS a boot sector that writes to the serial port, for a UEFI
// a program at the path for removable media.
func writeLocalDisk(t *testing.T, r *labRack, m lab.Machine) error {
	t.Helper()
	disk := filepath.Join(r.rack.Dir(), m.Name, "disk.img")
	if m.Firmware == lab.BIOS {
		sector := make([]byte, 512)
		//   mov si,msg; next: lodsb; test al,al; jz $; mov dx,3f8; out dx,al; jmp next
		copy(sector, "\xbe\x10\x7c\xac\x84\xc0\x74\xfe\xba\xf8\x03\xee\xeb\xf5\x90\x90LOCAL-DISK\r\n\x00")
		sector[510], sector[511] = 0x55, 0xaa
		f, err := os.OpenFile(disk, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(sector, 0)
		return errors.Join(err, f.Close())
	}
	program, name := "ipxe.efi", "BOOTX64.EFI"
	switch m.Firmware {
	case lab.SB:
		program = "shimx64.efi"
	case lab.ARM64:
		program, name = "ipxe-arm64.efi", "BOOTAA64.EFI"
	}
	for _, args := range [][]string{
		{"mformat", "-i", disk, "::"},
		{"mmd", "-i", disk, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", disk, filepath.Join(os.Getenv("PROVISION_TEST_LOADERS"), program), "::/EFI/BOOT/" + name},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", args, err, out)
		}
	}
	return nil
}

// A bootLog is the evidence that the server collected, by node.
type bootLog struct {
	mu    sync.Mutex
	lines map[string][]bootLine
}

type bootLine struct {
	at   time.Time
	text string
}

func followEvents(t *testing.T, r *labRack) *bootLog {
	t.Helper()
	log := &bootLog{lines: map[string][]bootLine{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		_ = r.client.Events(ctx, 1, func(ev api.Event) error { // it ends with the test
			log.mu.Lock()
			defer log.mu.Unlock()
			log.lines[ev.Node] = append(log.lines[ev.Node], bootLine{ev.At, ev.Text})
			return nil
		})
	}()
	return log
}

func (l *bootLog) of(id fleet.NodeID) []bootLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[string(id)])
}

// missing returns the first of want that did not come, in order.
func missing(lines []bootLine, want []string) string {
	i := 0
	for _, w := range want {
		for i < len(lines) && !strings.Contains(lines[i].text, w) {
			i++
		}
		if i == len(lines) {
			return w
		}
	}
	return ""
}

const bootWithin = 4 * time.Minute

// bootOnce switches a machine on, from the network first, and off again when
// it has come as far as it shall.
func bootOnce(t *testing.T, r *labRack, name string, b boot, log *bootLog, id fleet.NodeID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
	defer cancel()
	if err := netBoot(ctx, r, name); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := r.rack.PowerOn(ctx, name); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.rack.PowerOff(name); err != nil {
			t.Error(err)
		}
	}()
	said := bootConsole(t, r, name)
	if b.again != "" {
		waitConsole(ctx, t, r, name, b.again)
		if err := errors.Join(r.rack.PowerOff(name), netBoot(ctx, r, name), r.rack.PowerOn(ctx, name)); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func() string {
		if m := missing(log.of(id), b.want); m != "" {
			return m
		}
		if b.console != "" && !regexp.MustCompile(b.console).MatchString(said()) {
			return "on the console: " + b.console
		}
		n, err := r.client.Node(ctx, string(id))
		switch {
		case b.hello && (err != nil || n.Inventory.MemoryMiB == 0):
			return "hello of its agent"
		case b.hello && n.Inventory.Secure != (b.firmware == lab.SB || b.firmware == lab.SBHTTP):
			return "the right word of its agent about Secure Boot"
		}
		return ""
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for arrived() != "" && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	t.Logf("%s in %.1f s", name, time.Since(began).Seconds())
	for _, l := range log.of(id) {
		t.Logf("%6.2f s  %s", l.at.Sub(began).Seconds(), l.text)
	}
	if m := arrived(); m != "" {
		text := said()
		t.Errorf("%q never came; the console says:\n%q", m, text[max(0, len(text)-3000):])
	}
	if b.never != "" && missing(log.of(id), []string{b.never}) == "" {
		t.Errorf("%q came, and should not have", b.never)
	}
}

// bootURL changes the scheme of URLs that firmware gets, until its result is
// called.
func bootURL(t *testing.T, r *labRack, scheme string) (undo func()) {
	t.Helper()
	apply := func(site string) {
		if _, err := r.client.Apply(t.Context(), api.ApplyRequest{YAML: site}); err != nil {
			t.Error(err)
		}
	}
	apply(strings.Replace(firmwareSite, "mode: full", "mode: full, boot_url: "+scheme, 1))
	return func() { apply(firmwareSite) }
}

// netBoot has the next start of a machine be from the network.
func netBoot(ctx context.Context, r *labRack, name string) error {
	return lab.Hook(ctx, filepath.Join(r.rack.Dir(), name), []string{"chassis", "set", "boot", "pxe"}, io.Discard)
}

func waitConsole(ctx context.Context, t *testing.T, r *labRack, name, text string) {
	t.Helper()
	if _, err := r.rack.WaitConsole(ctx, name, regexp.MustCompile(text)); err != nil {
		t.Fatal(err)
	}
}

func bootConsole(t *testing.T, r *labRack, name string) func() string {
	t.Helper()
	path, err := r.rack.Console(name)
	if err != nil {
		t.Fatal(err)
	}
	return func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
}

// recordBoot writes what passes on the wire into a file.
func recordBoot(t *testing.T, r *labRack, path string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := r.rack.Record(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		cancel()
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
}
