package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/access"
)

func newCACmd(a *app) *cobra.Command {
	return group("ca", "Certificates that firmware has to trust", newCAExportCmd(a))
}

func newCAExportCmd(a *app) *cobra.Command {
	format := "pem"
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the certificate that firmware has to trust for HTTPS boot",
		Long: `Writes the certificate of the authority behind listen.boot_https, for a machine's
firmware setup or its BMC to enrol: as PEM, as DER, or as esl, the EFI signature
list that the firmware variable TlsCaCertificate holds.`,
		Example: "  sudo provision ca export --format esl >provision.esl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, err := a.loadConfig(cmd.Flags())
			if err != nil {
				return err
			}
			return a.exportCA(conf, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", format, "pem, der or esl")
	addSettings(cmd.Flags(), "state_dir")
	return cmd
}

func (a *app) exportCA(conf config, format string) error {
	keys := filepath.Join(conf.StateDir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return &exitError{code: exitFailed, err: err, hint: "use sudo, or --state-dir"}
	}
	sealer, err := conf.openSealer(a.getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return err
	}
	authority, err := access.OpenAuthority(keys, sealer)
	if err != nil {
		return err
	}
	out, err := authority.FirmwareCA()
	if err != nil {
		return err
	}
	switch format {
	case "der":
	case "pem":
		out = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: out})
	case "esl":
		if out, err = access.SignatureList(out); err != nil {
			return err
		}
	default:
		return &exitError{code: exitUsage, err: fmt.Errorf("unknown format %q", format), hint: "use pem, der or esl"}
	}
	_, err = a.stdout.Write(out)
	return err
}
