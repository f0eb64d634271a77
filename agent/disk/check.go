package disk

import (
	"fmt"
	"strings"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// Find returns the one disk with the ID.
func (s System) Find(id string) (Device, error) {
	all, err := s.List()
	if err != nil {
		return Device{}, fault.Errorf(fault.DiskNone, "%w", err)
	}
	if len(all) == 0 {
		return Device{}, fault.Errorf(fault.DiskNone, "disk %s: this machine shows no disk", id)
	}
	var found []Device
	for _, d := range all {
		if d.ID == id {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Device{}, fault.Errorf(fault.DiskOther, "disk %s is not there; this machine has %s", id, names(all))
	default:
		return Device{}, fault.Errorf(fault.DiskOther, "%d disks are called %s: %s", len(found), id, names(found))
	}
}

// Check returns the planned disk, or says how what is there differs from the
// plan. It writes nothing.
func (s System) Check(o api.DiskOrder) (Device, error) {
	d, err := s.Find(o.ID)
	if err != nil {
		return Device{}, err
	}
	switch {
	case o.Serial != d.Serial:
		return Device{}, fault.Errorf(fault.DiskOther, "disk %s has serial %q, planned is %q", d.ID, d.Serial, o.Serial)
	case o.Bytes != 0 && o.Bytes != d.Bytes:
		return Device{}, fault.Errorf(fault.DiskOther, "disk %s has %d bytes, planned are %d", d.ID, d.Bytes, o.Bytes)
	case d.Bytes < o.MinBytes:
		return Device{}, fault.Errorf(fault.DiskSmall, "disk %s has %d bytes, the image needs %d", d.ID, d.Bytes, o.MinBytes)
	}
	return d, usable(d)
}

// Ready returns the disk with the ID if it can be written to. Whether it is
// the planned one was checked before.
func (s System) Ready(id string) (Device, error) {
	d, err := s.Find(id)
	if err != nil {
		return Device{}, err
	}
	return d, usable(d)
}

// usable refuses disks that are never written to.
func usable(d Device) error {
	switch {
	case d.Removable:
		return fault.Errorf(fault.DiskOther, "disk %s (%s) is removable", d.ID, d.Name)
	case d.ReadOnly:
		return fault.Errorf(fault.DiskReadOnly, "disk %s (%s) is read-only", d.ID, d.Name)
	case d.Busy != "":
		return fault.Errorf(fault.DiskBusy, "disk %s: %s", d.ID, d.Busy)
	}
	return nil
}

func names(all []Device) string {
	var out []string
	for _, d := range all {
		out = append(out, fmt.Sprintf("%s (%s, %d bytes)", d.ID, d.Name, d.Bytes))
	}
	return strings.Join(out, ", ")
}
