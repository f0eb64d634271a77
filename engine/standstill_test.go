package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

// withStops has a run boot one machine whose next boots come to a stand.
func withStops(t *testing.T, site fleet.Site, stops []fleet.Phase, test func(t *testing.T, r *rack, m *machine)) {
	t.Helper()
	withRack(t, 1, site, func(t *testing.T, r *rack) {
		m := r.machine()
		r.mu.Lock()
		m.stops, m.boots = stops, 0
		r.mu.Unlock()
		test(t, r, m)
	})
}

// begunAgain are the events that say so of a boot.
func (r *rack) begunAgain() (texts []string) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	for _, ev := range r.store.events {
		if strings.HasSuffix(ev.Text, "which is none of its tries") {
			texts = append(texts, ev.Text)
		}
	}
	return texts
}

func TestABootThatARestartOfTheServerHasCutIsBegunAgain(t *testing.T) {
	tests := map[fleet.Phase]string{
		fleet.PhaseDHCP:   "it asked for an address",
		fleet.PhaseLoader: "it fetched its loader",
		fleet.PhaseScript: "it fetched its script",
		fleet.PhaseKernel: "it fetched its kernel",
	}
	for at, came := range tests {
		t.Run(string(at), func(t *testing.T) {
			withStops(t, testSite(), []fleet.Phase{at}, func(t *testing.T, r *rack, m *machine) {
				run := start(t, r.server)
				wait(20 * time.Second)
				e := r.restart()
				resumed := time.Now()
				wait(stillWithin - time.Second)
				if m.boots != 1 {
					t.Errorf("it was started %d times within %s", m.boots, time.Since(resumed))
				}
				run = over(t, e, run.ID)
				if run.State != fleet.RunDone || m.boots != 3 { // one that was cut, one to install, one of the system
					t.Errorf("run is %s after %d boots, want done after 3: %+v", run.State, m.boots, run.Nodes)
				}
				if took := run.Ended.Sub(resumed); took > stillWithin+2*time.Minute {
					t.Errorf("after the restart it took %s, want %s and little more", took, stillWithin)
				}
				want := "the server was restarted while it booted: " + came + " before, and has asked for nothing in the 5 minutes since; it is switched off and on again, which is none of its tries"
				if got := r.begunAgain(); !slices.Equal(got, []string{want}) || !slices.Equal(run.Nodes[0].Notes, got) {
					t.Errorf("said is %q, in the run %q; want %q", got, run.Nodes[0].Notes, want)
				}
			})
		})
	}
}

// relaysOn are relays of ours, by the subnets that they are on.
type relaysOn map[string]netip.Addr

// AddrOn implements Relays.
func (r relaysOn) AddrOn(subnet string) netip.Addr { return r[subnet] }

// addresses are those of a server.
type addresses []netip.Addr

// Own implements Addresses.
func (a addresses) Own(addr netip.Addr) bool { return slices.Contains(a, addr) }

// atServer is two subnets, of which one says where boot files are fetched from.
func atServer(subnet string, server netip.Addr) fleet.Site {
	site := testSite()
	site.Subnets = []fleet.Subnet{{Name: "rack", CIDR: netip.MustParsePrefix("10.77.0.0/24")}, {Name: "west", CIDR: netip.MustParsePrefix("10.77.8.0/24")}}
	for i, n := range site.Subnets {
		if n.Name == subnet {
			site.Subnets[i].Server = server
		}
	}
	return site
}

