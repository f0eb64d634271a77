package store_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

// childEnv names the database that a child of the test writes to until it is
// killed.
const childEnv = "STORE_TEST_CHILD"

const batch = 64

// TestWriteUntilKilled is the child: it saves leases, nodes and events, and
// says a number only when the store has said that it is safe. It does nothing
// when it runs among the other tests.
func TestWriteUntilKilled(t *testing.T) {
	path := os.Getenv(childEnv)
	if path == "" {
		return
	}
	s := open(t, path)
	for n := len(load(t, s).Nodes); n < 1e6; n++ {
		var leases []fleet.Lease
		for i := range batch {
			leases = append(leases, lease(n*batch+i))
		}
		if err := s.SaveLeases(t.Context(), leases); err != nil {
			t.Fatal(err)
		}
		seq := int64(2 * n)
		save(t, s, fleet.Change{Nodes: []fleet.Node{node(n)}, Events: []fleet.Event{event(seq + 1)}})
		save(t, s, fleet.Change{Events: []fleet.Event{event(seq + 2)}})
		if _, err := fmt.Fprintln(os.Stdout, n); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatWasAcknowledgedSurvivesKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "provision.db")
	acknowledged := -1
	for cycle := range 5 {
		last := killAfter(t, path, time.Duration(20+rand.IntN(300))*time.Millisecond)
		if last > acknowledged {
			acknowledged = last
		}
		s := open(t, path)
		checkSurvived(t, s, acknowledged)
		closeStore(t, s)
		t.Logf("cycle %d: %d batches were acknowledged", cycle, acknowledged+1)
	}
	if acknowledged < 0 {
		t.Fatal("the child never acknowledged anything")
	}
}

// killAfter starts a child, lets it write for a while after its first word,
// kills it and returns the last number that it said.
func killAfter(t *testing.T, path string, d time.Duration) (last int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriteUntilKilled$")
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last = -1
	var kill *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil {
			t.Fatalf("the child said %q", lines.Text())
		}
		last = n
		if kill == nil {
			kill = time.AfterFunc(d, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait()
	if kill == nil || cmd.ProcessState.String() != "signal: killed" {
		t.Fatalf("the child was not killed: %v", cmd.ProcessState)
	}
	return last
}

func checkSurvived(t *testing.T, s *store.Store, acknowledged int) {
	t.Helper()
	leases, err := s.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(leases)%batch != 0 {
		t.Errorf("%d leases: a batch was torn", len(leases))
	}
	if want := (acknowledged + 1) * batch; len(leases) < want {
		t.Fatalf("%d leases, %d were acknowledged", len(leases), want)
	}
	for i, l := range leases {
		if l != lease(i) {
			t.Fatalf("lease %d is %+v, want %+v", i, l, lease(i))
		}
	}
	w := load(t, s)
	nodes, seq := int64(len(w.Nodes)), w.LastSeq
	if last := int64(acknowledged + 1); nodes < last || seq < 2*last || seq != 2*nodes && seq != 2*nodes-1 {
		t.Errorf("%d nodes and events up to %d, %d were acknowledged, with two events each", nodes, seq, last)
	}
}
