package image

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

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
	Package string   // Debian package and version
	Files   []string // names in Out
}

// loaders are the files of Debian's ipxe package that machines are given. Those
// in must are there in every version since trixie's; the others come and go.
var loaders = []struct {
	name string
	must bool
}{
	{"undionly.kpxe", true},
	{"ipxe.efi", true},
	{"snponly.efi", true},
	{"ipxe-arm64.efi", true},
	{"snponly-arm64.efi", false},
	{"ipxe.pxe", false},
}

// FetchLoaders takes iPXE out of Debian's package of it, which is data to us:
// it is not installed. It is trixie's package even where the host and the nodes
// are bookworm: only from there on iPXE knows HTTPS, VLANs and autoexec.ipxe.
func FetchLoaders(ctx context.Context, o LoaderOptions) (LoaderInfo, error) {
	cache, forget, err := cacheDir(o.CacheDir)
	if err != nil {
		return LoaderInfo{}, err
	}
	defer forget()
	var info LoaderInfo
	err = phases{quiet(o.Log)}.do(ctx, "fetch loaders", func(ctx context.Context) error {
		deb, err := fetchIPXE(ctx, cache, o.Mirror)
		if err != nil {
			return err
		}
		info.Package = deb.Name + "=" + deb.Version
		info.Files, err = takeLoaders(ctx, deb, cache, o.Out)
		return err
	})
	return info, err
}

func fetchIPXE(ctx context.Context, cache, mirror string) (debFile, error) {
	have, err := debianSources(aptEtc, mirror, bookworm)
	if err != nil {
		return debFile{}, err
	}
	from, err := otherRelease(have, trixie)
	if err != nil {
		return debFile{}, err
	}
	debs, err := fetchPackages(ctx, cache, trixie, []source{from}, func(aptRoot) ([]string, error) { return []string{"ipxe"}, nil })
	if err != nil {
		return debFile{}, err
	}
	return debs[0], nil
}

func takeLoaders(ctx context.Context, deb debFile, cache, out string) ([]string, error) {
	work, err := os.MkdirTemp(cache, "ipxe-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(work)
	if err := unpack(ctx, work, deb); err != nil {
		return nil, err
	}
	var taken []string
	for _, l := range loaders {
		from := filepath.Join(work, "usr/lib/ipxe", l.name)
		if _, err := os.Stat(from); err != nil {
			if l.must {
				return nil, &fleet.Error{Kind: fleet.NotFound, Op: "find " + l.name, On: deb.Name + " " + deb.Version, Err: err}
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