// A relay of ours goes on serving kernel and ramdisk while the server is away,
// and so does another host that site.yaml names; neither says anything when that
// is over. All else comes from the server, whichever of its addresses is named.
func TestABootFromElsewhereIsNotCutByARestartOfTheServer(t *testing.T) {
	const deadline = 12 * time.Minute
	var (
		relay  = netip.MustParseAddr("10.77.8.1")
		west   = fleet.Place{Subnet: "west", Relay: relay}
		wire   = fleet.Place{Subnet: "rack"}
		site   = atServer("", netip.Addr{})
		ours   = relaysOn{"west": relay}
		others = relaysOn{"east": netip.MustParseAddr("10.77.9.1")}
		us     = netip.MustParseAddr("10.77.0.1")
		host   = netip.MustParseAddr("10.77.0.9")
		own    = addresses{netip.MustParseAddr("10.76.0.1"), us}
	)
	tests := map[string]struct {
		site   fleet.Site
		relays Relays
		own    Addresses
		behind fleet.Place
		at     fleet.Phase
		after  time.Duration
		said   int
	}{
		"ours, after its loader: its script is the server's":     {site, ours, own, west, fleet.PhaseLoader, stillWithin, 1},
		"ours, after its script":                                 {site, ours, own, west, fleet.PhaseScript, deadline, 0},
		"ours, after its kernel":                                 {site, ours, own, west, fleet.PhaseKernel, deadline, 0},
		"ours, on a subnet that is declared no more":             {testSite(), ours, own, west, fleet.PhaseKernel, deadline, 0},
		"ours, but this server is named":                         {atServer("west", us), ours, own, west, fleet.PhaseKernel, stillWithin, 1},
		"ours, and it is named":                                  {atServer("west", relay), ours, own, west, fleet.PhaseKernel, deadline, 0},
		"a router's, after its script":                           {site, others, own, west, fleet.PhaseScript, stillWithin, 1},
		"a router's, after its kernel":                           {site, others, own, west, fleet.PhaseKernel, stillWithin, 1},
		"a router's, and another host is named":                  {atServer("west", host), others, own, west, fleet.PhaseKernel, deadline, 0},
		"a router's, and this server is named":                   {atServer("west", us), others, own, west, fleet.PhaseKernel, stillWithin, 1},
		"nobody's: ours is on another network":                   {site, others, own, wire, fleet.PhaseKernel, stillWithin, 1},
		"nobody's, and another host is named":                    {atServer("rack", host), others, own, wire, fleet.PhaseKernel, deadline, 0},
		"nobody's, and this server is named":                     {atServer("rack", us), others, own, wire, fleet.PhaseKernel, stillWithin, 1},
		"nobody's, and another subnet names another host":        {atServer("west", host), others, own, wire, fleet.PhaseKernel, stillWithin, 1},
		"anybody's: which are ours, is not known to this server": {site, nil, own, west, fleet.PhaseKernel, deadline, 0},
		"a host that may be us is named":                         {atServer("rack", us), others, nil, wire, fleet.PhaseKernel, deadline, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withStops(t, tt.site, []fleet.Phase{tt.at}, func(t *testing.T, r *rack, m *machine) {
				r.relays, r.own = tt.relays, tt.own
				r.server.Observe(fleet.Evidence{MAC: m.mac, Phase: fleet.PhaseDHCP, Place: tt.behind})
				run := start(t, r.server)
				wait(20 * time.Second)
				e := r.restart()
				resumed := time.Now()
				wait(tt.after - time.Second)
				if m.boots != 1 {
					t.Errorf("it was started %d times within %s", m.boots, time.Since(resumed))
				}
				run = over(t, e, run.ID)
				if run.State != fleet.RunDone || m.boots != 3 {
					t.Errorf("run is %s after %d boots, want done after 3: %+v", run.State, m.boots, run.Nodes)
				}
				if took := run.Ended.Sub(resumed); took > tt.after+2*time.Minute {
					t.Errorf("after the restart it took %s, want %s and little more", took, tt.after)
				}
				if got := r.begunAgain(); len(got) != tt.said {
					t.Errorf("said is %q, want %d", got, tt.said)
				}
			})
		})
	}
}

func TestABootThatStandsStillIsBegunAgainByItself(t *testing.T) {
	tests := map[string]struct {
		at    fleet.Phase
		after time.Duration
		said  int
	}{
		"after it asked for an address": {fleet.PhaseDHCP, stillWithin, 1},
		"after its loader":              {fleet.PhaseLoader, stillWithin, 1},
		// Its loader may load kernel and ramdisk by TFTP, of which nothing is heard until it is over.
		"after its script: that may be slow": {fleet.PhaseScript, 12 * time.Minute, 0},
		"before anything: that may be too":   {fleet.PhasePower, 12 * time.Minute, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withStops(t, testSite(), []fleet.Phase{tt.at}, func(t *testing.T, r *rack, m *machine) {
				run := over(t, r.server, start(t, r.server).ID)
				if run.State != fleet.RunDone || m.boots != 3 {
					t.Errorf("run is %s after %d boots, want done after 3: %+v", run.State, m.boots, run.Nodes)
				}
				if took := run.Ended.Sub(run.Started); took < tt.after || took > tt.after+2*time.Minute {
					t.Errorf("the run took %s, want %s and little more", took, tt.after)
				}
				if got := r.begunAgain(); len(got) != tt.said {
					t.Errorf("said is %q, want %d", got, tt.said)
				}
			})
		})
	}
}

