package engine

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A machine that asks all day long, or somebody in its name, does not fill the
// disk, nor does it keep others from being heard.
func TestOfEachMachineSoManyFactsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 0)
		const loud, other = fleet.MAC("52:54:00:00:00:01"), fleet.MAC("52:54:00:00:00:02")
		m := &memoryStore{world: fleet.World{Site: testSite(), Nodes: []fleet.Node{
			{ID: "n-1", MAC: loud, MACs: []fleet.MAC{loud}, State: fleet.Ready}, {ID: "n-2", MAC: other, MACs: []fleet.MAC{other}, State: fleet.Ready},
		}}}
		e, kill := r.serve(m)
		kept := 0
		for second := range 60 {
			for i := range 1000 {
				if e.Observe(fleet.Evidence{MAC: loud, Phase: fleet.PhaseScript, Detail: fmt.Sprint(second, i)}) {
					kept++
				}
			}
			if !e.Observe(fleet.Evidence{MAC: other, Phase: fleet.PhaseScript}) {
				t.Error("another machine is not heard")
			}
			synctest.Wait()
			<-time.After(time.Second)
		}
		synctest.Wait()
		if kept > heardAtOnce+60 || e.LastEvent() != int64(kept+6) || // of what the other one does again and again, one in ten seconds
			e.TooMany() != int64(60_000-kept) {
			t.Errorf("%d events of %d facts, %d too many; want %d and one a second", e.LastEvent(), kept, e.TooMany(), heardAtOnce)
		}
		kill()
		stop()
		synctest.Wait()
	})
}

// What comes again fills no queue, and what did not fit into it is news when it
// comes again.
func TestAFactThatComesAgainTakesNoPlace(t *testing.T) {
	const mac = fleet.MAC("52:54:00:00:00:01")
	e := New(Options{})
	e.world.load(fleet.World{Nodes: []fleet.Node{{ID: "n-1", MAC: mac, State: fleet.Active}}})
	for range 10 {
		e.Observe(fleet.Evidence{MAC: mac, Phase: fleet.PhaseScript})
	}
	if n := len(e.sights); n != 1 {
		t.Errorf("%d facts are in the queue, want 1", n)
	}
	for n := range cap(e.sights) { // strangers that somebody sees
		e.Observe(fleet.Evidence{MAC: fleet.MAC(fmt.Sprintf("52:54:00:01:%02x:%02x", n>>8, n&255)), Place: fleet.Place{Subnet: "r1"}})
	}
	late := fleet.Evidence{MAC: mac, Phase: fleet.PhaseKernel}
	e.Observe(late)
	if e.Dropped() != 2 { // with the last of the strangers
		t.Errorf("%d facts did not fit, want 2", e.Dropped())
	}
	<-e.sights
	if e.Observe(late); len(e.sights) != cap(e.sights) || e.Dropped() != 2 {
		t.Errorf("%d of %d facts are in the queue, %d did not fit: the late one was taken for one that is known", len(e.sights), cap(e.sights), e.Dropped())
	}
}

func TestAFactThatComesAgainAtOnceIsNoNews(t *testing.T) {
	now := time.Unix(0, 0)
	f := fact{"52:54:00:00:00:01", fleet.PhaseScript, "GET local script", fleet.Place{}}
	other := f
	other.detail = "GET agent script"
	r := newRepeats()
	for i, step := range []struct {
		f     fact
		after time.Duration
		again bool
	}{
		{f, 0, false}, {f, time.Second, true}, {other, 0, false}, {f, 8 * time.Second, true}, {f, time.Second, false}, {f, time.Second, true},
	} {
		now = now.Add(step.after)
		if got := r.again(step.f, now); got != step.again {
			t.Errorf("step %d: again = %v, want %v", i, got, step.again)
		}
	}
}

// A hall that boots: each machine asks for its script 16 times, and lets others
// have the processor in between.
func BenchmarkObserve(b *testing.B) {
	const machines = 16_384
	m := &memoryStore{world: fleet.World{Site: testSite()}}
	macs := make([]fleet.MAC, machines)
	for i := range macs {
		macs[i] = fleet.MAC(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255))
		m.world.Nodes = append(m.world.Nodes, fleet.Node{ID: fleet.NodeID(fmt.Sprintf("n-%05d", i)), MAC: macs[i], MACs: macs[i : i+1], State: fleet.Active, Revision: 1})
	}
	e := New(Options{Store: m})
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	<-e.Started()
	i := 0
	for b.Loop() {
		for range 16 {
			e.Observe(fleet.Evidence{MAC: macs[i%machines], Phase: fleet.PhaseScript, Detail: "GET local script from 10.64.0.1"})
			runtime.Gosched()
		}
		i++
	}
	b.ReportMetric(float64(e.Dropped())/float64(b.N), "dropped/op")
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

// What proves nothing about a machine is shown, and that is all: it may have been
// asked for in its name.
func TestANoteIsNoSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 0)
		const mac = fleet.MAC("52:54:00:00:00:01")
		m := &memoryStore{world: fleet.World{Site: testSite(), Nodes: []fleet.Node{{ID: "n-1", MAC: mac, MACs: []fleet.MAC{mac}, State: fleet.Ready}}}}
		e, kill := r.serve(m)
		e.Observe(fleet.Evidence{MAC: mac, Detail: "ipxe.efi is not there"})
		synctest.Wait()
		if e.LastEvent() != 1 || m.events[0].Text != "ipxe.efi is not there" {
			t.Errorf("shown is %+v", m.events)
		}
		if asked := e.links.of("n-1").lastAsked(); !asked.IsZero() {
			t.Errorf("it was heard of at %s", asked)
		}
		e.Observe(fleet.Evidence{MAC: mac, Phase: fleet.PhaseLoader, Detail: "GET ipxe.efi"})
		synctest.Wait()
		if e.links.of("n-1").lastAsked().IsZero() {
			t.Error("nothing was heard of a machine that has fetched its loader")
		}
		kill()
		stop()
		synctest.Wait()
	})
}
