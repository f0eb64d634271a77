package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A DiskRule says which disk of a machine the system goes to. Its zero value
// takes the smallest disk that is big enough.
type DiskRule struct {
	Serial  string // exactly this serial number
	Model   string // model contains this text
	MinGiB  int
	MaxGiB  int    // 0: no upper limit
	Type    string // "ssd", "hdd", "nvme" or "" for any
	Largest bool   // of those that fit take the largest
}

// ChooseDisk returns the disk that rule picks out of disks for an image of
// the given size. Removable and read-only disks are never chosen. Of several
// the smallest is taken (or the largest, if the rule says so), and of equals
// the first by ID, so that the choice does not depend on kernel names.
func ChooseDisk(rule DiskRule, disks []Disk, imageBytes int64) (Disk, error) {
	var fit []Disk
	var small int64
	for _, d := range disks {
		if d.Removable || d.ReadOnly || !rule.matches(d) {
			continue
		}
		if d.Bytes < imageBytes {
			small = max(small, d.Bytes)
			continue
		}
		fit = append(fit, d)
	}
	if len(fit) == 0 {
		return Disk{}, noDisk(rule, len(disks), small, imageBytes)
	}
	slices.SortFunc(fit, func(a, b Disk) int {
		bySize := cmp.Compare(a.Bytes, b.Bytes)
		if rule.Largest {
			bySize = -bySize
		}
		return cmp.Or(bySize, strings.Compare(a.ID, b.ID))
	})
	return fit[0], nil
}

func noDisk(rule DiskRule, n int, largestSmall, imageBytes int64) error {
	e := &Error{Kind: Conflict, Code: "E-DISK-NONE", Op: "choose disk", Hint: "change disk: in the pool's profile, or the machine's disks"}
	switch {
	case n == 0:
		e.Err = fmt.Errorf("the machine shows no disk")
		e.Hint = "check cabling and the disk controller's mode; its driver has to be in the ramdisk"
	case largestSmall > 0:
		e.Code = "E-DISK-SMALL"
		e.Err = fmt.Errorf("the largest matching disk has %d bytes, the image needs %d", largestSmall, imageBytes)
	default:
		e.Err = fmt.Errorf("none of %d disks matches the rule %+v", n, rule)
	}
	return e
}

func (r DiskRule) matches(d Disk) bool {
	const gib = 1 << 30
	switch {
	case r.Serial != "" && d.Serial != r.Serial,
		r.Model != "" && !strings.Contains(d.Model, r.Model),
		r.MinGiB > 0 && d.Bytes < int64(r.MinGiB)*gib,
		r.MaxGiB > 0 && d.Bytes > int64(r.MaxGiB)*gib:
		return false
	}
	switch r.Type {
	case "ssd":
		return !d.Rotational
	case "hdd":
		return d.Rotational
	case "nvme":
		return strings.HasPrefix(d.Name, "nvme")
	default:
		return true
	}
}
