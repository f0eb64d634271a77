package agent

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/rackstage/provision/agent/disk"
	"github.com/rackstage/provision/agent/efi"
	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

const efiVars = "/sys/firmware/efi/efivars"

// loaders are what an ESP may have, the best first: shim by its own name, then
// what firmware starts by default.
var loaders = []string{
	"EFI/debian/shimx64.efi", "EFI/BOOT/BOOTX64.EFI",
	"EFI/debian/shimaa64.efi", "EFI/BOOT/BOOTAA64.EFI",
}

// bootEntry makes UEFI firmware boot from the disk first. A BIOS boots by the
// order in its own set-up, which nobody can change from here.
func (in *installer) bootEntry(ctx context.Context, s *api.Step, _ func(int, string)) (outcome, error) {
	if _, err := os.Stat(efiVars); err != nil {
		return outcome{text: "BIOS: nothing to do"}, nil //nolint:nilerr // no variables, no UEFI
	}
	layout, err := in.disks.Layout(ctx, in.orderedDisk(s))
	if err != nil {
		return outcome{}, err
	}
	device, part, err := layout.ESP()
	if err != nil {
		return outcome{}, err
	}
	var loader string
	err = disk.WithMounted(device, true, mountPoint, func(at string) error {
		loader = findLoader(at)
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	if loader == "" {
		return outcome{}, fault.Errorf(fault.BootEntry, "no boot loader on the EFI system partition; looked for %s", strings.Join(loaders, ", "))
	}
	name, err := efi.Vars{Dir: efiVars}.BootFirst(efi.LoadOption{
		Description: "provision",
		File:        `\` + strings.ReplaceAll(loader, "/", `\`),
		Partition: efi.Partition{
			Number: uint32(part.Number), First: uint64(part.First), Blocks: uint64(part.Last - part.First + 1), GUID: part.GUID,
		},
	})
	if err != nil {
		return outcome{}, fault.Errorf(fault.BootEntry, "%w", err)
	}
	return outcome{text: name + " starts " + loader}, nil
}

// orderedDisk is the disk that the step names, or the one of the step before.
func (in *installer) orderedDisk(s *api.Step) string {
	var named string
	if s.Disk != nil {
		named = s.Disk.ID
	}
	if s.Seed != nil {
		named = cmp.Or(named, s.Seed.DiskID)
	}
	if s.Write != nil {
		named = cmp.Or(named, s.Write.DiskID)
	}
	return cmp.Or(named, in.last)
}

func findLoader(esp string) string {
	for _, l := range loaders {
		if info, err := os.Stat(filepath.Join(esp, filepath.FromSlash(l))); err == nil && info.Mode().IsRegular() {
			return l
		}
	}
	return ""
}
