package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// An aptRoot is a private apt: its own sources, lists and cache, so that
// nothing of the host's apt state is read or changed, except its proxies and
// keyrings.
type aptRoot struct {
	dir  string
	arch string // of the packages: they are data, and need not run here
}

// A pick is packages of one release and architecture, and where from.
type pick struct {
	release, arch string
	from          []source
}

// dir is the folder of the pick's private apt in the cache.
func (p pick) dir() string {
	if p.arch == AMD64 {
		return "apt-" + p.release
	}
	return "apt-" + p.release + "-" + p.arch
}

// fetchPackages downloads packages of a release into the cache, without what
// they depend on. choose names them, once the package lists are there. One
// process at a time: apt would not wait for another.
func fetchPackages(ctx context.Context, cache string, p pick, choose func(aptRoot) ([]string, error)) (debs []debFile, err error) {
	err = withLock(ctx, filepath.Join(cache, "apt.lock"), func() error {
		apt, err := newAptRoot(ctx, filepath.Join(cache, p.dir()), p)
		if err != nil {
			return err
		}
		names, err := choose(apt)
		if err != nil {
			return err
		}
		debs, err = apt.download(ctx, names...)
		return err
	})
	return debs, err
}

// newAptRoot makes (or takes up again) a private apt in dir that uses the
// given sources, and fetches their package lists.
func newAptRoot(ctx context.Context, dir string, p pick) (aptRoot, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return aptRoot{}, fmt.Errorf("private apt: %w", err)
	}
	a := aptRoot{dir, p.arch}
	for _, d := range []string{"lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return aptRoot{}, fmt.Errorf("private apt: %w", err)
		}
	}
	var list strings.Builder
	for _, s := range p.from {
		fmt.Fprintln(&list, s)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/sources.list"), []byte(list.String()), 0o644); err != nil {
		return aptRoot{}, fmt.Errorf("private apt: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return aptRoot{}, fmt.Errorf("private apt: %w", err)
	}
	_, err = a.command("apt-get", "update").run(ctx)
	return a, err
}

// command is an apt program that works in the private root.
func (a aptRoot) command(name string, args ...string) command {
	options := []string{
		"-qq",
		"-o", "Dir::State::Lists=" + filepath.Join(a.dir, "lists"),
		"-o", "Dir::State::status=" + filepath.Join(a.dir, "status"),
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "etc/sources.list"),
		"-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::Etc::preferences=-",
		"-o", "Dir::Etc::preferencesparts=-",
		"-o", "APT::Architecture=" + a.arch,
		"-o", "APT::Architectures=" + a.arch,
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=3",
		"-o", "APT::Sandbox::User=root",
		"-o", "APT::Update::Post-Invoke=", "-o", "APT::Update::Post-Invoke-Success=",
		"-o", "#clear=APT::Update::Post-Invoke", "-o", "#clear=APT::Update::Post-Invoke-Success",
	}
	return command{name: name, args: append(options, args...), dir: filepath.Join(a.dir, "cache/archives")}
}

// A debFile is one downloaded package.
type debFile struct {
	Name, Version, File string
}

// download fetches packages, without what they depend on; apt checks them
// against the signed package lists. What the cache has is not fetched again.
func (a aptRoot) download(ctx context.Context, names ...string) ([]debFile, error) {
	if _, err := a.command("apt-get", append([]string{"download"}, names...)...).run(ctx); err != nil {
		return nil, err
	}
	debs := make([]debFile, 0, len(names))
	for _, name := range names {
		d, err := a.locate(ctx, name)
		if err != nil {
			return nil, err
		}
		debs = append(debs, d)
	}
	return debs, nil
}

// locate finds the file that download made for a package.
func (a aptRoot) locate(ctx context.Context, name string) (debFile, error) {
	version, err := a.field(ctx, name, "Version")
	if err != nil {
		return debFile{}, err
	}
	pattern := fmt.Sprintf("%s_%s_*.deb", name, strings.ReplaceAll(version, ":", "%3a"))
	found, err := filepath.Glob(filepath.Join(a.dir, "cache/archives", pattern))
	if err != nil {
		return debFile{}, fmt.Errorf("find package %s: %w", name, err)
	}
	if len(found) == 0 {
		return debFile{}, fmt.Errorf("find package %s: apt made no file %s", name, pattern)
	}
	return debFile{Name: name, Version: version, File: found[0]}, nil
}

// field reads one field of the candidate version of a package.
func (a aptRoot) field(ctx context.Context, name, field string) (string, error) {
	out, err := a.command("apt-cache", "--no-all-versions", "show", name).run(ctx)
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(out, "\n") {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("package %s: no field %s", name, field)
}

// kernelPackage is the real package behind the meta package linux-image-amd64
// or linux-image-arm64: Debian's signed kernel.
func (a aptRoot) kernelPackage(ctx context.Context) (string, error) {
	meta := "linux-image-" + a.arch
	depends, err := a.field(ctx, meta, "Depends")
	if err != nil {
		return "", err
	}
	for d := range strings.SplitSeq(depends, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(d), " ")
		if strings.HasPrefix(name, "linux-image-") {
			return name, nil
		}
	}
	return "", errors.New(meta + " depends on no kernel: " + depends)
}

// unpack extracts packages below dir; their scripts are not run.
func unpack(ctx context.Context, dir string, debs ...debFile) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpack packages: %w", err)
	}
	for _, d := range debs {
		if _, err := run(ctx, "dpkg-deb", "--extract", d.File, dir); err != nil {
			return err
		}
	}
	return nil
}
