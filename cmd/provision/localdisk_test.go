package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab"
	"github.com/rackstage/provision/store"
)

// This file makes the machines of a test known before they boot, with disks
// that say that they were started.

// knowMachines makes a node of each machine of a rack whose server does not
// run yet.
func knowMachines(t *testing.T, r *labRack, boots map[string]boot) (map[string]fleet.NodeID, error) {
	t.Helper()
	ids := map[string]fleet.NodeID{}
	var nodes []fleet.Node
	for _, m := range r.rack.Machines() {
		b, known := boots[m.Name]
		if !known {
			continue
		}
		n := fleet.Node{
			ID: fleet.NewNodeID(), Name: m.Name, MAC: fleet.MAC(m.MAC), MACs: []fleet.MAC{fleet.MAC(m.MAC)}, State: fleet.Discovered, Revision: 1,
			Inventory: fleet.Inventory{Secure: b.secure, Product: b.product}, Approved: b.product != "", // only those teach about their model
		}
		if b.state != "" {
			n.State = b.state
		}
		if b.pool != "" {
			n.Pool, n.Stage = b.pool, "prd"
		}
		ids[m.Name] = n.ID
		nodes = append(nodes, n)
		if n.State == fleet.Active {
			if err := writeLocalDisk(t, r, m); err != nil {
				return nil, err
			}
		}
	}
	s, err := store.Open(t.Context(), filepath.Join(r.dir, "state/provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return ids, errors.Join(s.Save(t.Context(), fleet.Change{Nodes: nodes}), s.Close())
}

// A fileOnDisk is a file on a disk that speaks: a loader, or text.
type fileOnDisk struct{ path, loader, text string }

// speakingFiles are what a UEFI machine finds on its disk, at the path for
// removable media. iPXE does what the file beside it says; with Secure Boot on
// it is shim and GRUB, of the kind for networks, which looks for its
// configuration in /grub.
func speakingFiles(f lab.Firmware) []fileOnDisk {
	script := fileOnDisk{path: "EFI/BOOT/autoexec.ipxe", text: "#!ipxe\necho " + lab.DiskSays + "\nsleep 600\n"}
	switch f {
	case lab.SB, lab.SBHTTP:
		return []fileOnDisk{
			{path: "EFI/BOOT/BOOTX64.EFI", loader: "shimx64.efi"},
			{path: "EFI/BOOT/grubx64.efi", loader: "grubx64.efi"},
			{path: "grub/grub.cfg", text: "echo " + lab.DiskSays + "\nsleep 600\n"},
		}
	case lab.ARM64, lab.ARM64HTTP:
		return []fileOnDisk{{path: "EFI/BOOT/BOOTAA64.EFI", loader: "ipxe-arm64.efi"}, script}
	default:
		return []fileOnDisk{{path: "EFI/BOOT/BOOTX64.EFI", loader: "ipxe.efi"}, script}
	}
}

// writeLocalDisk puts something on a machine's disk that says that it was
// started: for a BIOS a boot sector, for a UEFI a file system.
func writeLocalDisk(t *testing.T, r *labRack, m lab.Machine) error {
	t.Helper()
	disk := filepath.Join(r.rack.Dir(), m.Name, "disk.img")
	if m.Firmware == lab.BIOS {
		return os.WriteFile(disk, lab.SpeakingDisk(), 0o600)
	}
	mtools := func(args ...string) error {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", args, err, out)
		}
		return nil
	}
	if err := mtools("mformat", "-i", disk, "::"); err != nil {
		return err
	}
	tree := t.TempDir()
	for _, f := range speakingFiles(m.Firmware) {
		content := []byte(f.text)
		if f.loader != "" {
			var err error
			if content, err = os.ReadFile(filepath.Join(os.Getenv("PROVISION_TEST_LOADERS"), f.loader)); err != nil {
				return err
			}
		}
		path := filepath.Join(tree, f.path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			return err
		}
	}
	tops, err := filepath.Glob(filepath.Join(tree, "*"))
	if err != nil {
		return err
	}
	return mtools(append(append([]string{"mcopy", "-s", "-i", disk}, tops...), "::")...)
}

// ownBoot gives the server a boot folder of its own, in place of the one of all
// tests.
func ownBoot(r *labRack) (boot string, err error) {
	boot = filepath.Join(r.dir, "state", "boot")
	from, err := filepath.EvalSymlinks(boot)
	if err != nil {
		return "", err
	}
	if err := os.Remove(boot); err != nil {
		return "", err
	}
	return boot, os.CopyFS(boot, os.DirFS(from))
}

// damageShim puts a shim in which a word is spelt otherwise into a boot folder of
// the server's own: it does what it did, but its signature is wrong.
func damageShim(r *labRack) error {
	boot, err := ownBoot(r)
	if err != nil {
		return err
	}
	shim, err := os.ReadFile(filepath.Join(boot, "shimx64.efi"))
	if err != nil {
		return err
	}
	word := wide("Verification failed")
	at := bytes.Index(shim, word)
	if at < 0 {
		return errors.New("the word to damage is not in shim any more")
	}
	copy(shim[at:], wide("Vexification failed"))
	return os.WriteFile(filepath.Join(boot, damagedShim), shim, 0o600)
}

// wide is text as UEFI programs have it: UTF-16.
func wide(text string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}
