package engine

import (
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

// A talker is the consoles of machines that all write the same.
type talker []string

func (t talker) LastLines(_ fleet.NodeID, most int) []string { return t[max(0, len(t)-most):] }

func TestAFailureComesWithTheMachinesLastWords(t *testing.T) {
	many := make(talker, 100)
	for i := range many {
		many[i] = strings.Repeat("ä", 300)
	}
	tests := map[string]struct {
		consoles Consoles
		want     string
		lines    int
	}{
		"what it wrote":             {talker{"Booting", "Kernel panic"}, "Booting\nKernel panic", 2},
		"nothing":                   {talker{}, "", 1},
		"nobody reads its console":  {nil, "", 1},
		"no more than is of use":    {many, strings.Repeat("ä", wordsWidth) + "…", wordsLines},
		"no more than was asked of": {talker{strings.Repeat("x", wordsWidth)}, strings.Repeat("x", wordsWidth), 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := New(Options{Consoles: tt.consoles})
			got := e.lastWords("n-1")
			if !strings.HasPrefix(got, tt.want) || strings.Count(got, "\n")+1 != tt.lines {
				t.Errorf("the last words are %.80q in %d lines, want %.80q in %d", got, strings.Count(got, "\n")+1, tt.want, tt.lines)
			}
		})
	}
}

func TestWhoUsesAConsoleIsKept(t *testing.T) {
	store := &memoryStore{world: fleet.World{Site: testSite(), Nodes: []fleet.Node{{ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Revision: 1}}}}
	e := New(Options{Store: store})
	w, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.world.load(w)
	events, stop := e.Subscribe()
	defer stop()
	if err := e.ConsoleUsed(t.Context(), "anna", "n-1", "took the keyboard of the console"); err != nil {
		t.Fatal(err)
	}
	if ev := <-events; ev.Type != fleet.EventConsole || ev.Actor != "anna" || ev.Node != "n-1" || ev.Text != "took the keyboard of the console" {
		t.Errorf("kept was %+v", ev)
	}
	if err := e.ConsoleUsed(t.Context(), "anna", "n-9", "x"); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a node that is not there: %v", err)
	}
}

func TestTheFirstHostKeyCountsUntilAnotherIsAccepted(t *testing.T) {
	store := &memoryStore{world: fleet.World{Site: testSite(), Nodes: []fleet.Node{{ID: "n-1", MAC: "52:54:00:00:00:01", State: fleet.Ready, Revision: 1}}}}
	e := New(Options{Store: store})
	w, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.world.load(w)
	key := func() string {
		n, err := e.Node("n-1")
		if err != nil {
			t.Fatal(err)
		}
		return n.BMC.HostKey
	}
	steps := []struct {
		do   func() error
		want string
	}{
		{func() error { return e.SawHostKey(t.Context(), "n-1", "") }, ""},
		{func() error { return e.SawHostKey(t.Context(), "n-1", "SHA256:one") }, "SHA256:one"},
		{func() error { return e.SawHostKey(t.Context(), "n-1", "SHA256:two") }, "SHA256:one"},
		{func() error { _, err := e.AcceptPin(t.Context(), "anna", "n-1", "SHA256:two"); return err }, "SHA256:two"},
	}
	for i, step := range steps {
		if err := step.do(); err != nil || key() != step.want {
			t.Errorf("step %d: the key is %q, %v; want %q", i, key(), err, step.want)
		}
	}
}
