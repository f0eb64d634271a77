package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/console"
	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
)

// openConsoles makes the hub of serial consoles.
func (st *station) openConsoles() error {
	archive, err := console.OpenArchive(filepath.Join(st.conf.StateDir, "consoles"), console.Limits{}, st.log)
	if err != nil {
		return err
	}
	st.consoles = console.NewHub(console.Options{
		Open: st.openConsole, Archive: archive, Alarms: laterAlarms{st}, Log: st.log,
		Title: func(id fleet.NodeID) string {
			n, err := st.engine.Node(string(id))
			if err != nil {
				return string(id)
			}
			return n.Title()
		},
	})
	return nil
}

// laterAlarms is the engine, which is made after the consoles.
type laterAlarms struct{ st *station }

// Raise implements console.Alarms.
func (a laterAlarms) Raise(code, on, detail string) { a.st.engine.Raise(code, on, detail) }

// Clear implements console.Alarms.
func (a laterAlarms) Clear(code, on string) { a.st.engine.Clear(code, on) }

// openConsole opens the serial console of a node through its BMC.
func (st *station) openConsole(ctx context.Context, id fleet.NodeID, take bool) (console.Port, error) {
	n, err := st.engine.Node(string(id))
	if err != nil {
		return nil, err
	}
	if n.BMC.Address == "" {
		return nil, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-BMC-NONE", Op: "open console", On: "node " + n.Title(), Err: errors.New("it has no BMC that we can sign in to"),
			Hint: "give its rule bmc: {username, password_file} in site.yaml and boot it once",
		}
	}
	t, err := st.power.target(n)
	if err != nil {
		return nil, err
	}
	port, err := st.power.bmc.OpenConsole(ctx, t, bmc.ConsoleOptions{Take: take})
	if err != nil {
		return nil, err // and no port that is a nil pointer
	}
	if shown, ok := port.(interface{ HostKey() string }); ok {
		if err := st.engine.SawHostKey(ctx, id, shown.HostKey()); err != nil {
			_ = port.Close()
			return nil, err
		}
	}
	return port, nil
}

// markedPower is engine.Power that lets a new record of the console begin when
// a machine is switched on, and have it open by then when a run does it. It is
// engine.Checker too, that takes a console from nobody.
type markedPower struct {
	bmcPower
	consoles *console.Hub
}

// Switch implements engine.Power.
func (p markedPower) Switch(ctx context.Context, n fleet.Node, o fleet.PowerOrder) (fleet.Switched, error) {
	if n.Run != "" {
		p.consoles.Record(n.ID, true)
	}
	switch o.Op {
	case fleet.PowerOn, fleet.PowerCycle, fleet.PowerReset:
		p.consoles.Mark(n.ID, console.Switched)
	default:
	}
	return p.bmcPower.Switch(ctx, n, o)
}

// sweepConsoles is how often all nodes are looked at, in case that events were
// missed.
const sweepConsoles = 30 * time.Second

// followConsoles has the consoles recorded of nodes that a run works on, and of
// those whose pool wants it always, and begins a record at each start.
func (st *station) followConsoles(ctx context.Context) error {
	tick := time.NewTicker(sweepConsoles)
	defer tick.Stop()
	for ctx.Err() == nil {
		events, stop := st.engine.Subscribe()
		st.sweepConsoles()
		st.hearConsoles(ctx, events, tick.C)
		stop()
	}
	return nil
}

// hearConsoles returns when it was too slow, or at the end.
func (st *station) hearConsoles(ctx context.Context, events <-chan fleet.Event, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			st.sweepConsoles()
		case ev, ok := <-events:
			if !ok {
				return
			}
			switch {
			case ev.Type == fleet.EventRun || ev.Type == fleet.EventSite:
				st.sweepConsoles()
			case ev.Node != "":
				st.recordConsole(ev)
			}
		}
	}
}

func (st *station) sweepConsoles() {
	site := st.engine.Site()
	for _, n := range st.engine.Nodes() {
		st.consoles.Record(n.ID, recordsConsole(site, n))
	}
}

func recordsConsole(site fleet.Site, n fleet.Node) bool {
	if n.BMC.Address == "" {
		return false
	}
	pool, _ := site.Pool(n.Pool)
	return n.Run != "" || pool.RecordConsole && n.Approved
}

func (st *station) recordConsole(ev fleet.Event) {
	n, err := st.engine.Node(string(ev.Node))
	if err != nil {
		return
	}
	st.consoles.Record(n.ID, recordsConsole(st.engine.Site(), n))
	if ev.Type == fleet.EventEvidence && strings.HasPrefix(ev.Text, string(fleet.PhaseDHCP)+":") {
		st.consoles.Mark(n.ID, console.Network)
	}
}

var _ engine.Consoles = (*console.Hub)(nil)

// Check implements engine.Checker. Who sits before the console keeps it.
func (p markedPower) Check(ctx context.Context, n fleet.Node, power bool) (fleet.BMCCheck, error) {
	return p.check(ctx, n, bmc.CheckOptions{Power: power, ConsoleOpen: p.consoles.IsOpen(n.ID)})
}
