package image

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// RamdiskOptions say how to make the kernel and ramdisk of the installing agent.
type RamdiskOptions struct {
	Arch     string       // AMD64 when empty
	Agent    string       // the agent, a static program of that architecture: it becomes /init
	Out      string       // folder that gets vmlinuz, initrd.img and rescue.img, or vmlinuz-arm64, initrd-arm64.img and rescue-arm64.img
	Mirror   string       // Debian mirror; empty: what this host's apt uses
	CacheDir string       // downloads and packed drivers are kept here; empty: nothing is kept
	Log      *slog.Logger // may be nil
}

// RamdiskInfo tells what BuildRamdisk made.
type RamdiskInfo struct {
	Kernel, Initrd, Rescue   string // files
	KernelBytes, InitrdBytes int64
	Version                  string // of the kernel, as uname -r says it
	Package                  string // Debian package and version that it came from
	Modules                  int
}

// BuildRamdisk makes kernel and ramdisk for the installing agent, out of
// Debian's own kernel package. Nothing is installed on this host.
//
// The ramdisk is two archives one after the other, which the kernel unpacks
// into one tree: drivers change with the kernel only and take long to pack, the
// agent changes often and packs in seconds. The rescue system is the same with
// a third one, in a file of its own: not every loader can put two together.
func BuildRamdisk(ctx context.Context, o RamdiskOptions) (RamdiskInfo, error) {
	if o.Arch == "" {
		o.Arch = AMD64
	}
	if err := checkStatic(o.Agent, o.Arch); err != nil {
		return RamdiskInfo{}, err
	}
	cache, forget, err := cacheDir(o.CacheDir)
	if err != nil {
		return RamdiskInfo{}, err
	}
	defer forget()
	b := ramdiskBuild{RamdiskOptions: o, cache: cache}
	p := phases{quiet(o.Log)}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"fetch kernel package", b.fetchKernel},
		{"pack drivers", b.packDrivers},
		{"pack agent", b.packAgent},
		{"fetch and pack the shell of the rescue system", b.fetchShell},
		{"write kernel and ramdisk", b.write},
	} {
		if err := p.do(ctx, step.name, step.do); err != nil {
			return RamdiskInfo{}, fmt.Errorf("build ramdisk: %w", err)
		}
	}
	return b.info, nil
}

type ramdiskBuild struct {
	RamdiskOptions
	cache                 string
	deb                   debFile
	drivers, agent, shell string // packed archives
	info                  RamdiskInfo
}

func (b *ramdiskBuild) fetchKernel(ctx context.Context) error {
	from, err := debianSources(aptEtc, b.Mirror, bookworm)
	if err != nil {
		return err
	}
	debs, err := fetchPackages(ctx, b.cache, pick{bookworm, b.Arch, from}, func(apt aptRoot) ([]string, error) {
		name, err := apt.kernelPackage(ctx)
		return []string{name}, err
	})
	if err != nil {
		return err
	}
	b.deb = debs[0]
	b.info.Package = b.deb.Name + "=" + b.deb.Version
	return nil
}

// packDrivers makes the archive of drivers and the kernel beside it, unless the
// cache has those of this very kernel and list of drivers.
func (b *ramdiskBuild) packDrivers(ctx context.Context) error {
	key := fmt.Sprintf("%.12x", sha256.Sum256([]byte(b.info.Package+"\n"+ramdiskDrivers())))
	dir := filepath.Join(b.cache, "drivers-"+key)
	b.drivers = filepath.Join(dir, "drivers.cpio.zst")
	if _, err := os.Stat(b.drivers); err != nil {
		if err := b.makeDrivers(ctx, dir); err != nil {
			return err
		}
	}
	return b.readDrivers(dir)
}

