package image

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bootPackages bring GRUB for BIOS, and shim and GRUB signed for Secure Boot.
// They are taken as data: a node boots from what the image has, and its kernel
// packages only move links, so it needs none of GRUB's tools.
var bootPackages = []string{"grub-common", "grub-pc-bin", "grub-efi-amd64-signed", "shim-signed"}

func (b *debianBuild) fetchBoot(ctx context.Context) error {
	from, err := debianSources(aptEtc, b.Mirror, bookworm)
	if err != nil {
		return err
	}
	b.sources = from
	debs, err := fetchPackages(ctx, b.cache, pick{bookworm, AMD64, from}, func(apt aptRoot) ([]string, error) {
		b.lists, err = apt.listsDigest()
		return bootPackages, err
	})
	if err != nil {
		return err
	}
	for _, d := range debs {
		b.info.Packages = append(b.info.Packages, d.Name+"="+d.Version)
	}
	b.boot = b.part("boot")
	return unpack(ctx, b.boot, debs...)
}

// install lays out the tree of packages: a copy of the one in the cache, when
// that is of the same package lists and files of ours, or a new one.
func (b *debianBuild) install(ctx context.Context) error {
	early := b.part("early")
	if err := layOut("debian/early", early); err != nil {
		return err
	}
	drivers := filepath.Join(early, rootDriversFile)
	if err := os.MkdirAll(filepath.Dir(drivers), 0o755); err != nil {
		return fmt.Errorf("lay out drivers: %w", err)
	}
	if err := os.WriteFile(drivers, []byte(diskDrivers), 0o644); err != nil {
		return fmt.Errorf("lay out drivers: %w", err)
	}
	kept, err := b.keptTree()
	if err != nil {
		return err
	}
	if b.CacheDir == "" || b.Fresh || !kept.copyTo(ctx, b) {
		b.began = time.Now()
		if err := b.debootstrap(ctx, early); err != nil {
			return err
		}
		if b.CacheDir != "" && !b.Fresh {
			if err := kept.keep(ctx, b); err != nil {
				return err
			}
		}
	}
	return b.listPackages(ctx)
}

// debootstrap makes the tree with mmdebstrap. The debs of former builds are put
// where apt looks for them, and new ones are kept for the next build; apt
// checks them against the signed lists all the same.
func (b *debianBuild) debootstrap(ctx context.Context, early string) error {
	debs := filepath.Join(b.cache, "debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	packages, err := debianFiles.ReadFile("debian/packages.txt")
	if err != nil {
		return fmt.Errorf("read package list: %w", err)
	}
	var list bytes.Buffer
	for _, s := range b.sources {
		fmt.Fprintln(&list, s)
	}
	c := command{
		name:  "mmdebstrap",
		args:  mmdebstrapArgs(wordsOf(string(packages)), b.tree),
		env:   []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()), "HOOK_DEBS=" + debs, "HOOK_EARLY=" + early},
		stdin: &list,
	}
	_, err = c.run(ctx)
	return err
}

func mmdebstrapArgs(packages []string, tree string) []string {
	args := []string{
		"--quiet", "--mode=root", "--variant=minbase", "--format=directory", "--architectures=amd64",
		"--include=" + strings.Join(packages, ","),
		"--skip=essential/unlink",
		`--aptopt=Acquire::Languages "none"`,
		`--aptopt=Acquire::Retries "3"`,
		`--setup-hook=mkdir -p "$1/var/cache/apt/archives"; cp -al "$HOOK_DEBS"/*.deb "$1/var/cache/apt/archives/" 2>/dev/null || cp "$HOOK_DEBS"/*.deb "$1/var/cache/apt/archives/" 2>/dev/null || true`,
		`--essential-hook=cp -a --no-preserve=ownership "$HOOK_EARLY/." "$1/"`,
		`--customize-hook=cp -aln "$1"/var/cache/apt/archives/*.deb "$HOOK_DEBS/" 2>/dev/null || cp -n "$1"/var/cache/apt/archives/*.deb "$HOOK_DEBS/"`,
	}
	for _, rule := range []string{
		unsafeIO,
		"path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright",
		"path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*",
		"path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/lintian/*",
		"path-exclude=/usr/share/bug/*",
	} {
		args = append(args, "--dpkgopt="+rule)
	}
	return append(args, bookworm, tree, "-")
}

// unsafeIO spares a sync for each file while we build; finish.sh takes it out
// of the tree again.
const unsafeIO = "force-unsafe-io"

// listPackages notes what was installed.
func (b *debianBuild) listPackages(ctx context.Context) error {
	out, err := run(ctx, "dpkg-query", "--admindir="+filepath.Join(b.tree, "var/lib/dpkg"), "-W", "-f", "${Package}=${Version}\n")
	if err != nil {
		return err
	}
	b.info.Packages = append(b.info.Packages, strings.Fields(out)...)
	slices.Sort(b.info.Packages)
	b.info.Kernel, err = kernelVersion(b.tree)
	return err
}

// finish turns Debian into a node: our files, the agent, our services.
func (b *debianBuild) finish(ctx context.Context) error {
	if err := layOut("debian/root", b.tree); err != nil {
		return err
	}
	agent := filepath.Join(b.tree, "usr/sbin/provision-agent")
	if err := copyFile(b.Agent, agent); err != nil {
		return err
	}
	if err := os.Chmod(agent, 0o755); err != nil {
		return fmt.Errorf("install agent: %w", err)
	}
	script, err := debianFiles.ReadFile("debian/finish.sh")
	if err != nil {
		return fmt.Errorf("read finish.sh: %w", err)
	}
	c := command{
		name: "sh", args: []string{"-s", "--", b.tree}, stdin: bytes.NewReader(script),
		env: []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()), "PYTHONHASHSEED=0"},
	}
	_, err = c.run(ctx)
	return err
}

// layOut writes an embedded folder below dir. Embedding keeps no modes: what
// starts as a script is made executable.
func layOut(folder, dir string) error {
	return fs.WalkDir(debianFiles, folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, strings.TrimPrefix(name, folder))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		content, err := debianFiles.ReadFile(name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(content, []byte("#!")) {
			mode = 0o755
		}
		if err := os.WriteFile(to, content, mode); err != nil {
			return err
		}
		return os.Chmod(to, mode)
	})
}

// wordsOf is the words of a text without its comments.
func wordsOf(text string) []string {
	var words []string
	for line := range strings.SplitSeq(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words = append(words, strings.Fields(line)...)
	}
	return words
}
