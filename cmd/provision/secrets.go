package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
)

func newSecretsCmd(a *app) *cobra.Command {
	cmd := group("secrets", "The keys that secrets are sealed with")
	cmd.Long = `BMC passwords and the keys of our certificate authorities are kept sealed. The
sealing keys are in keys/seal.key of the state folder, or in the file that seal_key
of provision.yaml or the systemd credential ` + sealCredential + ` gives.`
	cmd.AddCommand(newSecretsListCmd(a), newSecretsRotateCmd(a), newSecretsKeyCmd(a))
	return cmd
}

func newSecretsListCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sealing keys, and how many secrets each has sealed",
		Args:  cobra.NoArgs,
	}
	return a.asking(cmd, func(ctx context.Context, srv server, _ []string, format string) error {
		status, err := srv.Secrets(ctx)
		if err != nil {
			return err
		}
		return secretKeys(status).write(a.stdout, format)
	})
}

func newSecretsRotateCmd(a *app) *cobra.Command {
	var r api.RotateSecrets
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new sealing key, and seal every secret with it",
		Long: `Makes a new key and seals every secret anew with it. It can be interrupted at any
moment and asked for again. A key that has sealed nothing any more can be taken out
of the file; backups from before need it.

Keys in a file that provision was given are not written by it: add a line there,
made with provision secrets new-key, restart the server, and rotate --keep-key.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&r.KeepKey, "keep-key", false, "make no new key: seal with the newest that there is")
	return a.asking(cmd, func(ctx context.Context, srv server, _ []string, format string) error {
		status, err := srv.RotateSecrets(ctx, r)
		if err != nil {
			return err
		}
		if err := secretKeys(status).write(a.stdout, format); err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "%s sealed anew.\n", plural(status.Sealed, "secret"))
		if status.Failed != "" {
			return &exitError{code: exitConflict, err: fmt.Errorf("not sealed anew: %s", status.Failed), hint: "put missing keys back into " + status.File + ", then rotate --keep-key"}
		}
		return nil
	})
}

func newSecretsKeyCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "new-key",
		Short:   "Print a new line for a file of sealing keys",
		Example: "  sudo sh -c 'umask 077; provision secrets new-key >> /etc/provision/seal-key'",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.stdout, access.NewKey())
			return err
		},
	}
}

func secretKeys(s api.Secrets) listing[api.SecretKey] {
	return listing[api.SecretKey]{
		items: s.Keys,
		name:  func(k api.SecretKey) string { return k.ID },
		columns: []column[api.SecretKey]{
			{"KEY", false, func(k api.SecretKey) string { return k.ID }},
			{"SECRETS", false, func(k api.SecretKey) string { return strconv.Itoa(k.Values) }},
			{"STATE", false, func(k api.SecretKey) string { return keyState(s, k) }},
		},
	}
}

// keyState says what a key is good for.
func keyState(s api.Secrets, k api.SecretKey) string {
	newest := ""
	for _, other := range s.Keys {
		if !other.Missing {
			newest = other.ID
		}
	}
	switch {
	case k.Missing:
		return "missing"
	case k.ID == newest:
		return "seals"
	case k.Values == 0:
		return "not needed"
	}
	return "opens"
}
