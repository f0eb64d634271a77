package image

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// LoaderOptions say where the network loaders go.
type LoaderOptions struct {
	Out      string       // folder that gets the loaders
	Mirror   string       // Debian mirror; empty: what this host's apt uses
	CacheDir string       // downloads are kept here; empty: nothing is kept
	Log      *slog.Logger // may be nil
}

// LoaderInfo tells what FetchLoaders brought.
type LoaderInfo struct {
	Packages []string // Debian packages with their versions
	Files    []string // names in Out
}

// A bundle is a package and what of it machines are given.
type bundle struct {
	arch, name string
	files      []loaderFile
}

type loaderFile struct {
	from string // in the package
	name string // that machines ask for
	may  bool   // it is not in every version
}

// bundles are iPXE, for Secure Boot shim and GRUB, which shim finds by its
// name, and the memory test of the boot menu. Those that are not marked are there in every version since trixie's.
var bundles = []bundle{
	{AMD64, "ipxe", []loaderFile{
		{from: "usr/lib/ipxe/undionly.kpxe", name: "undionly.kpxe"},
		{from: "usr/lib/ipxe/ipxe.pxe", name: "ipxe.pxe"},
		{from: "usr/lib/ipxe/ipxe.efi", name: "ipxe.efi"},
		{from: "usr/lib/ipxe/snponly.efi", name: "snponly.efi"},
		{from: "usr/lib/ipxe/ipxe-arm64.efi", name: "ipxe-arm64.efi"},
		{from: "usr/lib/ipxe/snponly-arm64.efi", name: "snponly-arm64.efi", may: true},
	}},
	{AMD64, "shim-signed", []loaderFile{{from: "usr/lib/shim/shimx64.efi.signed", name: "shimx64.efi"}}},
	{AMD64, "grub-efi-amd64-signed", []loaderFile{{from: "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", name: "grubx64.efi"}}},
	{AMD64, "memtest86+", []loaderFile{
		{from: "boot/memtest86+x64.bin", name: "memtest86+x64.bin"},
		{from: "boot/memtest86+x64.efi", name: "memtest86+x64.efi"},
	}},
	{ARM64, "shim-signed", []loaderFile{{from: "usr/lib/shim/shimaa64.efi.signed", name: "shimaa64.efi"}}},
	{ARM64, "grub-efi-arm64-signed", []loaderFile{{from: "usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed", name: "grubaa64.efi"}}},
}

// FetchLoaders takes iPXE, shim, GRUB and the memory test out of Debian's packages of them,
// which are data to us: they are not installed. They are trixie's even where
// the host and the nodes are bookworm: only from there on iPXE knows HTTPS,
// VLANs and autoexec.ipxe, and GRUB under Secure Boot knows HTTP.
func FetchLoaders(ctx context.Context, o LoaderOptions) (LoaderInfo, error) {
	cache, forget, err := cacheDir(o.CacheDir)
	if err != nil {
		return LoaderInfo{}, err
	}
	defer forget()
	var info LoaderInfo
	err = phases{quiet(o.Log)}.do(ctx, "fetch loaders", func(ctx context.Context) error {
		for _, arch := range []string{AMD64, ARM64} {
			debs, err := fetchBundles(ctx, cache, o.Mirror, arch)
			if err != nil {
				return err
			}
			for _, deb := range debs {
				info.Packages = append(info.Packages, deb.Name+":"+arch+"="+deb.Version)
				files, err := takeLoaders(ctx, deb, arch, cache, o.Out)
				if err != nil {
					return err
				}
				info.Files = append(info.Files, files...)
			}
			cd, err := makeCDEFI(ctx, debs, arch, cache, o.Out)
			if err != nil {
				return err
			}
			info.Files = append(info.Files, cd)
		}
		cd, packages, err := makeCDBIOS(ctx, o.Mirror, cache, o.Out)
		info.Files, info.Packages = append(info.Files, cd), append(info.Packages, packages...)
		return err
	})
	return info, err
}

func fetchBundles(ctx context.Context, cache, mirror, arch string) ([]debFile, error) {
	have, err := debianSources(aptEtc, mirror, bookworm)
	if err != nil {
		return nil, err
	}
	from, err := otherRelease(have, trixie)
	if err != nil {
		return nil, err
	}
	return fetchPackages(ctx, cache, pick{trixie, arch, []source{from}}, func(aptRoot) ([]string, error) {
		var names []string
		for _, b := range bundles {
			if b.arch == arch {
				names = append(names, b.name)
			}
		}
		return names, nil
	})
}

func takeLoaders(ctx context.Context, deb debFile, arch, cache, out string) ([]string, error) {
	work, err := os.MkdirTemp(cache, "loaders-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(work)
	if err := unpack(ctx, work, deb); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(bundles, func(b bundle) bool { return b.arch == arch && b.name == deb.Name })
	var taken []string
	for _, l := range bundles[i].files {
		from := filepath.Join(work, l.from)
		if _, err := os.Stat(from); err != nil {
			if !l.may {
				return nil, &fleet.Error{Kind: fleet.NotFound, Op: "find " + l.from, On: deb.Name + " " + deb.Version, Err: err}
			}
			continue
		}
		if err := copyFile(from, filepath.Join(out, l.name)); err != nil {
			return nil, err
		}
		taken = append(taken, l.name)
	}
	return taken, nil
}
