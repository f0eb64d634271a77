package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func newBootCmd(a *app) *cobra.Command {
	return group("boot", "Watch machines boot", newBootTailCmd(a))
}

func newBootTailCmd(a *app) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow what known machines ask for and get, one line each, until Ctrl-C",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tailBoots(cmd.Context(), node)
		},
	}
	cmd.Flags().StringVar(&node, "mac", "", "only this `node`: its MAC address, name or ID")
	return cmd
}

// tailBoots follows evidence and alarms as they come.
func (a *app) tailBoots(ctx context.Context, ref string) error {
	srv, err := a.connect(ctx)
	if err != nil {
		return err
	}
	var only string
	if ref != "" {
		n, err := srv.Node(ctx, ref)
		if err != nil {
			return err
		}
		only = n.ID
	}
	titles := map[string]string{}
	for {
		err := srv.Events(ctx, 0, func(ev api.Event) error {
			if isBoot(ev, only) {
				fmt.Fprintf(a.stdout, "%s  %s  %s\n", ev.At.UTC().Format(time.RFC3339), a.titleOf(ctx, srv, titles, ev.Node), printable(ev.Text))
			}
			return nil
		})
		if !errors.Is(err, io.EOF) && !errors.Is(err, api.ErrReset) {
			return err
		}
		fmt.Fprintln(a.stderr, "the server ended the stream: following it anew")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// isBoot reports whether an event belongs to a boot, or to the network that
// machines boot from.
func isBoot(ev api.Event, only string) bool {
	switch fleet.EventType(ev.Type) {
	case fleet.EventEvidence, fleet.EventDiscovered, fleet.EventFailed, fleet.EventUnexpected:
		return only == "" || ev.Node == only
	case fleet.EventAlarm, fleet.EventAlarmOver:
		return only == ""
	default:
		return false
	}
}

// titleOf is what people call a node; it is asked for once.
func (a *app) titleOf(ctx context.Context, srv server, known map[string]string, id string) string {
	if id == "" {
		return "alarm"
	}
	if known[id] == "" {
		n, err := srv.Node(ctx, id)
		if err != nil {
			return id // it is shown all the same
		}
		known[id] = nodeTitle(n)
	}
	return known[id]
}
