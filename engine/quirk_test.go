package engine

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

func TestAMachineThatNeedsToBeOffForItsBootDeviceIsSwitchedOffFirst(t *testing.T) {
	tests := map[string]struct {
		quirks fleet.BMCQuirks
		want   fleet.RunState
	}{
		"and nobody knows that":   {fleet.BMCQuirks{Profile: "none"}, fleet.RunFailed},
		"and its profile says so": {fleet.BMCQuirks{Profile: "stubborn", BootNeedsOff: true}, fleet.RunDone},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				r := newRack(ctx, t, 1)
				site := testSite()
				site.BMCProfiles = []fleet.BMCProfile{{Vendor: "qemu", Quirks: tt.quirks}}
				e, kill := r.serve(&memoryStore{world: fleet.World{Site: site}})
				r.enrol(e)
				r.mu.Lock()
				m := r.machines["52:54:00:00:00:01"]
				m.needsOff = true
				m.powerOn()
				r.mu.Unlock()
				if got := e.Nodes()[0].BMC.Quirks; got != tt.quirks {
					t.Errorf("the node has the quirks %+v, want %+v", got, tt.quirks)
				}
				run := over(t, e, start(t, e).ID)
				if run.State != tt.want {
					t.Errorf("run is %s, want %s: %+v", run.State, tt.want, run.Nodes)
				}
				kill()
				stop()
				synctest.Wait()
			})
		})
	}
}

func TestAQuirkThatIsTakenOutOfTheSiteIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRack(ctx, t, 1)
		e, kill := r.serve(&memoryStore{world: fleet.World{Site: testSite()}})
		r.enrol(e)
		site := testSite()
		site.BMCProfiles = []fleet.BMCProfile{{Vendor: "qemu", Quirks: fleet.BMCQuirks{Profile: "slow", NoReset: true}}}
		for _, want := range []fleet.Site{site, testSite()} {
			changes, err := e.Apply(ctx, "ada", want, false)
			if err != nil || len(changes) != 1 {
				t.Errorf("Apply = %v, %v, want one change", changes, err)
			}
			if got := e.Nodes()[0].BMC.Quirks.NoReset; got != (len(want.BMCProfiles) > 0) {
				t.Errorf("with %d profiles, the node cannot reset: %t", len(want.BMCProfiles), got)
			}
		}
		kill()
		stop()
		synctest.Wait()
	})
}
