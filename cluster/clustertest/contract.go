// Package clustertest holds what every kind of cluster must pass, against
// real engines.
package clustertest

import (
	"context"
	"testing"
	"time"

	"github.com/rackstage/provision/cluster"
	"github.com/rackstage/provision/fleet"
)

// A Fixture is two real nodes that are in no cluster.
type Fixture struct {
	Kind    cluster.Kind
	Manager fleet.Node
	Worker  fleet.Node
	// Join does on a node what its agent does with an order.
	Join func(ctx context.Context, n fleet.Node, o fleet.JoinOrder) (fleet.Joined, error)
	// Members returns the names of the members that the manager lists as
	// ready and open for work, and each one's labels.
	Members func(ctx context.Context) (map[string]map[string]string, error)
}

// Run forms a cluster of the fixture's nodes and checks each promise of
// [cluster.Kind] on the way, repeats included.
func Run(t *testing.T, f Fixture) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	first, err := f.Kind.Form(ctx, f.Manager)
	if err != nil || first.ClusterID == "" || first.NodeID == "" {
		t.Fatalf("Form = %+v, %v", first, err)
	}
	again, err := f.Kind.Form(ctx, f.Manager)
	if err != nil || again != first {
		t.Errorf("Form again = %+v, %v; want %+v", again, err, first)
	}
	foreign := f.Manager
	foreign.Stage = "another"
	if _, err := f.Kind.Form(ctx, foreign); fleet.CodeOf(err) != "E-CLUSTER-FOREIGN" {
		t.Errorf("Form for another stage = %v, want E-CLUSTER-FOREIGN", err)
	}
	confirm(ctx, t, f, f.Manager, first)
	f.Manager.Member = fleet.Member{Cluster: first.ClusterID, NodeID: first.NodeID, Role: fleet.Manager}

	order := newOrder(ctx, t, f)
	joined, err := f.Join(ctx, f.Worker, order)
	if err != nil || joined.ClusterID != first.ClusterID {
		t.Fatalf("join = %+v, %v; want cluster %s", joined, err, first.ClusterID)
	}
	confirm(ctx, t, f, f.Worker, joined)
	wrong := f.Worker
	wrong.Name = "someone-else"
	short, stop := context.WithTimeout(ctx, 2*time.Second)
	if err := f.Kind.Confirm(short, f.Manager, wrong, joined); err == nil {
		t.Error("Confirm accepted a member with another name")
	}
	stop()

	if err := f.Kind.Rotate(ctx, f.Manager); err != nil {
		t.Fatalf("Rotate: %v", err)
	}
	if fresh := newOrder(ctx, t, f); fresh.Token == order.Token {
		t.Error("the token is the same after Rotate")
	}

	if removed, err := f.Kind.Tidy(ctx, f.Manager); err != nil || len(removed) > 0 {
		t.Errorf("Tidy = %q, %v; want nothing removed of members that are alive", removed, err)
	}
	if members, err := f.Members(ctx); err != nil || len(members) != 2 {
		t.Errorf("after Tidy the members are %v, %v; want both", members, err)
	}
}

func newOrder(ctx context.Context, t *testing.T, f Fixture) fleet.JoinOrder {
	t.Helper()
	o, err := f.Kind.Order(ctx, f.Manager, f.Worker, fleet.Worker)
	if err != nil || o.Token == "" || len(o.Managers) == 0 {
		t.Fatalf("Order: %v (%d managers)", err, len(o.Managers))
	}
	return o
}

func confirm(ctx context.Context, t *testing.T, f Fixture, n fleet.Node, j fleet.Joined) {
	t.Helper()
	for range 2 {
		if err := f.Kind.Confirm(ctx, f.Manager, n, j); err != nil {
			t.Fatalf("Confirm %s: %v", n.Name, err)
		}
	}
	members, err := f.Members(ctx)
	if err != nil {
		t.Fatal(err)
	}
	labels, ok := members[n.Name]
	if !ok {
		t.Fatalf("%s is not among the ready and active members %v", n.Name, members)
	}
	for k, want := range n.Labels {
		if labels[k] != want {
			t.Errorf("label %s of %s is %q, want %q", k, n.Name, labels[k], want)
		}
	}
}
