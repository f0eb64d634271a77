package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A bay is one machine's place in the rack, as it is written down in the
// machine's directory: all that [Hook] needs to know.
type bay struct {
	Machine   Machine     `json:"machine"`
	Namespace namespace   `json:"namespace"`
	Tap       string      `json:"tap"`
	KCSPort   int         `json:"kcs_port"` // the BMC listens here for the host's side
	SOLPort   int         `json:"sol_port"` // QEMU listens here for the BMC's side
	Accel     Accelerator `json:"accelerator"`
	Hook      []string    `json:"hook"` // what the BMC runs, without what it adds

	dir string
}

// The files of a bay.
const (
	bayFile      = "machine.json"
	diskFile     = "disk.img"
	varsFile     = "vars.fd"
	consoleFile  = "console.log"
	bmcLogFile   = "bmc.log"
	lanConfFile  = "lan.conf" // holds the password
	commandsFile = "commands.emu"
	bmcDir       = "bmc"     // what ipmi_sim keeps
	bmcProcess   = "bmc.pid" // its process
	redfishLog   = "redfish.log"
	redfishPID   = "redfish.pid"   // the process of the Redfish service
	mediaFile    = "media.iso"     // what is in the virtual drive
	redfishFault = "redfish.fault" // see redfish.Faults
	hostProcess  = "qemu.json"     // the running machine's process
	hostPIDFile  = "qemu.pid"      // the same, written by QEMU itself
	qmpSocket    = "qmp.sock"
	bootFile     = "boot"  // the override for the next start
	faultFile    = "fault" // see Fault
	lockFile     = "lock"
)

func openBay(dir string) (*bay, error) {
	b := &bay{dir: dir}
	if err := readJSON(filepath.Join(dir, bayFile), b); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bay) path(name string) string { return filepath.Join(b.dir, name) }

// lock keeps two hooks from working on one machine at the same time.
func (b *bay) lock() (unlock func(), err error) {
	f, err := os.OpenFile(b.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock machine %s: %w", b.Machine.Name, err)
	}
	return func() { f.Close() }, nil
}

// An override is what a machine boots in place of its own order.
type override struct {
	Device  string `json:"device"`            // in the words of ipmi_sim: pxe, default (the disk), cdrom, bios; or http
	Always  bool   `json:"always,omitempty"`  // not for the next start alone
	URL     string `json:"url,omitempty"`     // for http
	Redfish string `json:"redfish,omitempty"` // the name that Redfish has for it
	Mode    string `json:"mode,omitempty"`    // UEFI or Legacy, as Redfish was told; nothing comes of it
}

// boot returns the override for the next start; the zero value is none.
func (b *bay) boot() override {
	var o override
	if err := readJSON(b.path(bootFile), &o); err != nil {
		return override{}
	}
	return o
}

func (b *bay) setBoot(o override) error {
	if o.Device == "" || o.Device == "none" {
		return b.remove(bootFile)
	}
	return writeJSON(b.path(bootFile), o)
}

// booted uses up an override that holds once.
func (b *bay) booted(o override) error {
	if o.Always {
		return nil
	}
	return b.setBoot(override{})
}

func (b *bay) remove(names ...string) error {
	for _, n := range names {
		if err := os.RemoveAll(b.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", n, err)
		}
	}
	return nil
}

// prepareDisk makes an empty disk and fresh firmware variables.
func (b *bay) prepareDisk() error {
	disk, err := os.OpenFile(b.path(diskFile), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make disk of %s: %w", b.Machine.Name, err)
	}
	defer disk.Close()
	if err := disk.Truncate(int64(b.Machine.DiskMiB) << 20); err != nil {
		return fmt.Errorf("size disk of %s: %w", b.Machine.Name, err)
	}
	from := kits[b.Machine.Firmware].vars
	if from == "" {
		return nil
	}
	vars, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read firmware variables: %w", err)
	}
	return writeFile(b.path(varsFile), vars)
}
