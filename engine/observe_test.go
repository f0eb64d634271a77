package engine

import (
	"context"
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
		for range 60 {
			for range 1000 {
				if e.Observe(fleet.Evidence{MAC: loud, Phase: fleet.PhaseScript}) {
					kept++
				}
			}
			if !e.Observe(fleet.Evidence{MAC: other, Phase: fleet.PhaseScript}) {
				t.Error("another machine is not heard")
			}
			<-time.After(time.Second)
		}
		synctest.Wait()
		if kept > heardAtOnce+60 || e.LastEvent() != int64(kept+60) || e.TooMany() != int64(60_000-kept) {
			t.Errorf("%d events of %d facts, %d too many; want %d and one a second", e.LastEvent(), kept, e.TooMany(), heardAtOnce)
		}
		kill()
		stop()
		synctest.Wait()
	})
}
