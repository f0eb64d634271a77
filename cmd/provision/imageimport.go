package main

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/image"
)

func newImagesImportCmd(a *app) *cobra.Command {
	w := &imageWork{app: a}
	var name, sum, format string
	var allow []string
	cmd := &cobra.Command{
		Use:     "import FILE|URL",
		Aliases: []string{"add"},
		Short:   "Put any raw disk image into the store",
		Long: `Takes a raw disk image as it is or packed with zstd, gzip or xz, from a file or
an http or https URL. What comes from the network needs its SHA-256, and must not
come from this machine or a link-local address unless --allow names its network.`,
		Example: `  sudo provision images import debian-12-genericcloud.raw --name debian-12-cloud
  sudo provision images import https://images.example/os.raw.zst --sha256 9f2c…`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			store, err := w.open(cmd)
			if err != nil {
				return err
			}
			if store.Allow, err = networks(allow); err != nil {
				return err
			}
			if name == "" {
				name = imageName(args[0])
			}
			info, err := store.Import(cmd.Context(), name, args[0], sum, w.log)
			if err != nil {
				return err
			}
			return imageListing([]api.Image{toImage(info)}).write(a.stdout, format)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "`name` that profiles use (default: that of the file)")
	f.StringVar(&sum, "sha256", "", "SHA-256 of the file as it is published, in `hex`")
	f.StringSliceVar(&allow, "allow", nil, "`networks` of our own that it may come from: 127.0.0.0/8")
	addSettings(f, "state_dir")
	addOutput(cmd, &format)
	return cmd
}

func networks(texts []string) (prefixes []netip.Prefix, err error) {
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, usagef("--allow %s: write a network such as 10.0.0.0/8", t)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// imageName is the name of a file without what its end says about its format.
func imageName(from string) string {
	base := path.Base(strings.TrimRight(from, "/"))
	for {
		trimmed := base
		for _, ext := range []string{".raw", ".img", ".zst", ".gz", ".xz"} {
			trimmed = strings.TrimSuffix(trimmed, ext)
		}
		if trimmed == base {
			return strings.ToLower(base)
		}
		base = trimmed
	}
}

func newImagesVerifyCmd(a *app) *cobra.Command {
	w := &imageWork{app: a}
	cmd := &cobra.Command{
		Use:   "verify [IMAGE…]",
		Short: "Read every chunk of images and check that it is what its name says",
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := w.open(cmd)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				infos, err := store.List()
				if err != nil {
					return err
				}
				for _, i := range infos {
					args = append(args, i.Name)
				}
			}
			return a.verifyImages(cmd.Context(), store, args)
		},
	}
	addSettings(cmd.Flags(), "state_dir")
	return cmd
}

func (a *app) verifyImages(ctx context.Context, store *image.Store, names []string) error {
	damaged := 0
	for _, name := range names {
		bad, err := store.Verify(ctx, name)
		if err != nil {
			return err
		}
		if len(bad) == 0 {
			fmt.Fprintf(a.stdout, "%s is sound\n", name)
			continue
		}
		damaged++
		fmt.Fprintf(a.stdout, "%s: %s damaged or missing\n", name, plural(len(bad), "chunk"))
		for _, id := range bad {
			fmt.Fprintf(a.stdout, "  %s\n", id)
		}
	}
	if damaged > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("%s damaged", plural(damaged, "image")), hint: "build or import it again: only what is damaged is written anew"}
	}
	return nil
}
