package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
)

func newTemplatesCmd(a *app) *cobra.Command {
	return group("templates", "Look at what machines are given: scripts, menus, seeds",
		newTemplatesListCmd(a), newTemplatesRenderCmd(a), newTemplatesLintCmd(a))
}

func newTemplatesListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[api.Template]{
		use:   "list",
		short: "List what is filled in for machines, the scripts of site.yaml first",
		ask:   func(ctx context.Context, srv server, _ []string) ([]api.Template, error) { return srv.Templates(ctx) },
		show: func(list []api.Template) listing[api.Template] {
			return listing[api.Template]{
				items: list,
				name:  func(t api.Template) string { return t.Name },
				columns: []column[api.Template]{
					{"NAME", false, func(t api.Template) string { return t.Name }},
					{"KIND", false, func(t api.Template) string { return t.Kind }},
					{"FOR", false, func(t api.Template) string { return dash(strings.Join(t.For, ", ")) }},
				},
			}
		},
	})
}

func newTemplatesRenderCmd(a *app) *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use:   "render NODE",
		Short: "Show what a node would be given now, to the letter, with zeros for tickets",
		Long: `Shows what a node would be given now, to the letter. Zeros stand in the place
of one-use tickets and links, and none is made.

NODE is a name, an ID or a MAC address, also of a machine that is not known yet.`,
		Example: `  provision templates render prd-7
  provision templates render prd-7 --as seed
  provision templates render 52:54:00:12:34:56 --as menu`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes,
		RunE: a.doing(func(ctx context.Context, srv server, args []string) error {
			r, err := srv.Render(ctx, args[0], as)
			if err != nil {
				return err
			}
			a.printRendered(r)
			return nil
		}),
	}
	cmd.Flags().StringVar(&as, "as", "ipxe", "`kind`: ipxe (what iPXE gets), menu, custom, local, rescue, grub (what GRUB gets), grub-menu, seed")
	return cmd
}

// printRendered prints one file as it is, so that it can be piped; several
// with their names between them.
func (a *app) printRendered(r api.Rendered) {
	if r.Why != "" {
		fmt.Fprintln(a.stderr, printable(r.Why))
	}
	for _, f := range r.Files {
		if len(r.Files) > 1 {
			fmt.Fprintf(a.stdout, "-- %s %s --\n", printable(f.Name), f.Mode)
		}
		fmt.Fprint(a.stdout, strings.TrimRight(printableText(f.Text), "\n")+"\n")
	}
}

// printableText is a text whose lines a terminal can be given.
func printableText(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

func newTemplatesLintCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check scripts (*.ipxe, and *.cfg for GRUB) and the scripts of a site.yaml, without a server",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				if err := lint(name); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(a.stdout, "%s: good\n", printable(name))
			}
			return errors.Join(errs...)
		},
	}
}

func lint(name string) error {
	src, err := os.ReadFile(name)
	if err != nil {
		return fleet.Invalidf(name, "", err)
	}
	if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" {
		_, err := parseSite(name, src)
		return err
	}
	compile := ipxescripts.Compile
	if filepath.Ext(name) == ".cfg" {
		compile = ipxescripts.CompileGRUB
	}
	if _, err := compile(filepath.Base(name), string(src)); err != nil {
		return &fleet.Error{Kind: fleet.Invalid, Code: "E-SCRIPT", On: name, Err: err, Hint: "docs/boot-scripts.md lists what a script can ask for"}
	}
	return nil
}