// always are boots that come so far and no further, more of them than any run begins.
func always(at fleet.Phase) []fleet.Phase { return slices.Repeat([]fleet.Phase{at}, 10) }

// Once for each server is as often as a boot is begun again for nothing. Firmware
// that needs its tries has them all, for as long as they are.
func TestABootIsBegunAgainOnceByEachServer(t *testing.T) {
	const try = 12 * time.Minute
	tests := map[string]struct {
		restarts int
		boots    int
		took     time.Duration
	}{
		"no restart":   {0, 1 + 2, stillWithin + 2*try},
		"a restart":    {1, 1 + 2, stillWithin + 2*try},
		"two restarts": {2, 2 + 2, 2*stillWithin + 2*try},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withStops(t, testSite(), always(fleet.PhaseDHCP), func(t *testing.T, r *rack, m *machine) {
				run := start(t, r.server)
				for range tt.restarts {
					wait(20 * time.Second)
					r.restart()
					wait(stillWithin + 10*time.Second)
				}
				run = over(t, r.server, run.ID)
				if got := run.Nodes[0].Failure; got.Code != "E-BOOT-SILENT" || got.Phase != fleet.PhaseDHCP || got.Hint == "" {
					t.Errorf("it failed with %+v", got)
				}
				if got := len(r.begunAgain()); m.boots != tt.boots || got != max(1, tt.restarts) {
					t.Errorf("it was started %d times, and %d of them were none of its tries; want %d, %d", m.boots, got, tt.boots, max(1, tt.restarts))
				}
				if took := run.Ended.Sub(run.Started); took < tt.took || took > tt.took+2*time.Minute {
					t.Errorf("the run took %s, want %s and little more", took, tt.took)
				}
			})
		})
	}
}

func TestSlowFirmwareIsWaitedForAfterARestart(t *testing.T) {
	const slow = 11 * time.Minute
	tests := map[string]struct {
		stops []fleet.Phase
		boots int
		said  int
	}{
		"the first time":                            {nil, 1, 0},
		"after a boot that was cut":                 {[]fleet.Phase{fleet.PhaseDHCP}, 2, 1},
		"after one that was cut, and one of no use": {[]fleet.Phase{fleet.PhaseDHCP, fleet.PhasePower}, 3, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withStops(t, testSite(), tt.stops, func(t *testing.T, r *rack, m *machine) {
				if tt.stops == nil {
					m.post = slow
				}
				run := start(t, r.server)
				wait(20 * time.Second)
				m.post = slow
				e := r.restart()
				run = over(t, e, run.ID)
				if run.State != fleet.RunDone || m.boots != tt.boots+1 { // the last one is of its system
					t.Errorf("run is %s after %d boots, want done after %d: %+v", run.State, m.boots, tt.boots+1, run.Nodes)
				}
				if got := r.begunAgain(); len(got) != tt.said {
					t.Errorf("said is %q, want %d", got, tt.said)
				}
			})
		})
	}
}

func TestAMachineThatGoesOnAskingIsWaitedFor(t *testing.T) {
	withStops(t, testSite(), nil, func(t *testing.T, r *rack, m *machine) {
		m.post = 10 * time.Minute // as if it went through its cards until then
		run := start(t, r.server)
		wait(20 * time.Second)
		for _, at := range []fleet.Phase{fleet.PhaseDHCP, fleet.PhaseLoader} {
			r.server.Observe(fleet.Evidence{MAC: m.mac, Phase: at})
			wait(stillWithin - time.Second)
		}
		if run = over(t, r.server, run.ID); run.State != fleet.RunDone || m.boots != 2 {
			t.Errorf("run is %s after %d boots, want done after 2: %+v", run.State, m.boots, run.Nodes)
		}
	})
}

