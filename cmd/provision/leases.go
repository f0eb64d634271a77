package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/dhcp/leasefile"
)

func newLeasesCmd(a *app) *cobra.Command {
	return group("leases", "Look at the addresses that machines have", newLeasesListCmd(a), newLeasesReleaseCmd(a), newLeasesImportCmd(a))
}

func newLeasesListCmd(a *app) *cobra.Command {
	var subnet string
	return newListCmd(a, lister[api.Lease]{
		use:   "list",
		short: "List leases, by address",
		flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&subnet, "subnet", "", "only those of this `subnet`") },
		ask: func(ctx context.Context, srv server, _ []string) ([]api.Lease, error) {
			return srv.Leases(ctx, subnet)
		},
		show: a.leaseListing,
		tell: func(leases []api.Lease) string { return plural(len(leases), "lease") },
	})
}

func (a *app) leaseListing(leases []api.Lease) listing[api.Lease] {
	return listing[api.Lease]{
		items: leases,
		name:  func(l api.Lease) string { return l.Addr },
		columns: []column[api.Lease]{
			{"ADDRESS", false, func(l api.Lease) string { return l.Addr }},
			{"MAC", false, func(l api.Lease) string { return dash(l.MAC) }},
			{"NODE", false, func(l api.Lease) string { return dash(l.Node) }},
			{"SUBNET", false, func(l api.Lease) string { return l.Subnet }},
			{"STATE", false, func(l api.Lease) string { return l.State }},
			{"ENDS IN", false, func(l api.Lease) string { return took(l.Expires.Sub(a.now())) }},
			{"HOSTNAME", false, func(l api.Lease) string { return dash(l.Hostname) }},
			{"CLIENT ID", true, func(l api.Lease) string { return dash(l.ClientID) }},
		},
	}
}

func newLeasesReleaseCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "release ADDRESS",
		Short: "End the lease of an address; its machine gets another when it renews",
		Args:  cobra.ExactArgs(1),
		RunE: a.doing(func(ctx context.Context, srv server, args []string) error {
			l, err := srv.ReleaseLease(ctx, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "released %s  %s\n", l.Addr, printable(cmp.Or(l.Node, l.MAC)))
			return nil
		}),
	}
}

type importOptions struct {
	format string
	subnet string
	dryRun bool
}

func newLeasesImportCmd(a *app) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take over the leases of another DHCP server",
		Long: `Reads a lease file of dnsmasq (dnsmasq.leases), ISC dhcpd (dhcpd.leases,
dhcpd6.leases) or Kea (kea-leases4.csv, kea-leases6.csv) and gives its leases to the
server, so that machines keep their addresses, IPv4 and IPv6. Nothing is taken from a machine that has a lease here. What cannot be
taken over is listed with the reason.`,
		Example: `  provision leases import /var/lib/misc/dnsmasq.leases --dry-run
  provision leases import kea-leases4.csv --subnet prd-boot`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.importLeases(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "", "who wrote the file: dnsmasq, isc, kea (found out unless told)")
	complete(cmd, "format", "dnsmasq", "isc", "kea")
	f.StringVar(&o.subnet, "subnet", "", "only leases of this `subnet`")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would happen, change nothing")
	return cmd
}

// importPage is how many leases are sent at a time.
const importPage = 2000

func (a *app) importLeases(ctx context.Context, name string, o importOptions) error {
	file, err := a.readLeases(name, o.format)
	if err != nil {
		return err
	}
	srv, err := a.connect(ctx)
	if err != nil {
		return err
	}
	var done api.ImportedLeases
	leases := wireLeases(file)
	for page := range slices.Chunk(leases, importPage) {
		some, err := srv.ImportLeases(ctx, api.ImportLeases{Leases: page, Subnet: o.subnet, DryRun: o.dryRun})
		done.Taken, done.Known, done.Refused = done.Taken+some.Taken, done.Known+some.Known, append(done.Refused, some.Refused...)
		if err != nil {
			fmt.Fprintf(a.stderr, "%s of %d were imported before it failed\n", plural(done.Taken, "lease"), len(leases))
			return err
		}
	}
	a.tellImport(file, done, o.dryRun)
	return nil
}

func (a *app) readLeases(name, format string) (leasefile.File, error) {
	var in io.Reader = a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return leasefile.File{}, &exitError{code: exitUsage, err: err}
		}
		defer f.Close()
		in = f
	}
	const most = 1 << 30
	raw, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return leasefile.File{}, fmt.Errorf("read %s: %w", name, err)
	case len(raw) > most:
		return leasefile.File{}, usage(errors.New("the file is larger than 1 GiB"))
	}
	file, err := leasefile.Parse(bytes.NewReader(raw), leasefile.Format(format), a.now())
	if err != nil {
		return file, usagef("%s: %w", name, err)
	}
	return file, nil
}

func wireLeases(file leasefile.File) []api.Lease {
	out := make([]api.Lease, 0, len(file.Leases)+len(file.Leases6))
	for _, l := range file.Leases {
		out = append(out, api.Lease{
			Addr: l.Addr.String(), MAC: string(l.MAC), ClientID: l.ClientID, Hostname: l.Hostname, State: string(l.State), Expires: l.Expires.UTC().Truncate(time.Second),
		})
	}
	for _, l := range file.Leases6 {
		out = append(out, api.Lease{
			Addr: l.Addr.String(), MAC: string(l.MAC), ClientID: l.DUID, IAID: l.IAID, State: string(l.State), Expires: l.Expires.UTC().Truncate(time.Second),
		})
	}
	return out
}

// tellImport lists what was left out on stdout, and sums up on stderr.
func (a *app) tellImport(file leasefile.File, done api.ImportedLeases, dryRun bool) {
	var rows [][]string
	for _, s := range file.Skipped {
		rows = append(rows, []string{"skipped", s.What, fmt.Sprintf("line %d: %s", s.Line, s.Reason)})
	}
	for _, r := range done.Refused {
		rows = append(rows, []string{"refused", r.Addr, r.Reason})
	}
	writeTable(a.stdout, nil, rows)
	verb := "imported"
	if dryRun {
		verb = "would be imported"
	}
	fmt.Fprintf(a.stderr, "%s: %s %s, %d known already, %d refused, %d skipped\n",
		file.Format, plural(done.Taken, "lease"), verb, done.Known, len(done.Refused), len(file.Skipped))
}
