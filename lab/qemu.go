package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	startWithin = 30 * time.Second // QEMU itself, not its guest
	endWithin   = 10 * time.Second
)

// start switches the machine on. The override for the next boot, if there is
// one, is used up. QEMU runs in a session of its own and outlives the BMC.
func (b *bay) start(ctx context.Context) error {
	if b.running() {
		return nil
	}
	if err := b.remove(qmpSocket, hostPIDFile, hostProcess); err != nil {
		return err
	}
	if err := b.mark("power on"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	next := b.boot()
	if err := b.prepareHTTPBoot(next); err != nil {
		return err
	}
	c := b.Namespace.command(ctx, append([]string{kits[b.Machine.Firmware].binary()}, b.qemuArgs(next.Device)...)...)
	// The control socket is named relative to this directory: the path of a
	// unix socket may have 107 bytes only.
	c.Dir = b.dir
	keepFiles()
	if err := runCommand(c); err != nil {
		return fmt.Errorf("start machine %s: %w", b.Machine.Name, err)
	}
	pid, err := readPID(b.path(hostPIDFile))
	if err != nil {
		return fmt.Errorf("start machine %s: %w", b.Machine.Name, err)
	}
	p, err := identify(pid)
	if err != nil {
		return fmt.Errorf("machine %s ended at once: %w", b.Machine.Name, err)
	}
	if err := writeJSON(b.path(hostProcess), p); err != nil {
		return err
	}
	if next.reorders() && !next.Always {
		// The firmware has read the boot order by now; what is changed here
		// counts from the next reset on. That is what "once" means.
		if err := b.orderBoot(ctx, ""); err != nil {
			return err
		}
	}
	return b.booted(next)
}

// stop pulls the plug.
func (b *bay) stop() error {
	p, ok := b.process()
	if !ok {
		return nil
	}
	if err := p.end(endWithin); err != nil {
		return fmt.Errorf("stop machine %s: %w", b.Machine.Name, err)
	}
	return b.mark("power off")
}

// running reports whether the machine is on.
func (b *bay) running() bool {
	_, ok := b.process()
	return ok
}

// process finds the machine's live process. When the hook was killed before it
// could write it down, QEMU's own pid file and command line tell.
func (b *bay) process() (process, bool) {
	var p process
	if err := readJSON(b.path(hostProcess), &p); err == nil {
		return p, p.alive()
	}
	pid, err := readPID(b.path(hostPIDFile))
	if err != nil {
		return process{}, false
	}
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !strings.Contains(string(line), b.path(hostPIDFile)+"\x00") {
		return process{}, false
	}
	p, err = identify(pid)
	return p, err == nil && p.alive()
}

func readPID(path string) (int, error) {
	t, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(t)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s holds no process number", filepath.Base(path))
	}
	return pid, nil
}

