package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/image"
	"github.com/rackstage/provision/pxe"
)

// imageWork is the folders and the settings that image commands work with.
type imageWork struct {
	*app
	conf  config
	log   *slog.Logger
	agent string // agent binary that goes into images
	force bool   // build also what is there
}

func (w *imageWork) boot() string  { return filepath.Join(w.conf.StateDir, "boot") }
func (w *imageWork) store() string { return filepath.Join(w.conf.StateDir, "images") }
func (w *imageWork) cache() string { return filepath.Join(w.conf.StateDir, "cache") }

// A part is something that `images build` makes.
type part struct {
	name  string
	short string
	build func(w *imageWork, ctx context.Context) (summary string, err error)
	there func(w *imageWork) bool
	agent bool // the agent is in it: another agent means building it anew
}

// parts are what can be built, in the order in which it is done.
var parts = []part{
	{"loaders", "iPXE, shim and GRUB, for networks and CDs, out of Debian's own packages", (*imageWork).buildLoaders, (*imageWork).haveLoaders, false},
	{"ramdisk", "kernel and ramdisk in which the agent installs", (*imageWork).buildRamdisk, (*imageWork).haveRamdisk, true},
	{"ramdisk-arm64", "the same for arm64 machines", (*imageWork).buildRamdiskARM64, (*imageWork).haveRamdiskARM64, true},
	{"debian-12", "Debian 12 with Docker and the agent, as an image for disks", (*imageWork).buildDebian, (*imageWork).haveDebian, true},
}

// needs says which parts a part is of no use without. Nobody who has no arm64
// machines need have an agent for them.
func (w *imageWork) needs(name string) []part {
	if name == "debian-12" {
		return slices.DeleteFunc(slices.Clone(parts), func(p part) bool {
			if p.name != ramdiskARM64 {
				return false
			}
			agent, err := w.agentFile(p.name)
			if err == nil {
				_, err = os.Stat(agent)
			}
			return err != nil
		})
	}
	for _, p := range parts {
		if p.name == name {
			return []part{p}
		}
	}
	return nil
}

func newImagesBuildCmd(a *app) *cobra.Command {
	w := &imageWork{app: a}
	cmd := &cobra.Command{
		Use:   "build debian-12 | ramdisk | ramdisk-arm64 | loaders",
		Short: "Build what machines boot and what is written to their disks",
		Long: `Builds from Debian's packages, of the mirror that this host's apt uses.
debian-12 builds everything that an installation needs: the image, the kernel and
ramdisk, the boot loaders, and the ramdisk for arm64 machines where the agent for
them, provision-agent-arm64, lies beside this program's agent. What is there already, with the same agent in it, is
left alone.`,
		Example:   "  sudo provision images build debian-12",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), onlyParts),
		ValidArgs: []string{"debian-12", "ramdisk", "ramdisk-arm64", "loaders"},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := w.prepare(cmd); err != nil {
				return err
			}
			for _, p := range w.needs(args[0]) {
				if err := w.make(cmd.Context(), p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&w.force, "force", false, "build also what is there already")
	addSettings(cmd.Flags(), "state_dir", "mirror", "agent")
	return cmd
}

func onlyParts(_ *cobra.Command, args []string) error {
	var names []string
	for _, p := range parts {
		if p.name == args[0] {
			return nil
		}
		names = append(names, p.name)
	}
	return &exitError{code: exitUsage, err: fmt.Errorf("cannot build %q", args[0]), hint: suggest(args[0], names)}
}

// prepare reads the configuration and makes the folders.
func (w *imageWork) prepare(cmd *cobra.Command) (err error) {
	if w.conf, err = w.loadConfig(cmd.Flags()); err != nil {
		return err
	}
	w.log = slog.New(slog.NewTextHandler(w.stderr, &slog.HandlerOptions{ReplaceAttr: forPeople}))
	for _, dir := range []string{w.conf.StateDir, w.boot(), w.store(), w.cache()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return &exitError{code: exitFailed, err: err, hint: "use sudo, or --state-dir"}
		}
	}
	return nil
}

