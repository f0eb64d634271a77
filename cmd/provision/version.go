package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
)

// version is set by the linker: -ldflags '-X main.version=1.2.3'.
var version = "dev"

// buildVersion says what this binary is.
func buildVersion() api.Version {
	v := api.Version{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Commit += "+changed"
		}
	}
	return v
}

func newVersionCmd(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is, and which one the server runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			v := buildVersion()
			v.Server = a.serverVersion(cmd.Context())
			return writeOne(a.stdout, format, v, v.Version, func(w io.Writer) {
				fmt.Fprintln(w, join("provision "+v.Version, prefixed("commit ", v.Commit), v.Go, prefixed("server ", printable(v.Server))))
			})
		},
	}
	addOutput(cmd, &format)
	return cmd
}

// serverVersion asks the server, briefly: that there is none is no error here.
func (a *app) serverVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	srv, err := a.connect(ctx)
	if err != nil {
		return ""
	}
	v, err := srv.Version(ctx)
	if err != nil {
		return ""
	}
	return v.Version
}
