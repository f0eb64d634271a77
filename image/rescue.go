package image

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/cpio"
)

// rescueProfile is /etc/profile of the rescue system.
//
//go:embed rescue/profile
var rescueProfile string

// fetchShell gets the one program that the rescue system has beside the agent.
// It is Debian's, and static: it brings all its commands.
func (b *ramdiskBuild) fetchShell(ctx context.Context) error {
	from, err := debianSources(aptEtc, b.Mirror, bookworm)
	if err != nil {
		return err
	}
	debs, err := fetchPackages(ctx, b.cache, pick{bookworm, b.Arch, from}, func(aptRoot) ([]string, error) {
		return []string{"busybox-static"}, nil
	})
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(b.cache, "rescue-*.tmp")
	if err != nil {
		return fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(work)
	if err := unpack(ctx, work, debs[0]); err != nil {
		return err
	}
	b.shell = filepath.Join(b.cache, fmt.Sprintf("rescue-%d.cpio.zst.tmp", os.Getpid()))
	return packShell(ctx, b.shell, filepath.Join(work, "bin/busybox"))
}

// packShell packs what makes the rescue system out of the ramdisk.
func packShell(ctx context.Context, out, busybox string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return fmt.Errorf("pack shell: %w", err)
	}
	return packRecords(ctx, out, []cpio.Record{
		cpio.Directory("bin", 0o755),
		cpio.StaticFile("bin/busybox", string(program), 0o755),
		cpio.Symlink("bin/sh", "busybox"),
		cpio.Directory("etc", 0o755),
		cpio.StaticFile("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644),
		cpio.StaticFile("etc/group", "root:x:0:\n", 0o644),
		cpio.StaticFile("etc/profile", rescueProfile, 0o644),
	})
}

// RescueFile is the name of the rescue system, for an architecture as Debian
// names it.
func RescueFile(arch string) string {
	if arch == AMD64 {
		return "rescue.img"
	}
	return "rescue-" + arch + ".img"
}
