package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/rackstage/provision/fleet"
)

func TestWhatIsSavedIsThereAfterAReopen(t *testing.T) {
	s, path := fresh(t)
	ticket := fleet.Ticket{
		Hash: fleet.HashSecret("x"), Purpose: fleet.TicketHello, MAC: node(0).MAC, Node: node(0).ID, Addr: node(0).Addr,
		Expires: time.Now().Add(time.Minute).UTC(), Redeemed: when,
	}
	want := fleet.World{
		Site: *site(), Nodes: []fleet.Node{node(0), node(1)}, Runs: []fleet.Run{run("prd-1", 2)},
		Tickets: []fleet.Ticket{ticket}, LastSeq: 2,
	}
	save(t, s, fleet.Change{Site: site(), Nodes: want.Nodes, Runs: want.Runs, Tickets: want.Tickets, Events: []fleet.Event{event(1), event(2)}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	defer closeStore(t, s)
	if diff := cmp.Diff(want, load(t, s), asWritten); diff != "" {
		t.Errorf("after a reopen (-want +got):\n%s", diff)
	}
}

func TestAnEmptyStoreIsAnEmptyWorld(t *testing.T) {
	s, _ := fresh(t)
	if diff := cmp.Diff(fleet.World{}, load(t, s), asWritten); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAChangeIsStoredWholeOrNotAtAll(t *testing.T) {
	s, _ := fresh(t)
	save(t, s, fleet.Change{Events: []fleet.Event{event(1)}})
	before := load(t, s)
	err := s.Save(t.Context(), fleet.Change{
		Site: site(), Nodes: []fleet.Node{node(0)}, Runs: []fleet.Run{run("prd-1", 1)},
		Events: []fleet.Event{event(2), event(1)}, // the second is there already
	})
	if fleet.CodeOf(err) != "E-TAKEN" {
		t.Errorf("Save = %v, want E-TAKEN", err)
	}
	if diff := cmp.Diff(before, load(t, s), asWritten); diff != "" {
		t.Errorf("the world changed (-want +got):\n%s", diff)
	}
	// The run was not stored, so its nodes have to be written now.
	save(t, s, fleet.Change{Runs: []fleet.Run{run("prd-1", 1)}})
	if got := load(t, s).Runs; len(got) != 1 || len(got[0].Nodes) != 1 {
		t.Errorf("runs = %+v, want one with one node", got)
	}
}

func TestEventsThatComeAloneAreStoredAllOrNone(t *testing.T) {
	s, path := fresh(t)
	hostile := event(2)
	hostile.Text, hostile.Pool = strings.Repeat("long ", 1000)+"zero \x00, no UTF-8 \xff, '); --", ""
	want := []fleet.Event{event(1), hostile, event(3)}
	save(t, s, fleet.Change{Events: want[:2]})
	if err := s.Save(t.Context(), fleet.Change{Events: []fleet.Event{event(3), event(4), event(2)}}); fleet.CodeOf(err) != "E-TAKEN" {
		t.Errorf("Save = %v, want E-TAKEN", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Save(ctx, fleet.Change{Events: []fleet.Event{event(3)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Save = %v, want context canceled", err)
	}
	save(t, s, fleet.Change{Events: want[2:], Nodes: []fleet.Node{node(1)}})
	closeStore(t, s)
	s = open(t, path)
	defer closeStore(t, s)
	got, err := s.Events(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, asWritten); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Facts, what becomes of nodes, and leases that are merged: each has its turn.
func TestAllWhoWriteTakeTurns(t *testing.T) {
	s, _ := fresh(t)
	const times = 50
	seq := int64(0)
	var counting sync.Mutex // as the engine counts
	next := func(c fleet.Change) error {
		counting.Lock()
		defer counting.Unlock()
		seq++
		c.Events = []fleet.Event{event(seq)}
		return s.Save(t.Context(), c)
	}
	var g errgroup.Group
	for _, write := range []func(i int) error{
		func(int) error { return next(fleet.Change{}) },
		func(i int) error { return next(fleet.Change{Nodes: []fleet.Node{node(i)}}) },
		func(i int) error {
			return errors.Join(s.SaveLeases(t.Context(), []fleet.Lease{lease(i)}), s.MergeLeases(t.Context()))
		},
	} {
		g.Go(func() error {
			for i := range times {
				if err := write(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	leases, err := s.Leases(t.Context())
	if w := load(t, s); err != nil || len(w.Nodes) != times || w.LastSeq != 2*times || len(leases) != times {
		t.Errorf("%d nodes, %d events, %d leases, %v", len(w.Nodes), w.LastSeq, len(leases), err)
	}
}

func TestUniqueFactsStayUnique(t *testing.T) {
	other := func(change func(*fleet.Node)) fleet.Node {
		n := node(2)
		change(&n)
		return n
	}
	tests := map[string]struct {
		node fleet.Node
		want fleet.Code
	}{
		"another node":                {node(2), ""},
		"a node with a known ID":      {other(func(n *fleet.Node) { n.ID = node(1).ID }), "E-TAKEN"},
		"a node with a known MAC":     {other(func(n *fleet.Node) { n.MAC = node(1).MAC }), "E-TAKEN"},
		"a node with a known name":    {other(func(n *fleet.Node) { n.Name = node(1).Name }), "E-TAKEN"},
		"a second node without names": {other(func(n *fleet.Node) { n.Name = "" }), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := fresh(t)
			nameless := node(3)
			nameless.Name = ""
			save(t, s, fleet.Change{Nodes: []fleet.Node{node(1), nameless}})
			err := s.Save(t.Context(), fleet.Change{Nodes: []fleet.Node{tt.node}})
			if got := fleet.CodeOf(err); got != tt.want {
				t.Errorf("Save = %v, want code %q", err, tt.want)
			}
		})
	}
}

func TestARevisionFollowsTheStoredOne(t *testing.T) {
	tests := map[string]struct {
		revision int64
		want     fleet.Code
	}{
		"the next one":              {3, ""},
		"the same again":            {2, "E-REVISION"},
		"one too many":              {4, "E-REVISION"},
		"the first once more":       {1, "E-TAKEN"},
		"a node that never counted": {0, "E-REVISION"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := fresh(t)
			n := node(1)
			save(t, s, fleet.Change{Nodes: []fleet.Node{n}})
			n.Revision, n.Pool, n.State = 2, "", fleet.Ready
			save(t, s, fleet.Change{Nodes: []fleet.Node{n}})
			want := n
			n.Revision, n.Progress = tt.revision, 99
			err := s.Save(t.Context(), fleet.Change{Nodes: []fleet.Node{n}})
			if got := fleet.CodeOf(err); got != tt.want {
				t.Errorf("Save = %v, want code %q", err, tt.want)
			}
			if err == nil {
				want = n
			}
			if diff := cmp.Diff([]fleet.Node{want}, load(t, s).Nodes, asWritten); diff != "" {
				t.Errorf("stored node (-want +got):\n%s", diff)
			}
		})
	}
}

func TestANodeThatWasNeverStoredCannotHaveALaterRevision(t *testing.T) {
	s, _ := fresh(t)
	n := node(1)
	n.Revision = 7
	if err := s.Save(t.Context(), fleet.Change{Nodes: []fleet.Node{n}}); fleet.CodeOf(err) != "E-REVISION" {
		t.Errorf("Save = %v, want E-REVISION", err)
	}
}

func TestARunIsStoredAsItGoesOn(t *testing.T) {
	s, path := fresh(t)
	r := run("prd-1", 3)
	check := func(what string) {
		t.Helper()
		save(t, s, fleet.Change{Runs: []fleet.Run{r}})
		if diff := cmp.Diff([]fleet.Run{r}, load(t, s).Runs, asWritten); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("new")
	r.Nodes[1].Phase = fleet.PhaseSeed
	check("one node went on")
	r.Nodes = r.Nodes[:2]
	check("one node fewer")
	closeStore(t, s)
	s = open(t, path)
	defer closeStore(t, s)
	r.Nodes[0].State = fleet.RunDone
	check("after a restart")
	r.Nodes = r.Nodes[:1]
	check("fewer again")
	r.State, r.Ended = fleet.RunDone, when.Add(time.Hour)
	check("over")
}

func TestARunDoesNotOverwriteAnEarlierOneWithItsID(t *testing.T) {
	s, _ := fresh(t)
	save(t, s, fleet.Change{Runs: []fleet.Run{run("prd-1", 1)}})
	again := run("prd-1", 1)
	again.Started = when.Add(time.Hour)
	if err := s.Save(t.Context(), fleet.Change{Runs: []fleet.Run{again}}); fleet.CodeOf(err) != "E-TAKEN" {
		t.Errorf("Save = %v, want E-TAKEN", err)
	}
}

func TestOldRunsAreKeptButNotLoaded(t *testing.T) {
	s, _ := fresh(t)
	var runs []fleet.Run
	for i := range 50 {
		r := run(fleet.RunID(fmt.Sprintf("prd-%02d", i)), 1)
		r.Started = when.Add(time.Duration(i) * time.Minute)
		if i > 0 { // the first was never finished
			r.State = fleet.RunDone
		}
		runs = append(runs, r)
	}
	lone := run("dev-1", 1)
	lone.Pool, lone.State, lone.Started = "dev", fleet.RunFailed, when.Add(-time.Hour)
	save(t, s, fleet.Change{Runs: append(runs, lone)})
	want := append([]fleet.Run{lone, runs[0]}, runs[30:]...)
	if diff := cmp.Diff(want, load(t, s).Runs, asWritten); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExpiredTicketsAreRememberedForADay(t *testing.T) {
	s, _ := fresh(t)
	now := time.Now().UTC()
	ticket := func(name string, expires time.Time) fleet.Ticket {
		return fleet.Ticket{Hash: fleet.HashSecret(name), Purpose: fleet.TicketJoin, Expires: expires}
	}
	late, live := ticket("late", now.Add(-time.Hour)), ticket("live", now.Add(time.Hour))
	save(t, s, fleet.Change{Tickets: []fleet.Ticket{live, late, ticket("old", now.Add(-48*time.Hour))}})
	live.Redeemed = now
	save(t, s, fleet.Change{Tickets: []fleet.Ticket{live}})
	if diff := cmp.Diff([]fleet.Ticket{late, live}, load(t, s).Tickets, asWritten); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEventsComeInOrderAndInPages(t *testing.T) {
	s, _ := fresh(t)
	var all []fleet.Event
	for i := range 200 {
		all = append(all, event(int64(i+1)))
	}
	save(t, s, fleet.Change{Events: all})
	tests := map[string]struct {
		since int64
		limit int
		want  []fleet.Event
	}{
		"the first page": {0, 150, all[:150]},
		"the rest":       {150, 150, all[150:]},
		"none are left":  {200, 150, nil},
		"an empty page":  {0, 0, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := s.Events(t.Context(), tt.since, tt.limit)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, asWritten); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestACanceledSaveStoresNothing(t *testing.T) {
	s, _ := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Save(ctx, fleet.Change{Nodes: []fleet.Node{node(1)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Save = %v, want context canceled", err)
	}
	if got := load(t, s).Nodes; len(got) != 0 {
		t.Errorf("%d nodes are stored, want none", len(got))
	}
}
