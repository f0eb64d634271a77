package image

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// This file makes what CD images boot with. An image itself, with kernel,
// ramdisk and the script of its machine, is laid out by package iso when a BMC
// asks for it.

//go:embed cd
var cdFiles embed.FS

// CDLoaders are the files of what CD images boot with, for a BIOS and for the
// UEFI of an architecture. There are no machines with arm64 and a BIOS.
func CDLoaders(arch string) (bios, efi string) {
	if arch == ARM64 {
		return "", "cd-arm64.img"
	}
	return "cd-bios.img", "cd-x64.img"
}

// efiNames are what firmware looks for on removable media, and shim beside it.
var efiNames = map[string]struct{ shim, grub, bootName, grubName string }{
	AMD64: {"usr/lib/shim/shimx64.efi.signed", "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", "BOOTX64.EFI", "grubx64.efi"},
	ARM64: {"usr/lib/shim/shimaa64.efi.signed", "usr/lib/grub/arm64-efi-signed/gcdaa64.efi.signed", "BOOTAA64.EFI", "grubaa64.efi"},
}

// makeCDEFI makes the file system that a UEFI finds on a CD: Debian's signed
// shim and the signed GRUB that Debian has for CDs, so that it boots with Secure
// Boot on too.
func makeCDEFI(ctx context.Context, debs []debFile, arch, cache, out string) (string, error) {
	work, err := os.MkdirTemp(cache, "cd-*.tmp")
	if err != nil {
		return "", fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(work)
	from, tree, fat := filepath.Join(work, "from"), filepath.Join(work, "tree"), filepath.Join(work, "fat.img")
	for _, d := range debs {
		if d.Name == "shim-signed" || strings.HasPrefix(d.Name, "grub-efi-") {
			if err := unpack(ctx, from, d); err != nil {
				return "", err
			}
		}
	}
	cfg, err := cdFiles.ReadFile("cd/efi.cfg")
	if err != nil {
		return "", fmt.Errorf("read efi.cfg: %w", err)
	}
	n := efiNames[arch]
	shim, grub, script := "EFI/BOOT/"+n.bootName, "EFI/BOOT/"+n.grubName, "boot/grub/grub.cfg"
	for name, source := range map[string]string{shim: n.shim, grub: n.grub} {
		if err := copyFile(filepath.Join(from, source), filepath.Join(tree, name)); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(filepath.Join(tree, filepath.Dir(script)), 0o755); err != nil {
		return "", fmt.Errorf("make work folder: %w", err)
	}
	if err := writeFile(filepath.Join(tree, script), text(string(cfg))); err != nil {
		return "", err
	}
	// A size that no version outgrows soon, in which FAT12 still reaches all.
	if err := makeHole(fat, 6*mib); err != nil {
		return "", err
	}
	if _, err := run(ctx, "mkfs.vfat", "--invariant", "-F", "12", "-i", espFATID, "-n", "PROVISION", fat); err != nil {
		return "", err
	}
	err = fillFAT(ctx, fat, tree, []string{"EFI", "EFI/BOOT", "boot", "boot/grub"}, []string{shim, grub, script})
	if err != nil {
		return "", err
	}
	_, name := CDLoaders(arch)
	return name, copyFile(fat, filepath.Join(out, name))
}

// cdModules are what GRUB needs on a BIOS to read our script from a CD and to
// start what it names.
var cdModules = strings.Fields("biosdisk iso9660 search_fs_file normal linux echo test sleep serial terminal configfile minicmd halt")

// makeCDBIOS makes the file that a BIOS starts from a CD, of the GRUB that the
// nodes' images have.
func makeCDBIOS(ctx context.Context, mirror, cache, out string) (name string, packages []string, err error) {
	from, err := debianSources(aptEtc, mirror, bookworm)
	if err != nil {
		return "", nil, err
	}
	debs, err := fetchPackages(ctx, cache, pick{bookworm, AMD64, from}, func(aptRoot) ([]string, error) {
		return []string{"grub-common", "grub-pc-bin"}, nil
	})
	if err != nil {
		return "", nil, err
	}
	work, err := os.MkdirTemp(cache, "cd-*.tmp")
	if err != nil {
		return "", nil, fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(work)
	if err := unpack(ctx, work, debs...); err != nil {
		return "", nil, err
	}
	cfg, err := cdFiles.ReadFile("cd/bios.cfg")
	if err != nil {
		return "", nil, fmt.Errorf("read bios.cfg: %w", err)
	}
	early, made := filepath.Join(work, "early.cfg"), filepath.Join(work, "made.img")
	if err := writeFile(early, text(string(cfg))); err != nil {
		return "", nil, err
	}
	args := append([]string{
		"--directory=" + filepath.Join(work, "usr/lib/grub/i386-pc"), "--format=i386-pc-eltorito",
		"--prefix=/boot/grub", "--config=" + early, "--output=" + made,
	}, cdModules...)
	if _, err := run(ctx, filepath.Join(work, "usr/bin/grub-mkimage"), args...); err != nil {
		return "", nil, err
	}
	for _, d := range debs {
		packages = append(packages, d.Name+":"+AMD64+"="+d.Version)
	}
	name, _ = CDLoaders(AMD64)
	return name, packages, copyFile(made, filepath.Join(out, name))
}