func (b *ramdiskBuild) makeDrivers(ctx context.Context, dir string) error {
	work, err := os.MkdirTemp(b.cache, "drivers-*.tmp")
	if err != nil {
		return fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(work)
	all, picked := filepath.Join(work, "package"), filepath.Join(work, "picked")
	if err := unpack(ctx, all, b.deb); err != nil {
		return err
	}
	version, err := kernelVersion(all)
	if err != nil {
		return err
	}
	n, err := pickModules(ctx, all, picked, version, parseModuleSet(ramdiskDrivers()))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	if err := copyFile(filepath.Join(all, "boot/vmlinuz-"+version), filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	about := fmt.Sprintf("%s %d\n", version, n)
	if err := writeFile(filepath.Join(dir, "about"), text(about)); err != nil {
		return err
	}
	// Last, because its being there says that the folder is complete.
	return packTree(ctx, b.drivers, picked)
}

func (b *ramdiskBuild) readDrivers(dir string) error {
	about, err := os.ReadFile(filepath.Join(dir, "about"))
	if err != nil {
		return fmt.Errorf("read cached drivers: %w", err)
	}
	if _, err := fmt.Sscanf(string(about), "%s %d", &b.info.Version, &b.info.Modules); err != nil {
		return fmt.Errorf("read cached drivers: %w", err)
	}
	return nil
}

func (b *ramdiskBuild) packAgent(ctx context.Context) error {
	b.agent = filepath.Join(b.cache, fmt.Sprintf("agent-%d.cpio.zst.tmp", os.Getpid()))
	return packInit(ctx, b.agent, b.Agent)
}

func (b *ramdiskBuild) write(context.Context) error {
	defer os.Remove(b.agent)
	defer os.Remove(b.shell)
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	kernel, initrd := ramdiskFiles(b.Arch)
	b.info.Kernel, b.info.Initrd = filepath.Join(b.Out, kernel), filepath.Join(b.Out, initrd)
	if err := copyFile(filepath.Join(filepath.Dir(b.drivers), "vmlinuz"), b.info.Kernel); err != nil {
		return err
	}
	if err := writeFile(b.info.Initrd, concat(b.drivers, b.agent)); err != nil {
		return err
	}
	b.info.Rescue = filepath.Join(b.Out, RescueFile(b.Arch))
	if err := writeFile(b.info.Rescue, concat(b.drivers, b.agent, b.shell)); err != nil {
		return err
	}
	var err error
	if b.info.KernelBytes, err = fileSize(b.info.Kernel); err != nil {
		return err
	}
	b.info.InitrdBytes, err = fileSize(b.info.Initrd)
	return err
}

// ramdiskFiles are the names that the boot scripts have for them.
func ramdiskFiles(arch string) (kernel, initrd string) {
	if arch == AMD64 {
		return "vmlinuz", "initrd.img"
	}
	return "vmlinuz-" + arch, "initrd-" + arch + ".img"
}

// concat writes files one after the other, each filled up with zeros to four
// bytes, as the kernel wants it between archives.
func concat(names ...string) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := w.Write(append(b, make([]byte, -len(b)&3)...)); err != nil {
				return err
			}
		}
		return nil
	}
}

// checkStatic refuses an agent that would not start as the only program of a
// ramdisk.
func checkStatic(agent, arch string) error {
	trouble := func(kind fleet.Kind, err error) error {
		return &fleet.Error{
			Kind: kind, Op: "take as agent", On: agent, Err: err,
			Hint: "build it with: CGO_ENABLED=0 GOARCH=" + arch + " go build -o provision-agent ./cmd/agent",
		}
	}
	f, err := openELF(agent)
	if err != nil {
		return trouble(fleet.NotFound, err)
	}
	defer f.Close()
	if want := map[string]elf.Machine{AMD64: elf.EM_X86_64, ARM64: elf.EM_AARCH64}[arch]; f.Machine != want {
		return trouble(fleet.Invalid, fmt.Errorf("it is for %s, not for %s", f.Machine, arch))
	}
	for _, p := range f.Progs {
		if strings.HasSuffix(p.Type.String(), "INTERP") {
			return trouble(fleet.Invalid, fmt.Errorf("it needs a dynamic loader"))
		}
	}
	return nil
}
