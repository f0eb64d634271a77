package fleet

import (
	"fmt"
	"slices"
)

// A State is where a node stands in its life.
type State string

// The states of a node.
const (
	Discovered  State = "discovered"  // said hello; nobody has approved it
	Ready       State = "ready"       // approved and blank
	Installing  State = "installing"  // a run is writing its disk
	Installed   State = "installed"   // the new system runs, not yet a member
	Joining     State = "joining"     // on its way into its cluster
	Active      State = "active"      // confirmed by its cluster
	Draining    State = "draining"    // its work is being moved away
	Releasing   State = "releasing"   // leaving the cluster, disks being wiped
	Failed      State = "failed"      // stopped with a code, a phase and evidence
	Maintenance State = "maintenance" // left alone on purpose
	Rescue      State = "rescue"      // runs the rescue system
	Quarantined State = "quarantined" // its identity does not match
	Retired     State = "retired"     // gone for good
)

// transitions is the whole life of a node: which states may follow which.
var transitions = map[State][]State{
	Discovered:  {Ready, Quarantined, Retired},
	Ready:       {Installing, Maintenance, Rescue, Quarantined, Retired, Failed},
	Installing:  {Installed, Failed, Quarantined, Maintenance},
	Installed:   {Joining, Failed, Installing, Releasing, Maintenance, Rescue, Quarantined},
	Joining:     {Active, Failed, Installed, Quarantined},
	Active:      {Draining, Joining, Failed, Maintenance, Rescue, Quarantined},
	Draining:    {Releasing, Active, Failed, Quarantined},
	Releasing:   {Ready, Failed, Quarantined},
	Failed:      {Ready, Installing, Joining, Draining, Releasing, Maintenance, Rescue, Quarantined, Retired},
	Maintenance: {Ready, Installing, Active, Failed, Rescue, Releasing, Quarantined, Retired},
	Rescue:      {Ready, Installed, Active, Maintenance, Failed, Quarantined}, // what it was before
	Quarantined: {Ready, Discovered, Retired},
	Retired:     {Discovered},
}

// States returns every state, in the order of a node's life.
func States() []State {
	return []State{
		Discovered, Ready, Installing, Installed, Joining, Active, Draining, Releasing,
		Failed, Maintenance, Rescue, Quarantined, Retired,
	}
}

// CanFollow reports whether a node in state from may become to. A state may
// always follow itself.
func CanFollow(from, to State) bool {
	if from == to {
		return true
	}
	return slices.Contains(transitions[from], to)
}

// CheckTransition returns a Conflict error when to may not follow from.
func CheckTransition(from, to State) error {
	if CanFollow(from, to) {
		return nil
	}
	return &Error{Kind: Conflict, Code: "E-STATE", Op: "change state", On: string(from), Err: fmt.Errorf("%s may not follow", to)}
}

// HasSystem reports whether a node in this state has an installed system
// that we want to keep booting. Such a node is told to boot from its disk,
// whatever its firmware asks: reinstall loops cannot happen.
func (s State) HasSystem() bool {
	switch s {
	case Installed, Joining, Active, Draining, Maintenance:
		return true
	default:
		return false
	}
}
