package disk

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rackstage/provision/api"
)

const sector = 512 // that the kernel counts in, whatever the disk's own is

// A System is where the kernel shows its disks. Its zero value is this
// machine; tests have their own.
type System struct {
	Root string // before /sys, /dev and /proc
}

// A Device is one whole disk.
type Device struct {
	api.Disk
	Path  string // "/dev/vda"
	Parts []Part
	Busy  string // what uses it; "" when nothing does
}

// A Part is one partition, as the kernel sees it.
type Part struct {
	Number      int
	Path        string // "/dev/vda2"
	First, Size int64  // bytes
}

// notDisks are block devices that are never installed on.
var notDisks = regexp.MustCompile(`^(loop|ram|zram|dm-|md|sr|fd|nbd|mtdblock|rbd|drbd|zd)[0-9]|^mmcblk[0-9]+(boot|rpmb)`)

// List returns the disks of the machine, in the order of their IDs. A disk
// that says nothing about itself is left out.
func (s System) List() ([]Device, error) {
	entries, err := os.ReadDir(s.path("/sys/block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var found []Device
	for _, e := range entries {
		if d, ok := s.device(e.Name()); ok {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b Device) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})
	return found, nil
}

func (s System) device(name string) (Device, bool) {
	dir := s.path("/sys/block/" + name)
	size := readInt(dir + "/size")
	if notDisks.MatchString(name) || size <= 0 || readInt(dir+"/hidden") == 1 {
		return Device{}, false
	}
	d := Device{Path: s.path("/dev/" + name)}
	d.Name = name
	d.Bytes = size * sector
	d.Model = model(dir)
	d.Serial = serial(dir)
	d.ID = s.stableID(name, d.Serial)
	d.Rotational = readInt(dir+"/queue/rotational") == 1
	d.Removable = readInt(dir+"/removable") == 1
	d.ReadOnly = readInt(dir+"/ro") == 1
	d.Parts = s.parts(name)
	d.Busy = s.busy(d)
	return d, true
}

func (s System) path(p string) string { return s.Root + p }

// stableID follows the names in /dev/disk/by-id where there is one.
func (s System) stableID(name, serial string) string {
	dir := s.path("/sys/block/" + name)
	wwid := cmp.Or(readText(dir+"/wwid"), readText(dir+"/device/wwid"))
	kind, value, _ := strings.Cut(wwid, ".")
	switch {
	case strings.HasPrefix(name, "nvme") && wwid != "":
		return "nvme-" + tidy(wwid)
	case (kind == "naa" || kind == "eui") && value != "":
		return "wwn-0x" + tidy(value)
	case strings.HasPrefix(name, "vd") && serial != "":
		return "virtio-" + tidy(serial)
	case strings.HasPrefix(name, "mmcblk") && serial != "":
		return "mmc-" + tidy(serial)
	case value != "":
		return "scsi-" + tidy(value)
	default:
		return "path-" + s.busPath(name)
	}
}

var (
	busAddress  = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	scsiAddress = regexp.MustCompile(`^[0-9]+:([0-9]+:[0-9]+:[0-9]+)$`)
)

// busPath names the slot that a disk sits in: the last PCI address on the way
// to it, and behind a SCSI host (whose number changes) channel, target, unit.
func (s System) busPath(name string) string {
	real, err := filepath.EvalSymlinks(s.path("/sys/block/" + name))
	if err != nil {
		return name
	}
	var bus, unit string
	for part := range strings.SplitSeq(real, "/") {
		if busAddress.MatchString(part) {
			bus = "pci-" + part
		}
		if m := scsiAddress.FindStringSubmatch(part); m != nil {
			unit = "-scsi-" + m[1]
		}
	}
	if bus == "" {
		return name
	}
	return bus + unit
}

func (s System) parts(name string) []Part {
	dirs, _ := filepath.Glob(s.path("/sys/block/" + name + "/" + name + "*"))
	var found []Part
	for _, dir := range dirs {
		n := readInt(dir + "/partition")
		if n <= 0 {
			continue
		}
		found = append(found, Part{
			Number: int(n),
			Path:   s.path("/dev/" + filepath.Base(dir)),
			First:  readInt(dir+"/start") * sector,
			Size:   readInt(dir+"/size") * sector,
		})
	}
	slices.SortFunc(found, func(a, b Part) int { return cmp.Compare(a.Number, b.Number) })
	return found
}

// busy says what on this machine uses the disk or a partition of it.
func (s System) busy(d Device) string {
	names := []string{d.Name}
	for _, p := range d.Parts {
		names = append(names, filepath.Base(p.Path))
	}
	for _, n := range names {
		for _, dir := range []string{"/sys/block/" + n, "/sys/block/" + d.Name + "/" + n} {
			if held, err := os.ReadDir(s.path(dir + "/holders")); err == nil && len(held) > 0 {
				return n + " is part of " + held[0].Name()
			}
		}
	}
	for _, file := range []string{"/proc/mounts", "/proc/swaps"} {
		for line := range strings.SplitSeq(readText(s.path(file)), "\n") {
			dev, rest, _ := strings.Cut(line, " ")
			if slices.Contains(names, strings.TrimPrefix(dev, "/dev/")) {
				where, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
				return strings.TrimPrefix(dev, "/dev/") + " is in use (" + where + ")"
			}
		}
	}
	return ""
}

func model(dir string) string {
	return strings.TrimSpace(cmp.Or(readText(dir+"/device/model"), readText(dir+"/device/name")))
}

func serial(dir string) string {
	if s := cmp.Or(readText(dir+"/serial"), readText(dir+"/device/serial")); s != "" {
		return s
	}
	// SCSI and ATA: vital product data page 0x80, four bytes of header.
	page, err := os.ReadFile(dir + "/device/vpd_pg80")
	if err != nil || len(page) < 4 {
		return ""
	}
	return clean(string(page[4:min(len(page), 4+int(page[3]))]))
}

// tidy makes a part of an ID out of what a disk says: no spaces, nothing that
// is not printable ASCII.
func tidy(s string) string {
	s = strings.Join(strings.Fields(s), "_")
	out := []byte(s)
	for i, b := range out {
		if b <= ' ' || b > '~' || b == '/' || b == '\\' {
			out[i] = '_'
		}
	}
	if len(out) > 120 { // keep it apart from its likes all the same
		return string(out[:100]) + "-" + hex.EncodeToString(out[len(out)-8:])
	}
	return string(out)
}

func readText(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return clean(string(b))
}

func clean(s string) string {
	return strings.TrimSpace(strings.Trim(s, "\x00"))
}

func readInt(name string) int64 {
	n, err := strconv.ParseInt(readText(name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
