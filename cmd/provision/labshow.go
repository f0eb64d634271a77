package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// nodeAdmin is the account that the seed's ssh_keys belong to.
const nodeAdmin = "admin"

// show prints what came of it: the manager's own list of nodes, and the time
// of each phase.
func (r *labRack) show(ctx context.Context, w io.Writer) error {
	nodes, err := r.client.AllNodes(ctx, "pool:prd")
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Role != "manager" || n.State != "active" {
			continue
		}
		out, err := r.awaitNode(ctx, n, "sudo docker node ls")
		if err != nil {
			return fmt.Errorf("ask the manager %s: %w", n.Name, err)
		}
		fmt.Fprintf(w, "\n%s$ docker node ls\n%s", n.Name, out)
		return r.showPhases(ctx, w)
	}
	return errors.New("no active manager in pool prd")
}

// awaitNode runs a command on a node that may not be through with its first
// boot: the administrator's account comes last.
func (r *labRack) awaitNode(ctx context.Context, n api.Node, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		out, err := r.onNode(ctx, n, command)
		if err == nil {
			return out, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return out, err
		}
	}
}

// onNode runs a command on an installed node, by ssh through the rack.
func (r *labRack) onNode(ctx context.Context, n api.Node, command string) (string, error) {
	conn, err := r.rack.Dial(ctx, "tcp", net.JoinHostPort(n.Addr, "22"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, n.Addr, &ssh.ClientConfig{
		User: nodeAdmin, Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // the node made its key a minute ago, inside of our namespace
	})
	if err != nil {
		return "", fmt.Errorf("sign in to %s: %w", n.Addr, err)
	}
	client := ssh.NewClient(c, chans, reqs)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.CombinedOutput(command)
	return string(out), err
}

// showPhases prints for each node how many seconds after its power-on each
// phase was reached.
func (r *labRack) showPhases(ctx context.Context, w io.Writer) error {
	runs, err := r.client.Runs(ctx)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		return errors.New("no run")
	}
	run, err := r.client.Run(ctx, runs[0].ID)
	if err != nil {
		return err
	}
	printPhases(w, run)
	return nil
}

func printPhases(w io.Writer, run api.Run) {
	fmt.Fprintf(w, "\nseconds since power-on, run %s:\n", run.ID)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "node\t")
	for _, p := range fleet.Phases() {
		fmt.Fprint(t, p, "\t")
	}
	fmt.Fprintln(t)
	for _, n := range run.Nodes {
		at := map[string]time.Time{}
		for _, p := range n.Times {
			at[p.Phase] = p.At
		}
		fmt.Fprint(t, n.Name, "\t")
		for _, p := range fleet.Phases() {
			cell := "-" // a phase that this firmware does not have
			if when, ok := at[string(p)]; ok {
				cell = fmt.Sprintf("%.1f", when.Sub(at[string(fleet.PhasePower)]).Seconds())
			}
			fmt.Fprint(t, cell, "\t")
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush()
}
