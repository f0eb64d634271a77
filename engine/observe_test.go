package engine

import (
	"context"
	"fmt"
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
