package image

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

//go:embed debian
var debianFiles embed.FS

// DebianOptions say what image to build.
type DebianOptions struct {
	Agent    string       // the agent, a static program: it becomes /usr/sbin/provision-agent
	Out      string       // the raw image; Out.packages and Out.sha256 are made beside it
	Mirror   string       // Debian mirror; empty: what this host's apt uses
	CacheDir string       // downloads are kept here; empty: nothing is kept
	WorkDir  string       // where the tree is laid out, about 1.5 GB; empty: beside Out
	Fresh    bool         // install the packages anew, even where CacheDir has a tree of them
	Log      *slog.Logger // may be nil
}

// DebianInfo tells what BuildDebian made.
type DebianInfo struct {
	Image    string   // the raw image
	Digest   string   // "sha256:…" of it
	Size     int64    // bytes of the raw image
	Kernel   string   // as uname -r says it
	Packages []string // name=version, sorted
}

// BuildDebian builds a raw disk image of Debian 12 with Docker and our agent,
// which boots by BIOS and by UEFI, with Secure Boot on or off. The same packages
// and the same agent give the same bytes.
func BuildDebian(ctx context.Context, o DebianOptions) (DebianInfo, error) {
	if err := checkStatic(o.Agent, AMD64); err != nil {
		return DebianInfo{}, err
	}
	cache, forget, err := cacheDir(o.CacheDir)
	if err != nil {
		return DebianInfo{}, err
	}
	defer forget()
	work, err := debianWork(o)
	if err != nil {
		return DebianInfo{}, err
	}
	defer os.RemoveAll(work)
	b := debianBuild{DebianOptions: o, cache: cache, work: work, tree: filepath.Join(work, "tree")}
	p := phases{quiet(o.Log)}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"fetch boot loaders", b.fetchBoot},
		{"install packages", b.install},
		{"finish tree", b.finish},
		{"make ESP", b.makeESP},
		{"make root file system", b.makeRoot},
		{"make BIOS boot", b.makeBIOS},
		{"assemble disk", b.assemble},
		{"digest", b.digest},
	} {
		if err := p.do(ctx, step.name, step.do); err != nil {
			return DebianInfo{}, fmt.Errorf("build image: %w", err)
		}
	}
	return b.info, nil
}

// debianWork is a fresh folder for the tree and the parts of the disk.
func debianWork(o DebianOptions) (string, error) {
	near := o.WorkDir
	if near == "" {
		near = filepath.Dir(o.Out)
	}
	near, err := filepath.Abs(near)
	if err != nil {
		return "", fmt.Errorf("make work folder: %w", err)
	}
	if err := os.MkdirAll(near, 0o755); err != nil {
		return "", fmt.Errorf("make work folder: %w", err)
	}
	work, err := os.MkdirTemp(near, "image-*.tmp")
	if err != nil {
		return "", fmt.Errorf("make work folder: %w", err)
	}
	return work, nil
}

type debianBuild struct {
	DebianOptions
	cache, work string
	began       time.Time
	tree        string // the root file system as folders
	boot        string // GRUB and shim, unpacked
	sources     []source
	lists       string // digest of the package lists
	info        DebianInfo
}

// part is the file of one piece of the disk.
func (b *debianBuild) part(name string) string { return filepath.Join(b.work, name) }
