package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The disk: a GPT with a BIOS boot partition for GRUB's core, an ESP, and the
// root as the last one, so that it can grow. All identities are fixed, because
// equal builds shall be equal; the installing agent may give a disk its own.
const (
	mib       = 1 << 20
	sector    = 512
	biosStart = 1 * mib
	biosSize  = 1 * mib
	espStart  = 2 * mib
	espSize   = 62 * mib
	rootStart = 64 * mib

	diskID   = "70726f76-6973-696f-6e00-000000000001"
	biosID   = "70726f76-6973-696f-6e00-000000000002"
	espID    = "70726f76-6973-696f-6e00-000000000003"
	rootID   = "70726f76-6973-696f-6e00-000000000004"
	rootUUID = "70726f76-6973-696f-6e00-000000000005"
	hashSeed = "70726f76-6973-696f-6e00-000000000006"
	espFATID = "70726f76"

	typeBIOS = "21686148-6449-6E6F-744E-656564454649"
	typeESP  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeRoot = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709" // root, x86-64
)

// makeESP makes the FAT file system that UEFI boots from. shim and GRUB are
// there twice: under the name that firmware looks for on any disk, and in
// EFI/debian, where the signed GRUB has its configuration and a boot entry
// points to. No fallback program: it would write boot entries and restart.
func (b *debianBuild) makeESP(ctx context.Context) error {
	tree := b.part("esp.d")
	cfg, err := debianFiles.ReadFile("debian/esp.cfg")
	if err != nil {
		return fmt.Errorf("read esp.cfg: %w", err)
	}
	shim := filepath.Join(b.boot, "usr/lib/shim/shimx64.efi.signed")
	grub := filepath.Join(b.boot, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
	for to, from := range map[string]string{
		"EFI/BOOT/BOOTX64.EFI": shim, "EFI/BOOT/grubx64.efi": grub,
		"EFI/debian/shimx64.efi": shim, "EFI/debian/grubx64.efi": grub,
	} {
		if err := copyFile(from, filepath.Join(tree, to)); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(tree, "EFI/debian/grub.cfg"), text(string(cfg))); err != nil {
		return err
	}
	esp := b.part("esp.img")
	if err := makeHole(esp, espSize); err != nil {
		return err
	}
	if _, err := run(ctx, "mkfs.vfat", "--invariant", "-F", "32", "-i", espFATID, "-n", "ESP", esp); err != nil {
		return err
	}
	return fillFAT(ctx, esp, tree, []string{"EFI", "EFI/BOOT", "EFI/debian"}, []string{
		"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi",
		"EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi", "EFI/debian/grub.cfg",
	})
}

// fillFAT copies a tree file by file in a fixed order: mcopy of a folder goes
// by the order that the host's file system has.
func fillFAT(ctx context.Context, fat, tree string, folders, files []string) error {
	env := []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()), "MTOOLS_SKIP_CHECK=1"}
	mtool := func(name string, args ...string) error {
		c := command{name: name, args: append([]string{"-i", fat}, args...), env: env}
		_, err := c.run(ctx)
		return err
	}
	for _, name := range folders {
		if err := mtool("mmd", "::/"+name); err != nil {
			return err
		}
	}
	for _, name := range files {
		if err := mtool("mcopy", filepath.Join(tree, name), "::/"+name); err != nil {
			return err
		}
	}
	return nil
}

// coreModules are what GRUB needs on BIOS to reach and read our grub.cfg; it
// loads nothing from the root file system.
var coreModules = strings.Fields("biosdisk part_gpt ext2 normal linux echo test regexp probe serial terminal configfile minicmd all_video gzio")

// makeBIOS makes GRUB's core image with its configuration inside.
func (b *debianBuild) makeBIOS(ctx context.Context) error {
	cfg, err := debianFiles.ReadFile("debian/esp.cfg")
	if err != nil {
		return fmt.Errorf("read esp.cfg: %w", err)
	}
	early := b.part("core.cfg")
	if err := os.WriteFile(early, cfg, 0o644); err != nil {
		return fmt.Errorf("make GRUB's core: %w", err)
	}
	// The program is of the release that the image is of, so it runs with that
	// release's libraries.
	inside := filepath.Join(b.tree, "run/grub")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		return fmt.Errorf("make GRUB's core: %w", err)
	}
	args := append([]string{
		"--directory=" + filepath.Join(b.boot, "usr/lib/grub/i386-pc"), "--format=i386-pc",
		"--prefix=/boot/grub", "--config=" + early, "--output=" + b.part("core.img"),
	}, coreModules...)
	_, err = run(ctx, filepath.Join(b.boot, "usr/bin/grub-mkimage"), args...)
	return err
}

