package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

const maxPasswordFile = 4096 // bytes

func newUsersCmd(a *app) *cobra.Command {
	cmd := group("users", "Accounts of this machine's server", newUsersListCmd(a), newUsersAddCmd(a), newUsersPasswdCmd(a))
	cmd.Long = "Works on the server's state folder itself: this is how a new server gets its first administrator."
	return cmd
}

func newUsersListCmd(a *app) *cobra.Command {
	return newListCmd(a, lister[userLine]{
		use:   "list",
		short: "List accounts and their roles",
		flags: func(cmd *cobra.Command) { addSettings(cmd.Flags(), "state_dir") },
		read: func(cmd *cobra.Command) (rows []userLine, err error) {
			err = a.withStore(cmd, func(ctx context.Context, db *store.Store) error {
				users, err := db.Users(ctx)
				for _, u := range users {
					rows = append(rows, userLine{u.Name, string(u.Role), u.Created})
				}
				return err
			})
			return rows, err
		},
		show: userListing,
	})
}

// userLine is what may be shown of an account: not its password's hash.
type userLine struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
}

func userListing(rows []userLine) listing[userLine] {
	return listing[userLine]{
		items: rows,
		name:  func(u userLine) string { return u.Name },
		columns: []column[userLine]{
			{"USER", false, func(u userLine) string { return u.Name }},
			{"ROLE", false, func(u userLine) string { return u.Role }},
			{"CREATED", false, func(u userLine) string { return u.Created.Local().Format(time.DateTime) }},
		},
	}
}

func newUsersAddCmd(a *app) *cobra.Command {
	var role, file string
	cmd := &cobra.Command{
		Use:     "add USER",
		Short:   "Add an account; the password is asked for, or read from a file",
		Example: "  sudo provision users add anna --role admin",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, db *store.Store) error {
				if _, err := db.User(ctx, args[0]); err == nil {
					return &exitError{code: exitConflict, err: fmt.Errorf("there is an account %q already", args[0]), hint: "change its password: provision users passwd " + args[0]}
				}
				return a.setPassword(ctx, db, args[0], fleet.AccountRole(role), file)
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", string(fleet.Operator), "`role`: viewer, operator, admin")
	complete(cmd, "role", string(fleet.Viewer), string(fleet.Operator), string(fleet.Admin))
	passwordFlags(cmd, &file)
	return cmd
}

func newUsersPasswdCmd(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "passwd USER", Short: "Give an account another password, and sign it out everywhere", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, db *store.Store) error {
				u, err := db.User(ctx, args[0])
				if fleet.KindOf(err) == fleet.NotFound {
					return a.noSuchUser(ctx, db, args[0])
				}
				if err != nil {
					return err
				}
				return a.setPassword(ctx, db, u.Name, u.Role, file)
			})
		},
	}
	passwordFlags(cmd, &file)
	return cmd
}

func passwordFlags(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "password-file", "", "`file` with the password on its first line; - reads stdin")
	addSettings(cmd.Flags(), "state_dir")
}

func (a *app) noSuchUser(ctx context.Context, db *store.Store, name string) error {
	users, err := db.Users(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, u := range users {
		names = append(names, u.Name)
	}
	return &exitError{code: exitUsage, err: fmt.Errorf("no account %q", name), hint: suggest(name, names)}
}

func (a *app) setPassword(ctx context.Context, db *store.Store, user string, role fleet.AccountRole, file string) error {
	password, err := a.password(ctx, user, file)
	if err != nil {
		return err
	}
	if err := access.NewAccounts(db, access.Options{}).SetPassword(ctx, user, password, role); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "account %s has role %s\n", user, role)
	return nil
}

// password reads a password from a file, or asks a person twice. It is never
// a flag: those are in the process list and in the shell's history.
func (a *app) password(ctx context.Context, user, file string) (string, error) {
	switch {
	case file == "-":
		return a.answer(ctx)
	case file != "":
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", &exitError{code: exitUsage, err: fmt.Errorf("read password: %w", err)}
		}
		if len(raw) > maxPasswordFile {
			return "", usagef("read password: %s has more than %d bytes", file, maxPasswordFile)
		}
		line, _, _ := strings.Cut(string(raw), "\n")
		return strings.TrimRight(line, "\r"), nil
	case !a.terminal:
		return "", &exitError{code: exitUnapproved, err: errors.New("there is no terminal to ask for the password on"), hint: "use --password-file FILE"}
	}
	first, err := a.secret(ctx, "Password for "+user+": ")
	if err != nil {
		return "", err
	}
	again, err := a.secret(ctx, "Again: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", usagef("the two passwords differ: nothing was changed")
	}
	return first, nil
}

// secret reads a line that is not shown. Ctrl-C gives the terminal back as it
// was.
func (a *app) secret(ctx context.Context, prompt string) (string, error) {
	stdin := int(os.Stdin.Fd())
	before, err := term.GetState(stdin)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	fmt.Fprint(a.stderr, prompt)
	type reply struct {
		line []byte
		err  error
	}
	replies := make(chan reply, 1)
	go func() { // a read from a terminal cannot be interrupted: it ends with the program
		line, err := term.ReadPassword(stdin)
		replies <- reply{line, err}
	}()
	select {
	case <-ctx.Done():
		_ = term.Restore(stdin, before) // there is nothing else to be done about it
		fmt.Fprintln(a.stderr)
		return "", &exitError{code: exitInterrupted, err: errors.New("interrupted: nothing was changed")}
	case r := <-replies:
		fmt.Fprintln(a.stderr)
		if r.err != nil {
			return "", fmt.Errorf("read password: %w", r.err)
		}
		return string(r.line), nil
	}
}

// withStore opens the database of this machine's server for a while.
func (a *app) withStore(cmd *cobra.Command, do func(context.Context, *store.Store) error) error {
	conf, err := a.loadConfig(cmd.Flags())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(conf.StateDir, 0o700); err != nil {
		return &exitError{code: exitFailed, err: err, hint: "use sudo, or --state-dir"}
	}
	db, err := store.Open(cmd.Context(), filepath.Join(conf.StateDir, "provision.db"), slog.New(slog.DiscardHandler))
	if fleet.CodeOf(err) == "E-DB-BUSY" {
		return &exitError{code: exitConflict, err: err, hint: "stop the server for a moment: systemctl stop provision"}
	}
	if err != nil {
		return err
	}
	return errors.Join(do(cmd.Context(), db), db.Close())
}