// forPeople leaves out of a log line what whoever watches it knows.
func forPeople(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// make builds a part unless it is there.
func (w *imageWork) make(ctx context.Context, p part) error {
	stamp := ""
	if p.agent {
		var err error
		if stamp, err = w.agentStamp(p.name); err != nil {
			return err
		}
	}
	if !w.force && p.there(w) && w.stamped(p.name) == stamp {
		fmt.Fprintf(w.stdout, "%-13s is there already\n", p.name)
		return nil
	}
	fmt.Fprintf(w.stderr, "building %s: %s\n", p.name, p.short)
	began := w.now()
	summary, err := p.build(w, ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.stampFile(p.name), []byte(stamp), 0o600); err != nil {
		return fmt.Errorf("note what was built: %w", err)
	}
	fmt.Fprintf(w.stdout, "%-13s built in %s  %s\n", p.name, took(w.now().Sub(began)), printable(summary))
	return nil
}

func (w *imageWork) stampFile(name string) string { return filepath.Join(w.cache(), name+".built") }

func (w *imageWork) stamped(name string) string {
	stamp, err := os.ReadFile(w.stampFile(name))
	if err != nil {
		return "not built here"
	}
	return string(stamp)
}

const ramdiskARM64 = "ramdisk-arm64"

// agentFile is the agent that goes into a part.
func (w *imageWork) agentFile(part string) (string, error) {
	agent := w.conf.Agent
	if agent == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find the agent: %w", err)
		}
		agent = filepath.Join(filepath.Dir(self), "provision-agent")
	}
	if part == ramdiskARM64 {
		agent += "-arm64"
	}
	return agent, nil
}

// agentStamp finds the agent of a part and returns its digest.
func (w *imageWork) agentStamp(part string) (_ string, err error) {
	if w.agent, err = w.agentFile(part); err != nil {
		return "", err
	}
	f, err := os.Open(w.agent)
	if err != nil {
		return "", &exitError{code: exitFailed, err: fmt.Errorf("find the agent: %w", err), hint: "say where it is: --agent FILE"}
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read the agent: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (w *imageWork) haveFiles(dir string, names ...string) bool {
	for _, n := range names {
		if about, err := os.Stat(filepath.Join(dir, n)); err != nil || about.Size() == 0 {
			return false
		}
	}
	return true
}

func (w *imageWork) haveLoaders() bool {
	bios, x64 := image.CDLoaders(image.AMD64)
	_, arm64 := image.CDLoaders(image.ARM64)
	return w.haveFiles(w.boot(), append(pxe.Loaders(), bios, x64, arm64)...)
}

func (w *imageWork) buildLoaders(ctx context.Context) (string, error) {
	info, err := image.FetchLoaders(ctx, image.LoaderOptions{Out: w.boot(), Mirror: w.conf.Mirror, CacheDir: w.cache(), Log: w.log})
	return fmt.Sprintf("%s: %s", join(info.Packages...), join(info.Files...)), err
}

func (w *imageWork) haveRamdisk() bool {
	return w.haveFiles(w.boot(), "vmlinuz", "initrd.img", image.RescueFile(image.AMD64))
}

func (w *imageWork) haveRamdiskARM64() bool {
	return w.haveFiles(w.boot(), "vmlinuz-arm64", "initrd-arm64.img", image.RescueFile(image.ARM64))
}

func (w *imageWork) buildRamdisk(ctx context.Context) (string, error) {
	return w.buildRamdiskFor(ctx, image.AMD64)
}

func (w *imageWork) buildRamdiskARM64(ctx context.Context) (string, error) {
	return w.buildRamdiskFor(ctx, image.ARM64)
}

func (w *imageWork) buildRamdiskFor(ctx context.Context, arch string) (string, error) {
	info, err := image.BuildRamdisk(ctx, image.RamdiskOptions{
		Arch: arch, Agent: w.agent, Out: w.boot(), Mirror: w.conf.Mirror, CacheDir: w.cache(), Log: w.log,
	})
	return fmt.Sprintf("linux %s, kernel %s, ramdisk %s with %d modules", info.Version, bytesOf(info.KernelBytes), bytesOf(info.InitrdBytes), info.Modules), err
}

const debianImage = "debian-12"

func (w *imageWork) haveDebian() bool {
	images, err := image.Open(w.store())
	if err != nil {
		return false
	}
	info, err := images.Get(debianImage)
	return err == nil && info.Kind == debianImage
}

// buildDebian builds the raw image and puts it into the store, which is all
// that is kept of it.
func (w *imageWork) buildDebian(ctx context.Context) (summary string, err error) {
	work, err := os.MkdirTemp(w.cache(), "build-*.tmp")
	if err != nil {
		return "", fmt.Errorf("make work folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	built, err := image.BuildDebian(ctx, image.DebianOptions{
		Agent: w.agent, Out: filepath.Join(work, debianImage+".raw"), Mirror: w.conf.Mirror, CacheDir: w.cache(), WorkDir: work, Log: w.log,
	})
	if err != nil {
		return "", err
	}
	images, err := image.Open(w.store())
	if err != nil {
		return "", err
	}
	info, err := images.Add(ctx, debianImage, built.Image, image.Meta{Kind: debianImage, Packages: built.Packages, Digest: built.Digest})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s stored in %s, %s, %s", bytesOf(info.Size), bytesOf(info.StoredBytes),
		plural(info.Chunks, "chunk"), plural(len(info.Packages), "package"), strings.TrimPrefix(shortDigest(info.Digest), "@")), nil
}
