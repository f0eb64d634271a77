package swarm

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"
	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/fleet"
)

// Four engines: a manager, a node of ours that joins again and again, one of
// ours that fell silent (a further join of each is cut off), and a machine that
// somebody else joined, paused too. All but the manager are called the same:
// each has an address of its own.
func TestWhatJoinsLeftIsTakenAway(t *testing.T) {
	if testing.Short() {
		t.Skip("starts four Docker engines: make test runs it")
	}
	const name = "prd-02"
	e := startEngines(t, netip.MustParsePrefix("10.79.0.0/24"), "prd-01", name, name, name)
	manager, again, silent, strange := e[0], e[1], e[2], e[3]
	r := joining{t: t, s: New(asking(e), nobody), manager: manager}
	r.form()

	dead := r.join(silent)
	r.confirm(silent, dead)
	silent.leave(t)
	died := r.join(again) // and nobody labels it
	again.leave(t)
	other := r.join(strange) // by hand: nobody confirms it
	worker, manages := r.cutOff(silent, fleet.Worker), r.cutOff(again, fleet.Manager)
	gone, voiceless := worker(), manages()
	silent.leave(t)
	again.leave(t)
	for _, id := range []string{died, dead} {
		r.await(id, swarm.NodeStateDown)
	}

	first := r.join(again)
	r.confirm(again, first)
	r.check("after the second join", first, dead, other, gone, voiceless)

	again.leave(t)
	second := r.join(again)
	r.confirm(again, second) // for Docker the first is alive still
	removed, err := r.s.Tidy(t.Context(), manager.node)
	for _, id := range []string{gone, voiceless} {
		if err != nil || !slices.Contains(removed, id+" (without a name)") {
			t.Errorf("Tidy = %q, %v; want %s in it", removed, err, id)
		}
	}
	r.await(other, swarm.NodeStateReady) // it may have missed heartbeats on a busy machine
	r.check("after the tidy-up", second, dead, other)
}

// joining is a swarm into which engines come.
type joining struct {
	t       *testing.T
	s       *Swarm
	manager dockerd
	self    string
}

func (r *joining) form() {
	r.t.Helper()
	j, err := r.s.Form(r.t.Context(), r.manager.node)
	if err != nil {
		r.t.Fatal(err)
	}
	r.confirm(r.manager, j.NodeID)
	r.self = j.NodeID
}

func (r *joining) order(d dockerd, role fleet.Role) fleet.JoinOrder {
	r.t.Helper()
	o, err := r.s.Order(r.t.Context(), r.manager.node, d.node, role)
	if err != nil {
		r.t.Fatal(err)
	}
	return o
}

func (r *joining) join(d dockerd) string {
	r.t.Helper()
	j, err := joinAsAgent(r.t.Context(), d, r.manager, r.order(d, fleet.Worker))
	if err != nil {
		r.t.Fatal(err)
	}
	return j.NodeID
}

func (r *joining) confirm(d dockerd, id string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := r.s.Confirm(ctx, r.manager.node, d.node, fleet.Joined{NodeID: id}); err != nil {
		r.t.Fatal(err)
	}
}

// cutOff begins to join through a link that breaks when the manager has given
// out the certificate: the engine never gets to report for work. It returns what
// waits for Docker's answer, and says which member this leaves.
func (r *joining) cutOff(d dockerd, role fleet.Role) (wait func() string) {
	r.t.Helper()
	before, o, answer := r.list(), r.order(d, role), make(chan error, 1)
	isNew := func(m swarm.Node) bool {
		_, known := before[m.ID]
		return !known && m.Spec.Role == swarm.NodeRole(role)
	}
	o.Managers = []string{breaking(r.t, d, o.Managers[0], func() bool {
		var now []swarm.Node
		return r.manager.get(r.t.Context(), "/nodes", &now) != nil || slices.ContainsFunc(now, isNew)
	})}
	go func() {
		_, err := joinAsAgent(r.t.Context(), d, r.manager, o)
		answer <- err
	}()
	return func() string {
		r.t.Helper()
		if err := <-answer; err == nil {
			r.t.Fatalf("joined as %s over a broken link", role)
		}
		for id, m := range r.list() {
			if isNew(m) {
				r.t.Logf("a join as %s that was cut off left %s %s at %q", role, m.Status.State, describe(m), m.Status.Addr)
				return id
			}
		}
		r.t.Fatalf("a join as %s that was cut off left no member", role)
		return ""
	}
}

func (r *joining) list() map[string]swarm.Node {
	r.t.Helper()
	var list []swarm.Node
	if err := r.manager.get(r.t.Context(), "/nodes", &list); err != nil {
		r.t.Fatal(err)
	}
	byID := map[string]swarm.Node{}
	for _, m := range list {
		byID[m.ID] = m
	}
	return byID
}

func (r *joining) member(id string) swarm.Node { return r.list()[id] }

func (r *joining) await(id string, state swarm.NodeState) {
	r.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); r.member(id).Status.State != state; <-tick.C {
		if time.Now().After(end) {
			r.t.Fatalf("%s is %s, want %s", id, r.member(id).Status.State, state)
		}
	}
}

// check looks whether the manager and these are the members.
func (r *joining) check(when string, ids ...string) {
	r.t.Helper()
	got := r.list()
	for _, id := range append(ids, r.self) {
		if _, ok := got[id]; !ok {
			r.t.Errorf("%s member %s is gone", when, id)
		}
		delete(got, id)
	}
	for _, m := range got {
		r.t.Errorf("%s there is still %s, %s and %s", when, describe(m), m.Status.State, m.Spec.Availability)
	}
}

// leave does what an agent does after a join that failed.
func (d dockerd) leave(t *testing.T) {
	t.Helper()
	var info struct {
		Swarm struct{ LocalNodeState string }
	}
	if err := d.get(t.Context(), "/info", &info); err != nil {
		t.Fatal(err)
	}
	if info.Swarm.LocalNodeState == "inactive" {
		return // it gave up by itself
	}
	r, err := d.do(t.Context(), fleet.DockerRequest{Method: http.MethodPost, Path: "/swarm/leave?force=true"})
	if err != nil || r.Status != http.StatusOK {
		t.Fatalf("leave: %d %s, %v", r.Status, r.Body, err)
	}
}

// breaking listens beside an engine for what goes to a manager, and passes it
// on until broken says so: from then on no further connection is taken.
func breaking(t *testing.T, d dockerd, manager string, broken func() bool) string {
	t.Helper()
	var l net.Listener
	within(t, d.ns, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(d.node.Addr, 0).String())
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			if broken() {
				_ = in.Close()
				continue
			}
			var out net.Conn
			within(t, d.ns, func() (err error) {
				out, err = net.Dial("tcp", manager)
				return err
			})
			go pipe(in, out)
			go pipe(out, in)
		}
	}()
	return l.Addr().String()
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from) // it ends when either end does
	_, _ = to.Close(), from.Close()
}

// within runs something on a thread in a network namespace. What it opens
// stays there.
func within(t *testing.T, ns string, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with it
		f, err := os.Open("/run/netns/" + ns)
		if err != nil {
			done <- err
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter %s: %w", ns, err)
			return
		}
		done <- do()
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