// assemble puts the parts together as one disk.
func (b *debianBuild) assemble(ctx context.Context) error {
	rootSize, err := fileSize(b.part("root.img"))
	if err != nil {
		return err
	}
	b.info.Size = rootStart + rootSize + mib // the last MiB is for the second GPT
	disk := b.part("disk.img")
	if err := makeHole(disk, b.info.Size); err != nil {
		return err
	}
	c := command{name: "sfdisk", args: []string{"--quiet", "--no-reread", "--no-tell-kernel", disk}, stdin: strings.NewReader(gptScript(rootSize))}
	if _, err := c.run(ctx); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		at   int64
	}{{"core.img", biosStart}, {"esp.img", espStart}, {"root.img", rootStart}} {
		if err := copySparse(disk, p.at, b.part(p.name)); err != nil {
			return err
		}
	}
	if err := writeBootSector(disk, filepath.Join(b.boot, "usr/lib/grub/i386-pc/boot.img")); err != nil {
		return err
	}
	if err := os.Rename(disk, b.Out); err != nil {
		return fmt.Errorf("place image: %w", err)
	}
	return nil
}

func gptScript(rootSize int64) string {
	var s strings.Builder
	fmt.Fprintf(&s, "label: gpt\nlabel-id: %s\nunit: sectors\nfirst-lba: 34\n", diskID)
	line := func(start, size int64, kind, id, name string) {
		fmt.Fprintf(&s, "start=%d, size=%d, type=%s, uuid=%s, name=%s\n", start/sector, size/sector, kind, id, name)
	}
	line(biosStart, biosSize, typeBIOS, biosID, "provision-bios")
	line(espStart, espSize, typeESP, espID, "provision-esp")
	line(rootStart, rootSize, typeRoot, rootID, "provision-root")
	return s.String()
}

// writeBootSector does what grub-install does, without a device: GRUB's boot
// code into the first sector, with the place of the core in it, and in the core's
// own first sector the place of its rest. Layout as in GRUB's i386/pc/boot.h.
func writeBootSector(disk, bootImage string) error {
	const (
		codeSize     = 440  // what follows belongs to the partition table
		kernelSector = 0x5c // where boot.img looks for the core
		driveCheck   = 0x66 // a jump that old BIOSes need replaced, as grub-install does
		blockList    = sector - 12
	)
	code, err := os.ReadFile(bootImage)
	if err != nil {
		return fmt.Errorf("write boot sector: %w", err)
	}
	if len(code) != sector {
		return fmt.Errorf("write boot sector: boot.img has %d bytes, want %d", len(code), sector)
	}
	binary.LittleEndian.PutUint64(code[kernelSector:], biosStart/sector)
	code[driveCheck], code[driveCheck+1] = 0x90, 0x90
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("write boot sector: %w", err)
	}
	rest := binary.LittleEndian.AppendUint64(nil, biosStart/sector+1)
	_, err1 := f.WriteAt(code[:codeSize], 0)
	_, err2 := f.WriteAt(rest, biosStart+blockList)
	if err := errors.Join(err1, err2, f.Close()); err != nil {
		return fmt.Errorf("write boot sector: %w", err)
	}
	return nil
}

// copySparse copies a file into another at an offset and leaves its holes out.
func copySparse(into string, at int64, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(into, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	err = eachExtent(in, func(start, size int64) error {
		_, err := io.Copy(io.NewOffsetWriter(out, at+start), io.NewSectionReader(in, start, size))
		return err
	})
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// eachExtent calls do for every stretch of a file that is not a hole.
func eachExtent(f *os.File, do func(start, size int64) error) error {
	for end := int64(0); ; {
		start, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		if end, err = f.Seek(start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := do(start, end-start); err != nil {
			return err
		}
	}
}

// digest records what the image is and is made of, in files beside it.
func (b *debianBuild) digest(context.Context) error {
	sum, err := fileDigest(b.Out)
	if err != nil {
		return err
	}
	b.info.Image, b.info.Digest = b.Out, "sha256:"+sum
	var list bytes.Buffer
	for _, p := range b.info.Packages {
		fmt.Fprintln(&list, p)
	}
	if err := writeFile(b.Out+".packages", text(list.String())); err != nil {
		return err
	}
	return writeFile(b.Out+".sha256", text(sum+"  "+filepath.Base(b.Out)+"\n"))
}