// mark writes a line of our own into the console's log, so that a reader can
// tell one life of the machine from the next.
func (b *bay) mark(what string) error {
	f, err := os.OpenFile(b.path(consoleFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open console log: %w", err)
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "\n%s %s %s\n", consoleMark, what, time.Now().UTC().Format(time.RFC3339Nano))
	return err
}

// The devices of an override that put something before the disk.
const (
	bootPXE  = "pxe"
	bootCD   = "cdrom"
	bootHTTP = "http"
)

// reorders reports whether the boot order is another than the firmware's own.
// HTTP boot does not go by that order.
func (o override) reorders() bool { return o.Device == bootPXE || o.Device == bootCD }

// bootOrder gives the QEMU boot indexes of network, disk and CD. Disk first is
// the firmware's own order: an empty one falls through to the network at once.
func bootOrder(device string) (nic, disk, cd int) {
	switch device {
	case bootPXE:
		return 1, 2, 3
	case bootCD:
		return 3, 2, 1
	}
	return 2, 1, 3
}

func (b *bay) qemuArgs(device string) []string {
	m := b.Machine
	kit := kits[m.Firmware]
	nic, disk, cd := bootOrder(device)
	args := []string{
		"-name", "lab/" + m.Name, "-nodefaults", "-display", "none", "-daemonize", "-pidfile", b.path(hostPIDFile),
		"-accel", kit.accel(b.Accel).argument(),
		"-m", strconv.Itoa(m.MemoryMiB), "-smp", strconv.Itoa(m.CPUs), "-uuid", m.UUID,
		"-smbios", smbios(1, "manufacturer", m.Vendor, "product", m.Product, "serial", m.Serial, "uuid", m.UUID),
		"-smbios", smbios(2, "manufacturer", m.Vendor, "product", m.Product+" board", "serial", m.Serial, "asset", m.AssetTag),
		"-smbios", smbios(3, "manufacturer", m.Vendor, "serial", m.Serial, "asset", m.AssetTag),
		"-device", "virtio-rng-pci", // newer OVMF does no networking without
		"-qmp", "unix:" + qmpSocket + ",server=on,wait=off",
	}
	args = slices.Concat(args, kit.board(), kit.flash(b.path(varsFile)), kit.settings(m), b.bmcArgs(kit), b.driveArgs(kit, cd), m.spareArgs())
	return append(args,
		"-drive", "if=none,id=drive0,format=raw,cache=unsafe,discard=unmap,file="+comma(b.path(diskFile)),
		"-device", fmt.Sprintf("virtio-blk-pci,id=disk0,drive=drive0,serial=%s,bootindex=%d", comma(m.DiskSerial), disk),
		"-netdev", "tap,id=net0,script=no,downscript=no,ifname="+b.Tap,
		"-device", fmt.Sprintf("%s,id=nic0,netdev=net0,mac=%s,bootindex=%d%s", m.NIC, m.MAC, nic, romFile(m)),
	)
}

// spareArgs are the card that is found first and leads nowhere.
func (m Machine) spareArgs() []string {
	if !m.SpareNIC {
		return nil
	}
	mac := strings.Replace(m.MAC, "52:54:00", "52:54:01", 1)
	return []string{"-netdev", "hubport,id=nobody,hubid=0", "-device", m.NIC + ",id=spare0,netdev=nobody,romfile=,mac=" + mac}
}

// romFile empties the card's ROM for all but a BIOS that is to have one.
func romFile(m Machine) string {
	if m.Firmware == BIOS && !m.NoROM {
		return ""
	}
	return ",romfile="
}

// bmcArgs wires the machine to its BMC: the KCS interface that the operating
// system finds, and the serial port, which the BMC offers as its console.
// QEMU's arm64 board has no place for KCS.
func (b *bay) bmcArgs(k kit) []string {
	serial := []string{
		"-chardev", fmt.Sprintf("socket,id=serial0,host=127.0.0.1,port=%d,server=on,wait=off,logappend=on,logfile=%s",
			b.SOLPort, comma(b.path(consoleFile))),
		"-serial", "chardev:serial0",
	}
	if k.arm64 || !b.Machine.BMC.ipmi() {
		return serial
	}
	return append([]string{
		"-chardev", fmt.Sprintf("socket,id=ipmi0,host=127.0.0.1,port=%d,reconnect=2", b.KCSPort),
		"-device", "ipmi-bmc-extern,id=bmc0,chardev=ipmi0",
		"-device", "isa-ipmi-kcs,bmc=bmc0,irq=5",
	}, serial...)
}

// driveArgs is the CD drive that Redfish puts images into.
func (b *bay) driveArgs(k kit, index int) []string {
	if !b.Machine.BMC.redfish() {
		return nil
	}
	drive := "if=none,id=cdimage,media=cdrom,readonly=on"
	if _, err := os.Stat(b.path(mediaFile)); err == nil {
		drive += ",format=raw,file=" + comma(b.path(mediaFile))
	}
	args := []string{"-drive", drive}
	device := "ide-cd"
	if k.arm64 {
		args, device = append(args, "-device", "virtio-scsi-pci"), "scsi-cd"
	}
	return append(args, "-device", fmt.Sprintf("%s,id=cd0,drive=cdimage,bootindex=%d", device, index))
}

func smbios(kind int, pairs ...string) string {
	options := []string{"type=" + strconv.Itoa(kind)}
	for i := 0; i+1 < len(pairs); i += 2 {
		options = append(options, pairs[i]+"="+comma(pairs[i+1]))
	}
	return strings.Join(options, ",")
}

// comma doubles the commas of a value, as QEMU's option syntax wants it.
func comma(v string) string { return strings.ReplaceAll(v, ",", ",,") }