func TestABootThatIsBegunAgainLeavesTheBMCItsTries(t *testing.T) {
	withStops(t, testSite(), []fleet.Phase{fleet.PhaseDHCP}, func(t *testing.T, r *rack, _ *machine) {
		most := 0
		r.store.mu.Lock()
		r.store.dieAt = func(n fleet.RunNode) bool {
			if n.Phase == fleet.PhasePower {
				most = max(most, n.Attempt)
			}
			return false
		}
		r.store.mu.Unlock()
		run := over(t, r.server, start(t, r.server).ID)
		if run.State != fleet.RunDone || len(run.Nodes[0].Notes) != 1 || most != 1 {
			t.Errorf("run is %s, after attempt %d to switch it on, want 1: %+v", run.State, most, run.Nodes)
		}
	})
}

// Nobody but a person starts such a machine again: one is asked, once.
func TestAPersonStartsAMachineAgainWhoseBootWasCut(t *testing.T) {
	tests := map[string]fleet.BMCAccess{
		"a person switches it":                 {Driver: fleet.DriverManual},
		"it is on, so that no packet wakes it": {Driver: fleet.DriverWOL},
	}
	for name, access := range tests {
		t.Run(name, func(t *testing.T) {
			site := testSite()
			site.Rules[0].BMC = access
			withStops(t, site, []fleet.Phase{fleet.PhaseDHCP}, func(t *testing.T, r *rack, m *machine) {
				r.switchOff(m)
				wait(2 * aliveFor)
				run := start(t, r.server)
				wait(time.Second)
				if access.Driver == fleet.DriverManual {
					r.switchOn(m)
				}
				wait(20 * time.Second)
				r.restart()
				personStarts(t, r, m, run.ID)
			})
		})
	}
}

func TestAPersonStartsAMachineAgainThatHasNoBMC(t *testing.T) {
	site := testSite()
	site.Rules[0].BMC, site.Pools[0].Trust = fleet.BMCAccess{}, fleet.T0
	withStops(t, site, []fleet.Phase{fleet.PhaseDHCP}, func(t *testing.T, r *rack, m *machine) {
		died := make(chan struct{})
		r.store.mu.Lock()
		r.store.dieAt, r.store.onCut = func(n fleet.RunNode) bool { return n.Phase == fleet.PhaseHello }, func() { close(died) }
		r.store.mu.Unlock()
		run := start(t, r.server)
		<-died
		r.kill()
		r.store.mu.Lock()
		r.store.dieAt, r.store.dead = nil, false
		r.store.mu.Unlock()
		r.switchOn(m) // somebody has pulled its plug, too
		r.up()
		wait(20 * time.Second)
		personStarts(t, r, m, run.ID)
	})
}

// personStarts looks whether a person is asked to start a machine again, once,
// and does so.
func personStarts(t *testing.T, r *rack, m *machine, id fleet.RunID) {
	t.Helper()
	wait(stillWithin + fleet.AlarmHold)
	if a := r.server.Alarms(); len(a) != 1 || a[0].Code != fleet.CodePowerManual || !strings.Contains(a[0].Detail, "start it from the network") {
		t.Errorf("alarms are %+v, want that somebody starts it", a)
	}
	if got := r.begunAgain(); m.boots != 1 || len(got) != 1 || !strings.Contains(got[0], "; somebody is asked to start it again, which") {
		t.Errorf("after %d boots said is %q", m.boots, got)
	}
	r.switchOn(m)
	run := over(t, r.server, id)
	if run.State != fleet.RunDone || len(r.server.Alarms()) != 0 || m.boots != 3 {
		t.Errorf("run is %s after %d boots with alarms %+v: %+v", run.State, m.boots, r.server.Alarms(), run.Nodes)
	}
}

// A BMC reads a CD image before its machine has tested its memory.
func TestABootFromACDImageIsWaitedFor(t *testing.T) {
	withMediaRack(t, func(t *testing.T, r *mediaRack) {
		r.mu.Lock()
		r.m.post, r.m.boots = 9*time.Minute, 0
		r.mu.Unlock()
		run := start(t, r.e)
		wait(20 * time.Second)
		r.e.Observe(fleet.Evidence{MAC: r.m.mac, Phase: fleet.PhaseLoader, Detail: "CD image read by its BMC"})
		if run = over(t, r.e, run.ID); run.State != fleet.RunDone || r.m.boots != 2 {
			t.Errorf("run is %s after %d boots, want done after 2: %+v", run.State, r.m.boots, run.Nodes)
		}
	})
}
