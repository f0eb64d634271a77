package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// A Class is what a plan does with a node.
type Class string

// The classes of a plan. The last two touch what is there and are held until
// somebody approves them.
const (
	Keep    Class = "keep"     // active and as declared
	Add     Class = "add"      // approved and blank: will be installed
	Join    Class = "join"     // installed, not in the cluster
	Skip    Class = "skip"     // maintenance, quarantined, not approved
	Replace Class = "replace!" // holds a system or data: would be installed anew
	Remove  Class = "remove!"  // is more than declared: would be released
)

// Destructive reports whether the class touches what a node holds.
func (c Class) Destructive() bool { return c == Replace || c == Remove }

// Changes reports whether the class changes anything.
func (c Class) Changes() bool { return c != Keep && c != Skip }

// A Plan is what a run would do, node by node.
type Plan struct {
	Pool    PoolName
	Image   Image
	Items   []PlanItem
	Run     RunID  // the run that is under way in the pool; "" when none
	Carried string // hash of the plan that Run carries out
}

// A PlanItem is what a plan does with one node, and why.
type PlanItem struct {
	Node   NodeID
	Title  string // name or MAC
	Name   string // host name that it will have
	Class  Class
	Role   Role
	Reason string
	Disk   string   // serial of the disk that would be written; "" if none
	Before []string // what is done to its firmware and BIOS settings first, and what of it cannot be
}

// Hash identifies exactly this plan: an approval covers nothing else. While a
// run is under way it is the hash of what that run carries out, so that
// starting it again means to watch it.
func (p Plan) Hash() string {
	if p.Carried != "" {
		return p.Carried
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", p.Pool, p.Image.Digest)
	for _, it := range p.Items {
		fmt.Fprintf(&b, "%s %s %s %s %s\n", it.Node, it.Name, it.Class, it.Role, it.Disk)
		for _, line := range it.Before {
			fmt.Fprintf(&b, "  %q\n", line)
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:8])
}

// Count returns how many nodes are in a class.
func (p Plan) Count(c Class) (n int) {
	for _, it := range p.Items {
		if it.Class == c {
			n++
		}
	}
	return n
}

// AsDeclared reports whether there is nothing to do.
func (p Plan) AsDeclared() bool {
	for _, it := range p.Items {
		if it.Class.Changes() {
			return false
		}
	}
	return true
}

// A RunState is how far a run or a node of it is.
type RunState string

// The states of a run and of its nodes.
const (
	RunPending  RunState = "pending"
	RunRunning  RunState = "running"
	RunDone     RunState = "done"
	RunFailed   RunState = "failed"
	RunCanceled RunState = "canceled"
	RunHeld     RunState = "held" // waits for approval
)

// Over reports whether nothing more will happen.
func (s RunState) Over() bool { return s == RunDone || s == RunFailed || s == RunCanceled }

// A Run is one convergence of one pool.
type Run struct {
	ID      RunID
	Pool    PoolName
	Plan    string // hash of the plan that it carries out
	Key     string // idempotency key of whoever started it
	Actor   string
	State   RunState
	Nodes   []RunNode
	Started time.Time
	Ended   time.Time // zero while it runs
}

// A RunNode is one node's part of a run. Its Phase is the checkpoint: after
// a restart of the server the node goes on from there.
type RunNode struct {
	Node    NodeID
	Class   Class
	Name    string
	Role    Role
	Disk    string // serial of the disk that the plan named; "" if none
	State   RunState
	Phase   Phase // the phase under way
	Attempt int   // of the phase, from 1
	Failure Failure
	Times   []PhaseTime // when each phase was reached, in order
	Started time.Time
	Ended   time.Time

	Job       *FirmwareJob // the update that was begun last and is not over; nil: none
	Restarted time.Time    // for BIOS settings, which have not been read back yet; zero: it was not
	Notes     []string     // what was left as it is, or begun again, and why
}

// A PhaseTime is when a phase was reached.
type PhaseTime struct {
	Phase Phase
	At    time.Time
}

// Counts returns how many nodes of the run are done, failed and not over.
func (r Run) Counts() (done, failed, working int) {
	for _, n := range r.Nodes {
		switch n.State {
		case RunDone:
			done++
		case RunFailed, RunCanceled:
			failed++
		case RunHeld:
		default:
			working++
		}
	}
	return done, failed, working
}

// StartOptions says which plan a run carries out.
type StartOptions struct {
	Plan        string // hash of the plan that was shown
	Key         string // idempotency key; "" for none
	Destructive bool   // replace! and remove! are approved too
}
